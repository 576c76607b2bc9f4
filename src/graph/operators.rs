//! The operators of reward heads and packed graphs that tract runs, by their ONNX names.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::Slice as TypedSlice;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::activations::{Elu, HardSigmoid, LeakyRelu, Selu, Softplus};
use tract_onnx::tract_hir::ops::array;
use tract_onnx::tract_hir::ops::binary::BinIntoHir;
use tract_onnx::tract_hir::ops::element_wise::ElementWiseIntoHir;
use tract_onnx::tract_hir::ops::identity::Identity;
use tract_onnx::tract_hir::ops::matmul::MatMulInference;
use tract_onnx::tract_hir::ops::{logic, math, nn};

/// What a builder returns: the op, and names of outer tensors that it reads.
pub(super) type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// An op that no attribute changes.
macro_rules! fixed {
    ($registry:ident: $($name:literal => $op:expr),+ $(,)?) => {
        $( $registry.insert($name, |_, _| built($op)); )+
    };
}
#[cfg(feature = "plain")]
pub(super) use fixed;

pub fn register(registry: &mut OnnxOpRegister) {
    fixed!(registry:
        "Abs" => math::abs().into_hir(),
        "Add" => math::Add.into_hir(),
        "Div" => math::Div.into_hir(),
        "Equal" => logic::CompEq.into_hir(),
        "Erf" => math::erf().into_hir(),
        "Exp" => math::exp().into_hir(),
        "Greater" => logic::CompGT.into_hir(),
        "Identity" => Box::new(Identity),
        "Less" => logic::CompLT.into_hir(),
        "Log" => math::ln().into_hir(),
        "MatMul" => expand(MatMulInference::default()),
        "Max" => math::Max.into_hir(),
        "Min" => math::Min.into_hir(),
        "Mul" => math::Mul.into_hir(),
        "Neg" => math::neg().into_hir(),
        "Pow" => math::Pow.into_hir(),
        "Sigmoid" => nn::sigmoid().into_hir(),
        "Sign" => math::sign().into_hir(),
        "Softplus" => expand(Softplus),
        "Sqrt" => math::sqrt().into_hir(),
        "Sub" => math::Sub.into_hir(),
        "Tanh" => math::tanh().into_hir(),
        "Where" => expand(logic::Iff),
    );
    registry.insert("Cast", |_, node| built(expand(Cast { to: cast_target(node)? })));
    registry.insert("Concat", |_, node| built(expand(array::Concat::new(node.get_attr("axis")?))));
    registry.insert("Elu", |_, node| built(expand(Elu(float(node, "alpha", 1.0)?))));
    registry.insert("Flatten", |_, node| built(expand(array::Flatten::new(int(node, "axis", 1)?))));
    registry.insert("Gather", |_, node| built(expand(array::Gather::new(int(node, "axis", 0)?))));
    registry.insert("HardSigmoid", |_, node| {
        let op = HardSigmoid(float(node, "alpha", 0.2)?, float(node, "beta", 0.5)?);
        built(expand(op))
    });
    registry.insert("LeakyRelu", |_, node| built(expand(LeakyRelu(float(node, "alpha", 0.01)?))));
    registry.insert("ReduceMax", |_, node| reduce(node, nn::Reducer::Max));
    registry.insert("ReduceMean", |_, node| reduce(node, nn::Reducer::Mean));
    registry.insert("ReduceMin", |_, node| reduce(node, nn::Reducer::Min));
    registry.insert("ReduceSum", |_, node| reduce(node, nn::Reducer::Sum));
    registry.insert("Reshape", |_, node| {
        built(expand(array::Reshape::new(int(node, "allowzero", 0)? != 0)))
    });
    registry.insert("Selu", |_, node| {
        let (alpha, gamma) = (float(node, "alpha", 1.673_263_2)?, float(node, "gamma", 1.050_701)?);
        built(expand(Selu(alpha, gamma)))
    });
    registry
        .insert("Slice", |_, node| built(expand(Slice { axes: node.get_attr_opt_vec("axes")? })));
    registry.insert("Softmax", softmax);
    registry.insert("Split", |_, node| {
        let sizes = node.get_attr_opt_vec("split")?;
        let axis = node.get_attr_opt("axis")?.unwrap_or(0);
        built(expand(array::Split::new(axis, node.output.len(), sizes)))
    });
    registry.insert("Squeeze", |_, node| {
        built(expand(array::Squeeze::new(node.get_attr_opt_vec("axes")?)))
    });
    registry.insert("Transpose", |_, node| {
        let order: Option<Vec<usize>> = node.get_attr_opt_vec("perm")?;
        built(expand(array::PermuteAxes::new(order.map(Into::into))))
    });
    registry.insert("Unsqueeze", |_, node| {
        built(expand(array::AddDims::new(node.get_attr_vec("axes")?)))
    });
}

pub(super) fn built(op: Box<dyn InferenceOp>) -> Built {
    Ok((op, vec![]))
}

pub(super) fn int(node: &NodeProto, name: &str, default: i64) -> TractResult<i64> {
    Ok(node.get_attr_opt(name)?.unwrap_or(default))
}

fn float(node: &NodeProto, name: &str, default: f32) -> TractResult<f32> {
    Ok(node.get_attr_opt(name)?.unwrap_or(default))
}

fn reduce(node: &NodeProto, reducer: nn::Reducer) -> Built {
    let axes = node.get_attr_opt_vec("axes")?;
    built(expand(nn::Reduce::new(axes, int(node, "keepdims", 1)? != 0, reducer)))
}

/// Before operator set 13 all axes from the given one on were one; the last axis alone is the same
/// then.
fn softmax(ctx: &ParsingContext, node: &NodeProto) -> Built {
    match ctx.onnx_operator_set_version {
        ..13 => built(expand(nn::LayerSoftmax::new(node.get_attr_opt("axis")?.unwrap_or(1), true))),
        _ => built(expand(nn::Softmax::new(node.get_attr_opt("axis")?.unwrap_or(-1)))),
    }
}

/// Whole numbers become dimensions, so that shapes can be computed from sizes that are not known
/// yet.
fn cast_target(node: &NodeProto) -> TractResult<DatumType> {
    let to: DatumType = node.get_attr("to")?;
    Ok(if to == DatumType::I64 { DatumType::TDim } else { to })
}

#[derive(Debug, Clone)]
struct Cast {
    to: DatumType,
}

impl Expansion for Cast {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, self.to)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(
        &self,
        name: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(name, cast(self.to), inputs)
    }
}

/// The same part of some axes: from a start to an end, which may be computed from sizes that are
/// not known yet. Without axes the first ones are meant.
#[derive(Debug, Clone)]
struct Slice {
    axes: Option<Vec<i64>>,
}

impl Slice {
    /// Axis, start and end of each part.
    fn parts(
        &self,
        shape: &[TDim],
        starts: &Tensor,
        ends: &Tensor,
    ) -> TractResult<Vec<(usize, TDim, TDim)>> {
        let (starts, ends) = (dims(starts)?, dims(ends)?);
        let axes = self.axes.clone().unwrap_or_else(|| (0..starts.len() as i64).collect());
        ensure!(starts.len() == ends.len() && starts.len() == axes.len(), "lists of other lengths");
        let mut parts = Vec::new();
        for ((axis, start), end) in axes.into_iter().zip(starts).zip(ends) {
            let axis = if axis < 0 { axis + shape.len() as i64 } else { axis };
            let size = shape.get(axis as usize).context("an axis that is not there")?;
            let (start, end) = (bound(start, size), bound(end, size));
            // An end before the start selects nothing.
            let end = match (start.to_i64(), end.to_i64()) {
                (Ok(start), Ok(end)) => end.max(start).to_dim(),
                _ => end,
            };
            parts.push((axis as usize, start, end));
        }
        Ok(parts)
    }
}

/// A negative bound counts from the end; none lies outside, as far as that is known.
fn bound(bound: TDim, size: &TDim) -> TDim {
    match (bound.to_i64(), size.to_i64()) {
        (Ok(bound), Ok(size)) => {
            let bound = if bound < 0 { bound + size } else { bound };
            bound.clamp(0, size).to_dim()
        }
        (Ok(bound), Err(_)) if bound < 0 => size.clone() + bound,
        // What exporters write for "to the end".
        (Ok(bound), Err(_)) if bound >= i32::MAX as i64 => size.clone(),
        _ => bound,
    }
}

fn dims(list: &Tensor) -> TractResult<Vec<TDim>> {
    if list.datum_type() == DatumType::TDim {
        return Ok(list.try_as_plain_ram()?.as_slice::<TDim>()?.to_vec());
    }
    // tract's cast from int64 cuts off the upper half.
    let list = list.cast_to::<i64>()?;
    Ok(list.try_as_plain_ram()?.as_slice::<i64>()?.iter().map(|bound| bound.to_dim()).collect())
}

impl Expansion for Slice {
    fn name(&self) -> StaticName {
        "Slice".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 3)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        solver.given_3(
            &inputs[0].shape,
            &inputs[1].value,
            &inputs[2].value,
            move |solver, mut shape, starts, ends| {
                for (axis, start, end) in self.parts(&shape, &starts, &ends)? {
                    shape[axis] = end - start;
                }
                solver.equals(&outputs[0].shape, shape)
            },
        )
    }

    fn wire(
        &self,
        name: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let shape = model.outlet_fact(inputs[0])?.shape.to_tvec();
        let list = |at: usize| -> TractResult<Arc<Tensor>> {
            let fact = model.outlet_fact(inputs[at])?;
            fact.konst.clone().context("its bounds must follow from shapes and constants")
        };
        let parts = self.parts(&shape, &*list(1)?, &*list(2)?)?;
        let mut wire: TVec<OutletId> = tvec![inputs[0]];
        for (axis, start, end) in parts {
            let op = TypedSlice::new(axis, start, end);
            wire = model.wire_node(format!("{name}.axis-{axis}"), op, &wire)?;
        }
        Ok(wire)
    }
}

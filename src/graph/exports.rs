//! The further operators of plain exports.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::array::Trilu as TypedTrilu;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::array;
use tract_onnx::tract_hir::ops::binary::BinIntoHir;
use tract_onnx::tract_hir::ops::element_wise::ElementWiseIntoHir;
use tract_onnx::tract_hir::ops::{logic, math};

use super::operators::{Built, built, fixed, int};

pub fn register(registry: &mut OnnxOpRegister) {
    fixed!(registry:
        "And" => logic::And.into_hir(),
        "Cos" => math::cos().into_hir(),
        "Expand" => expand(array::MultiBroadcastTo),
        "GreaterOrEqual" => logic::CompGTE.into_hir(),
        "IsNaN" => math::is_nan().into_hir(),
        "LessOrEqual" => logic::CompLTE.into_hir(),
        "Not" => logic::not().into_hir(),
        "Or" => logic::Or.into_hir(),
        "Range" => expand(array::Range),
        "Reciprocal" => math::recip().into_hir(),
        "Shape" => expand(array::Shape::new(TDim::datum_type())),
        "Sin" => math::sin().into_hir(),
        "Tile" => expand(array::Tile),
    );
    registry.insert("ConstantOfShape", constant_of_shape);
    registry.insert("GatherND", |_, node| {
        let batch_dims = node.get_attr_opt("batch_dims")?.unwrap_or(0);
        built(Box::new(array::GatherNd::new(batch_dims)))
    });
    registry.insert("ScatterND", |_, node| {
        let reduction = node.get_attr_opt("reduction")?.unwrap_or("none");
        built(expand(array::ScatterNd::new(array::ScatterReduction::parse(reduction)?)))
    });
    registry.insert("Trilu", |_, node| {
        built(expand(Trilu { upper: int(node, "upper", 1)? != 0, inputs: node.input.len() }))
    });
}

/// One value, repeated: zero where the node does not give it.
fn constant_of_shape(ctx: &ParsingContext, node: &NodeProto) -> Built {
    let value = match node.get_attr_opt("value")? {
        Some(tensor) => ctx.load_tensor(tensor)?,
        None => tensor0(0f32),
    };
    ensure!(value.len() == 1, "node {}: the value to repeat is {value:?}", node.name);
    built(expand(array::ConstantOfShape::new(value.nth(0)?.into_arc_tensor())))
}

/// The triangle above or below a diagonal, which is an optional second input.
#[derive(Debug, Clone)]
struct Trilu {
    upper: bool,
    inputs: usize,
}

impl Expansion for Trilu {
    fn name(&self) -> StaticName {
        "Trilu".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.inputs)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(
        &self,
        name: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let diagonal = match inputs.get(1) {
            // What is computed from shapes is no plain integer in tract.
            Some(input) => {
                let diagonal = cast(i64::datum_type());
                model.wire_node(format!("{name}.diagonal"), diagonal, &[*input])?[0]
            }
            None => model.add_const(format!("{name}.diagonal"), tensor0(0i64))?,
        };
        model.wire_node(name, TypedTrilu { upper: self.upper }, &[inputs[0], diagonal])
    }
}

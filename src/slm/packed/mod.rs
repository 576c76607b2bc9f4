//! A packed graph: tract plans and runs it, our ops do the work on the mapped weights.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{ToDim, bail};

use super::dimensions::Dimensions;
use super::kernels::{Kernels, Pool};
use super::trouble::in_graph;
use crate::bundle::Blob;
use crate::error::{Error, Result};
use crate::graph;

mod ops;
mod runner;
mod weights;

use ops::Scratch;
use runner::PackedRunner;
use weights::Weights;

/// A packed graph, bound to its weights and planned.
pub struct PackedSlm {
    plan: Arc<TypedSimplePlan>,
    kernels: &'static Kernels,
    pool: Arc<Pool>,
}

impl PackedSlm {
    /// `bytes`: those of `graph.onnx`; `weights`: the mapped `weights.bin`; `threads`: see
    /// [`Pool::new`].
    pub fn load(
        bytes: &[u8],
        weights: Blob,
        dimensions: Dimensions,
        threads: usize,
    ) -> Result<PackedSlm> {
        let plan = plan(parse(bytes, weights)?).map_err(in_graph)?;
        check(plan.model(), dimensions)?;
        Ok(PackedSlm { plan, kernels: Kernels::best(), pool: Arc::new(Pool::new(threads)?) })
    }

    pub fn set_kernels(&mut self, kernels: &'static Kernels) {
        self.kernels = kernels;
    }

    pub fn spawn(&self, context: usize) -> Result<PackedRunner> {
        PackedRunner::new(&self.plan, Scratch::new(self.kernels, self.pool.clone()), context)
    }
}

/// The graph with its ops bound, before shape inference.
fn parse(bytes: &[u8], weights: Blob) -> Result<InferenceModel> {
    let mut onnx = graph::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    ops::register(&mut onnx);
    let mut proto = graph::read(&onnx, bytes).map_err(in_graph)?;
    graph::lower(&mut proto).map_err(in_graph)?;
    let table = proto.metadata_props.iter().find(|entry| entry.key == "weights");
    let table = table.ok_or_else(|| Error::Bundle("graph.onnx has no table of weights".into()))?;
    let weights = Weights::new(&table.value, weights)?;
    // No model folder is given: a packed graph may not refer to other files.
    let mut model = onnx.model_for_proto_model(&proto).map_err(in_graph)?;
    ops::bind(&mut model, &weights)?;
    Ok(model)
}

/// Inputs in the order the runner feeds them, outputs in the order it reads them.
fn plan(mut model: InferenceModel) -> TractResult<Arc<TypedSimplePlan>> {
    model.set_input_names(["input_ids", "rows"])?;
    let outputs = ["hidden", "logits"].map(|name| model.find_outlet_label(name));
    let [Some(hidden), Some(logits)] = outputs else {
        bail!("the outputs must be `hidden` and `logits`")
    };
    model.select_output_outlets(&[hidden, logits])?;
    let (tokens, rows) = (model.symbols.sym("S"), model.symbols.sym("T"));
    model.set_input_fact(0, i64::fact([1.to_dim(), tokens.to_dim()]).into())?;
    model.set_input_fact(1, i64::fact([rows.to_dim()]).into())?;
    TypedSimplePlan::new(model.into_optimized()?)
}

/// Whether the graph is the one the manifest describes.
fn check(model: &TypedModel, dimensions: Dimensions) -> Result<()> {
    let widths = [("hidden", dimensions.hidden_size), ("logits", dimensions.vocabulary)];
    // A row for each that is asked for, not for each token fed.
    let rows = &model.input_fact(1).map_err(in_graph)?.shape[0];
    for (ix, (name, width)) in widths.into_iter().enumerate() {
        let fact = model.output_fact(ix).map_err(in_graph)?;
        let fits = fact.datum_type == f32::datum_type()
            && fact.rank() == 3
            && fact.shape[0].is_one()
            && fact.shape[1] == *rows
            && fact.shape[2] == width.to_dim();
        if !fits {
            return Err(Error::Bundle(format!(
                "graph.onnx: output `{name}` is {fact:?}, expected f32 [1,T,{width}]"
            )));
        }
    }
    let (attention, convolutions) = (ops::count_attention(model), ops::count_convolutions(model));
    // A layer may have neither, as in pruned models.
    if attention == 0 || attention + convolutions > dimensions.layers {
        return Err(Error::Bundle(format!(
            "graph.onnx has {attention} attention nodes and {convolutions} convolutions, \
             bundle.json says {} layers",
            dimensions.layers
        )));
    }
    Ok(())
}

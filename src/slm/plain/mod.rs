//! A plain export, as optimum writes it: tract's own ops run it, the KV cache goes in and out.
//!
//! Inputs `input_ids`, `attention_mask`, `position_ids` (optional) and
//! `past_key_values.N.key`/`.value`; outputs `logits` and `present.N.key`/`.value`. Such a graph
//! does not give the last hidden state: it is the input of the matmul that makes the logits, see
//! [`hidden::find`]. Loading and running are slower than with a packed graph and all weights are
//! copied as floats.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tract_onnx::model::ParseResult;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{ShapeFact, ToDim, TractErrorContext, bail, ensure};

use super::dimensions::Dimensions;
use super::trouble::in_graph;
use crate::error::{Error, Result};
use crate::graph;

mod hidden;
mod runner;

use runner::{Input, PlainRunner};

/// A plain export, planned.
pub struct PlainSlm {
    plan: Arc<TypedSimplePlan>,
    inputs: Vec<Input>,
    dimensions: Dimensions,
}

impl PlainSlm {
    /// `bytes`: those of `graph.onnx`; its external data lie in `dir`. `None`: it may have none.
    pub fn load(bytes: &[u8], dir: Option<&Path>, dimensions: Dimensions) -> Result<PlainSlm> {
        let parsed = parse(bytes, dir).map_err(in_graph)?;
        let inputs = inputs(&parsed.model, dimensions.layers)?;
        let plan = plan(parsed, &inputs, dimensions).map_err(in_graph)?;
        let slm = PlainSlm { plan, inputs, dimensions };
        slm.try_out()?;
        Ok(slm)
    }

    pub fn spawn(&self) -> Result<PlainRunner> {
        PlainRunner::new(&self.plan, &self.inputs, self.dimensions)
    }

    /// Runs two tokens one by one, so that a graph that only fails when run fails here.
    fn try_out(&self) -> Result<()> {
        use super::sequence::Runner;
        let mut runner = self.spawn()?;
        for past in 0..2 {
            let mut output = Default::default();
            runner.run(past, &[0], 0..1, &Default::default(), &mut output)?;
            if output.logits.iter().any(|x| x.is_nan()) {
                return Err(Error::Bundle("graph.onnx gives logits that are not numbers".into()));
            }
        }
        Ok(())
    }
}

/// A graph with the name of its last hidden state's tensor.
struct Parsed {
    model: InferenceModel,
    outlets: HashMap<String, OutletId>,
    hidden: String,
}

fn parse(bytes: &[u8], dir: Option<&Path>) -> TractResult<Parsed> {
    // What the export says of shapes is less exact than what follows from one batch.
    let onnx = graph::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true);
    let mut proto = graph::read(&onnx, bytes)?;
    let hidden = hidden::find(graph::graph(&proto)?)?.to_owned();
    graph::lower(&mut proto)?;
    let utf8 = |dir: &Path| {
        let text = dir.to_str().map(str::to_owned);
        text.context("the bundle's path is not UTF-8, which external data need")
    };
    let parsed = onnx.parse(&proto, dir.map(utf8).transpose()?.as_deref())?;
    let ParseResult { model, unresolved_inputs, outlets_by_name } = parsed;
    ensure!(unresolved_inputs.is_empty(), "tensors without a source: {unresolved_inputs:?}");
    Ok(Parsed { model, outlets: outlets_by_name, hidden })
}

fn inputs(model: &InferenceModel, layers: usize) -> Result<Vec<Input>> {
    let names = model.inputs.iter().map(|outlet| model.node(outlet.node).name.as_str());
    let inputs: Vec<Input> = names.map(|name| input(name, layers)).collect::<Result<_>>()?;
    let wanted = [Input::Ids, Input::Mask].into_iter().chain((0..2 * layers).map(Input::Past));
    for input in wanted {
        if !inputs.contains(&input) {
            return Err(Error::Bundle(format!("graph.onnx has no input for {input:?}")));
        }
    }
    Ok(inputs)
}

fn input(name: &str, layers: usize) -> Result<Input> {
    match name {
        "input_ids" => return Ok(Input::Ids),
        "attention_mask" => return Ok(Input::Mask),
        "position_ids" => return Ok(Input::Positions),
        _ => {}
    }
    let past = (0..2 * layers).find(|&slot| name == format!("past_key_values.{}", part(slot)));
    past.map(Input::Past).ok_or_else(|| {
        Error::Unsupported(format!(
            "input {name:?} of a plain export; known are input_ids, attention_mask, position_ids \
             and past_key_values.N.key and .value for {layers} layers"
        ))
    })
}

/// `3.key` or `3.value`: how names end.
fn part(slot: usize) -> String {
    format!("{}.{}", slot / 2, if slot.is_multiple_of(2) { "key" } else { "value" })
}

/// One batch, `S` tokens after `P` past ones. Outputs: hidden state, logits, then the new cache.
fn plan(
    parsed: Parsed,
    inputs: &[Input],
    dimensions: Dimensions,
) -> TractResult<Arc<TypedSimplePlan>> {
    let Parsed { mut model, outlets, hidden } = parsed;
    let (tokens, past) = (model.symbols.sym("S").to_dim(), model.symbols.sym("P").to_dim());
    let cache =
        [1.to_dim(), dimensions.kv_heads.to_dim(), past.clone(), dimensions.head_dim.to_dim()];
    for (ix, input) in inputs.iter().enumerate() {
        let fact = match input {
            Input::Ids | Input::Positions => i64::fact([1.to_dim(), tokens.clone()]),
            Input::Mask => i64::fact([1.to_dim(), past.clone() + tokens.clone()]),
            Input::Past(_) => f32::fact(ShapeFact::from_dims(cache.clone())),
        };
        model.set_input_fact(ix, fact.into())?;
    }
    let present = (0..2 * dimensions.layers).map(|slot| format!("present.{}", part(slot)));
    let names = [hidden, "logits".into()].into_iter().chain(present);
    let outputs: Vec<OutletId> = names
        .map(|name| outlets.get(&name).copied().with_context(|| format!("no output {name:?}")))
        .collect::<TractResult<_>>()?;
    model.select_output_outlets(&outputs)?;
    let model = model.into_optimized()?;
    for (ix, width) in [dimensions.hidden_size, dimensions.vocabulary].into_iter().enumerate() {
        let fact = model.output_fact(ix)?;
        if fact.shape.last() != Some(&width.to_dim()) || fact.datum_type != f32::datum_type() {
            let name = ["the last hidden state", "the logits"][ix];
            bail!("{name} are {fact:?}, bundle.json says [1,S,{width}]");
        }
    }
    TypedSimplePlan::new(model)
}

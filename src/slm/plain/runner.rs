//! Runs a plain export on one sequence.

use std::ops::Range;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::ensure;
use tract_onnx::tract_core::plan::{TurnState, eval};

use crate::cancel::Cancel;
use crate::error::Result;
use crate::slm::dimensions::Dimensions;
use crate::slm::sequence::Runner;
use crate::slm::state::Output;
use crate::slm::trouble::in_run;

/// What the graph wants at one of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    Ids,
    Mask,
    Positions,
    /// Keys of layer n at 2n, values at 2n + 1.
    Past(usize),
}

/// The cache is what the last run gave, `[1, kv_heads, tokens, head_dim]` per layer and part.
pub struct PlainRunner {
    state: TypedSimpleState,
    inputs: Vec<Input>,
    /// Values per row of the outputs: hidden state, logits.
    widths: [usize; 2],
    cache: Vec<TValue>,
    /// A cache part of no tokens.
    empty: TValue,
}

impl PlainRunner {
    pub fn new(
        plan: &Arc<TypedSimplePlan>,
        inputs: &[Input],
        dimensions: Dimensions,
    ) -> Result<PlainRunner> {
        let state = plan.spawn().map_err(in_run)?;
        let empty = [1, dimensions.kv_heads, 0, dimensions.head_dim];
        let empty = Tensor::zero::<f32>(&empty).map_err(in_run)?.into_tvalue();
        let cache = vec![empty.clone(); 2 * dimensions.layers];
        let widths = [dimensions.hidden_size, dimensions.vocabulary];
        Ok(PlainRunner { state, inputs: inputs.to_vec(), widths, cache, empty })
    }

    fn values(&self, past: usize, ids: &[u32]) -> TractResult<TVec<TValue>> {
        let all = past + ids.len();
        let row = |values: Vec<i64>| {
            Tensor::from_shape(&[1, values.len()], &values).map(IntoTValue::into_tvalue)
        };
        let value = |input: &Input| match *input {
            Input::Ids => row(ids.iter().map(|&id| i64::from(id)).collect()),
            Input::Mask => row(vec![1; all]),
            Input::Positions => row((past as i64..all as i64).collect()),
            Input::Past(slot) => Ok(self.cache[slot].clone()),
        };
        self.inputs.iter().map(value).collect()
    }

    fn run_graph(
        &mut self,
        past: usize,
        ids: &[u32],
        cancel: &Cancel,
    ) -> TractResult<TVec<TValue>> {
        let inputs = self.values(past, ids)?;
        let mut outputs =
            self.state.run_plan_with_eval(inputs, |context, state, node, inputs| {
                cancel.check()?;
                eval(context, state, node, inputs)
            })?;
        for present in &outputs[2..] {
            let tokens = present.shape().get(2).copied();
            ensure!(tokens == Some(past + ids.len()), "the new cache is {present:?}");
        }
        self.cache = outputs.drain(2..).collect();
        Ok(outputs)
    }
}

impl Runner for PlainRunner {
    fn run(
        &mut self,
        past: usize,
        ids: &[u32],
        rows: Range<usize>,
        cancel: &Cancel,
        output: &mut Output,
    ) -> Result<()> {
        let outputs = self.run_graph(past, ids, cancel).map_err(in_run)?;
        let into = [&mut output.hidden, &mut output.logits];
        for ((to, value), width) in into.into_iter().zip(outputs).zip(self.widths) {
            append(to, &value, [ids.len(), width], rows.clone()).map_err(in_run)?;
        }
        Ok(())
    }

    /// Tensors of the cache are never written to, so copies share them.
    fn fork(&self) -> PlainRunner {
        let mut state = self.state.clone();
        state.turn_state = TurnState::default();
        PlainRunner {
            state,
            inputs: self.inputs.clone(),
            widths: self.widths,
            cache: self.cache.clone(),
            empty: self.empty.clone(),
        }
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        if !self.state.turn_state.values.is_empty() {
            self.state.reset_turn().map_err(in_run)?;
        }
        for part in &mut self.cache {
            if len == 0 {
                // tract refuses to cut an empty slice.
                *part = self.empty.clone();
            } else if part.shape()[2] > len {
                *part = part.slice(2, 0, len).map_err(in_run)?.into_tvalue();
            }
        }
        Ok(())
    }
}

/// The wanted rows of a tensor that must have `shape`, one row per token.
fn append(
    to: &mut Vec<f32>,
    value: &Tensor,
    [tokens, width]: [usize; 2],
    rows: Range<usize>,
) -> TractResult<()> {
    let view = value.try_as_plain_ram()?;
    let values = view.as_slice::<f32>()?;
    ensure!(values.len() == tokens * width, "{value:?} is not {tokens} rows of {width}");
    to.extend_from_slice(&values[rows.start * width..rows.end * width]);
    Ok(())
}

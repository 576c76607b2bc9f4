//! A reward head: a small ONNX model that tract runs once per candidate.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::Context as _;
use tract_onnx::prelude::*;

use super::contract::{self, Input, MAX_BYTES};
use super::features::Features;
use super::statistics;
use crate::error::{Error, Result};
use crate::graph;

/// A head, planned: a model's, shared by its sessions.
#[derive(Clone)]
pub struct HeadPlan {
    inputs: Arc<[Input]>,
    hidden_size: usize,
    plan: Arc<TypedSimplePlan>,
}

impl HeadPlan {
    /// Loads a `reward.onnx` for an SLM with this hidden size and tries it once.
    ///
    /// Errors: [`Error::Bundle`], saying which part of the contract is broken.
    pub fn load(bytes: &[u8], hidden_size: usize) -> Result<HeadPlan> {
        if bytes.len() > MAX_BYTES {
            let len = bytes.len();
            return Err(damaged(format!("it has {len} bytes, at most {MAX_BYTES} are allowed")));
        }
        let (inputs, plan) = no_panic(|| build(bytes, hidden_size)).map_err(damaged)?;
        let plan = HeadPlan { inputs: inputs.into(), hidden_size, plan };
        let zeros = vec![0.0; hidden_size];
        plan.spawn()
            .and_then(|mut head| head.run(&zeros, Some(&zeros), &[0.0; statistics::COUNT]))
            .map_err(|e| damaged(format!("a trial run failed: {e}")))?;
        Ok(plan)
    }

    /// The head has the input `hidden_after`.
    pub fn reads_after(&self) -> bool {
        self.inputs.contains(&Input::HiddenAfter)
    }

    /// Errors: [`Error::Model`].
    pub fn spawn(&self) -> Result<Head> {
        let state = no_panic(|| self.plan.spawn()).map_err(Error::Model)?;
        Ok(Head { plan: self.clone(), state })
    }
}

/// A head with its own reusable state: one per session.
pub struct Head {
    plan: HeadPlan,
    state: TypedSimpleState,
}

impl Head {
    /// A head that nothing else uses; see [`HeadPlan::load`].
    pub fn load(bytes: &[u8], hidden_size: usize) -> Result<Head> {
        HeadPlan::load(bytes, hidden_size)?.spawn()
    }

    /// See [`HeadPlan::reads_after`].
    pub fn reads_after(&self) -> bool {
        self.plan.reads_after()
    }

    /// The score of one candidate, 0..=1.
    pub fn score(&mut self, features: &Features) -> Result<f32> {
        self.run(features.hidden, features.hidden_after, &statistics::values(features.stats))
    }

    /// The output for raw inputs, 0..=1; an input the graph does not have is ignored.
    ///
    /// Errors: [`Error::InvalidArgument`] for a wrong length, a value that is not finite or a
    /// missing `hidden_after`, [`Error::Model`] when tract fails or the output is no probability.
    pub fn run(
        &mut self,
        hidden: &[f32],
        hidden_after: Option<&[f32]>,
        stats: &[f32; statistics::COUNT],
    ) -> Result<f32> {
        let mut values: TVec<TValue> = tvec!();
        for input in self.plan.inputs.iter() {
            let slice = match input {
                Input::Hidden => hidden,
                Input::HiddenAfter => hidden_after.ok_or_else(missing_after)?,
                Input::Stats => stats,
            };
            let size = input.size(self.plan.hidden_size);
            if slice.len() != size {
                let len = slice.len();
                return Err(Error::InvalidArgument(format!(
                    "the reward head reads {size} values, {len} were given"
                )));
            }
            if !slice.iter().all(|v| v.is_finite()) {
                return Err(Error::InvalidArgument("the SLM's state is not finite".into()));
            }
            values.push(Tensor::from_shape(&[1, size], slice).map_err(model_error)?.into_tvalue());
        }
        let state = &mut self.state;
        let score = no_panic(|| {
            let output = state.run(values)?;
            let first = output.first().context("no output")?;
            Ok(*first.try_as_plain_ram()?.to_scalar::<f32>()?)
        })
        .map_err(Error::Model)?;
        if (0.0..=1.0).contains(&score) {
            Ok(score)
        } else {
            Err(Error::Model(format!("the reward head answered {score}, which is no probability")))
        }
    }
}

/// Parses, checks and optimises the graph for fixed shapes.
fn build(bytes: &[u8], hidden_size: usize) -> TractResult<(Vec<Input>, Arc<TypedSimplePlan>)> {
    let onnx = graph::onnx();
    let mut proto = graph::read(&onnx, bytes).context("it is not an ONNX model")?;
    let inputs = contract::check(&proto, hidden_size).map_err(TractError::msg)?;
    graph::lower(&mut proto)?;
    let mut model = onnx.model_for_proto_model(&proto)?;
    for (index, input) in inputs.iter().enumerate() {
        model.set_input_fact(index, f32::fact([1, input.size(hidden_size)]).into())?;
    }
    let model = model.into_optimized()?;
    ensure_scalar(model.output_fact(0)?)?;
    Ok((inputs, model.into_runnable()?))
}

fn ensure_scalar(fact: &TypedFact) -> TractResult<()> {
    let shape = fact.shape.as_concrete().context("its output has no fixed shape")?;
    if fact.datum_type != f32::datum_type() || shape != [1, 1] {
        return Err(TractError::msg(format!("its output is {fact:?}, not f32 [1, 1]")));
    }
    Ok(())
}

/// Runs code of tract, which panics on some damaged models; the error as text.
fn no_panic<T>(run: impl FnOnce() -> TractResult<T>) -> std::result::Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|e| format!("{e:#}")),
        Err(_) => Err("tract panicked on it".into()),
    }
}

fn damaged(reason: String) -> Error {
    Error::Bundle(format!("reward head: {reason} (see docs/reward-head.md)"))
}

fn model_error(error: TractError) -> Error {
    Error::Model(format!("reward head: {error:#}"))
}

fn missing_after() -> Error {
    Error::InvalidArgument("the reward head reads the hidden state after the candidate".into())
}

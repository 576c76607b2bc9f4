//! Runs a packed graph on one sequence.

use std::ops::Range;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::plan::{TurnState, eval};

use super::ops::{LayerState, Scratch, layer, layer_mut};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::slm::kernels::Cache;
use crate::slm::sequence::Runner;
use crate::slm::state::Output;
use crate::slm::trouble::in_run;

/// tract's state of the plan; the caches live in the states of its ops.
pub struct PackedRunner {
    state: TypedSimpleState,
}

impl PackedRunner {
    /// `capacity`: tokens every cache can hold; memory is used only as they come.
    pub fn new(
        plan: &Arc<TypedSimplePlan>,
        scratch: Scratch,
        capacity: usize,
    ) -> Result<PackedRunner> {
        let mut state = plan.spawn().map_err(in_run)?;
        state.turn_state.shared.insert(scratch);
        let mut runner = PackedRunner { state };
        for layer in runner.layers_mut() {
            layer.allocate(capacity)?;
        }
        Ok(runner)
    }

    /// An interrupted run leaves values behind; before any run there are none to drop.
    fn reset(&mut self) -> Result<()> {
        match self.state.turn_state.values.is_empty() {
            true => Ok(()),
            false => self.state.reset_turn().map_err(in_run),
        }
    }

    fn layers_mut(&mut self) -> impl Iterator<Item = &mut dyn LayerState> {
        self.state.op_states.iter_mut().flatten().filter_map(|state| layer_mut(&mut **state))
    }

    /// At most one for each layer.
    fn caches(&self) -> impl Iterator<Item = &dyn Cache> {
        let states = self.state.op_states.iter().flatten();
        states.filter_map(|state| layer(&**state)?.cache())
    }

    fn caches_mut(&mut self) -> impl Iterator<Item = &mut dyn Cache> {
        self.layers_mut().filter_map(|layer| layer.cache_mut())
    }
}

/// Lets every cache take its part of `bytes`, which are `len` tokens of these caches.
fn read<'a>(
    caches: impl Iterator<Item = &'a mut dyn Cache>,
    len: usize,
    mut bytes: &[u8],
) -> Result<()> {
    for cache in caches {
        let (part, rest) = bytes.split_at(cache.bytes(len).min(bytes.len()));
        cache.read(len, part)?;
        bytes = rest;
    }
    Ok(())
}

impl Runner for PackedRunner {
    fn run(
        &mut self,
        _past: usize,
        ids: &[u32],
        rows: Range<usize>,
        cancel: &Cancel,
        output: &mut Output,
    ) -> Result<()> {
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let ids = Tensor::from_shape(&[1, ids.len()], &ids).map_err(in_run)?;
        let rows: Vec<i64> = rows.map(|row| row as i64).collect();
        let inputs = tvec!(ids.into_tvalue(), tensor1(&rows).into_tvalue());
        let outputs = self.state.run_plan_with_eval(inputs, |context, state, node, inputs| {
            // Looked at between nodes, a raised flag stops a long prompt within a part of a layer.
            cancel.check()?;
            eval(context, state, node, inputs)
        });
        let outputs = outputs.map_err(in_run)?;
        for (to, value) in [&mut output.hidden, &mut output.logits].into_iter().zip(outputs) {
            let values = value.try_as_plain_ram().and_then(|view| view.as_slice::<f32>());
            to.extend_from_slice(values.map_err(in_run)?);
        }
        Ok(())
    }

    fn fork(&self) -> PackedRunner {
        let mut state = self.state.clone();
        // Values of an interrupted run stay behind, and every sequence has buffers of its own.
        state.turn_state = TurnState::default();
        if let Some(scratch) = self.state.turn_state.shared.get::<Scratch>() {
            state.turn_state.shared.insert(scratch.fork());
        }
        PackedRunner { state }
    }

    fn truncate(&mut self, len: usize) -> Result<()> {
        self.reset()?;
        self.caches_mut().for_each(|cache| cache.ring_mut().truncate(len));
        Ok(())
    }

    fn reach(&self, more: usize) -> usize {
        self.caches().map(|cache| cache.ring().reach(more)).max().unwrap_or(0)
    }

    fn snapshot(&self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for cache in self.caches().filter(|cache| !cache.ring().has_all()) {
            cache.write(len, &mut |part| bytes.extend_from_slice(part));
        }
        bytes
    }

    fn go_back(&mut self, len: usize, snapshot: &[u8]) -> Result<()> {
        self.reset()?;
        let mut some = Vec::new();
        for cache in self.caches_mut() {
            match cache.ring().has_all() {
                true => cache.ring_mut().truncate(len),
                false => some.push(cache),
            }
        }
        read(some.into_iter(), len, snapshot)
    }

    fn cache_bytes(&self, len: usize) -> Option<usize> {
        Some(self.caches().map(|cache| cache.bytes(len)).sum())
    }

    fn write_cache(&self, len: usize, out: &mut dyn FnMut(&[u8])) {
        self.caches().for_each(|cache| cache.write(len, out));
    }

    fn read_cache(&mut self, len: usize, bytes: &[u8]) -> Result<()> {
        read(self.caches_mut(), len, bytes)
    }
}

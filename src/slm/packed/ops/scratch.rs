//! What the ops of one sequence share.

use std::cell::RefCell;

use tract_onnx::tract_hir::internal::*;

use super::outputs::Outputs;
use crate::slm::kernels::{Activations, AttentionScratch, Kernels, Pool, Rope};

/// What the ops of one sequence share: the model's kernels and threads, and buffers reused from
/// node to node and run to run.
pub struct Scratch {
    pub kernels: &'static Kernels,
    pub pool: Arc<Pool>,
    pub activations: RefCell<Activations>,
    pub attention: RefCell<AttentionScratch>,
    pub outputs: Outputs,
    /// Layers with equal parameters share one table of angles.
    pub ropes: RefCell<Vec<(RopeKey, Arc<Rope>)>>,
}

impl Scratch {
    pub fn new(kernels: &'static Kernels, pool: Arc<Pool>) -> Scratch {
        Scratch {
            kernels,
            pool,
            activations: RefCell::default(),
            attention: RefCell::default(),
            outputs: Outputs::default(),
            ropes: RefCell::default(),
        }
    }

    /// Empty buffers for another sequence that computes alike.
    pub fn fork(&self) -> Scratch {
        Scratch::new(self.kernels, self.pool.clone())
    }
}

/// The sequence's buffers, which the runner has put into tract's shared resources.
pub fn scratch<'a>(context: &EvalContext<'a>) -> TractResult<&'a Scratch> {
    context.shared.and_then(|shared| shared.get()).context("run without scratch buffers")
}

/// What a table of angles is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeKey {
    pub dims: usize,
    pub base: f32,
    pub length: f32,
    pub factors: Option<Vec<f32>>,
}

impl RopeKey {
    pub fn table(&self) -> TractResult<Arc<Rope>> {
        let rope = Rope::new(self.dims, self.base, self.factors.as_deref())?;
        Ok(Arc::new(rope.lengthened(self.length)?))
    }
}

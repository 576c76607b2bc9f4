//! What the layers of one sequence remember, behind the states of tract's ops.

use crate::slm::kernels::Cache;

/// One layer of one sequence.
pub trait LayerState {
    /// tract makes the state without knowing the context's length; this adds the cache.
    fn allocate(&mut self, capacity: usize) -> crate::Result<()>;

    fn cache(&self) -> Option<&dyn Cache>;

    fn cache_mut(&mut self) -> Option<&mut dyn Cache>;
}

//! Which states of ops are layers.

use tract_onnx::tract_hir::internal::OpState;

use super::attention::AttentionState;
use super::short_conv::ShortConvState;
use super::state::LayerState;

/// The layer of an op's state, if it has one.
pub fn layer(state: &dyn OpState) -> Option<&dyn LayerState> {
    match state.downcast_ref::<AttentionState>() {
        Some(attention) => Some(attention),
        None => state.downcast_ref::<ShortConvState>().map(|state| state as _),
    }
}

/// See [`layer`].
pub fn layer_mut(state: &mut dyn OpState) -> Option<&mut dyn LayerState> {
    match state.is::<AttentionState>() {
        true => state.downcast_mut::<AttentionState>().map(|state| state as _),
        false => state.downcast_mut::<ShortConvState>().map(|state| state as _),
    }
}

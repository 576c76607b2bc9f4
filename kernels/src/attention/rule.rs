//! How the queries of a layer weigh the positions that they see.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kv_cache::AttentionShape;
use crate::rope::Rope;

/// RoPE, scales, window and soft cap of one attention layer.
#[derive(Debug, Clone)]
pub struct AttentionRule {
    rope: Arc<Rope>,
    /// For every dimension of a turned query.
    scales: Vec<f32>,
    window: usize,
    soft_cap: Option<f32>,
}

impl AttentionRule {
    /// Scores are scaled by 1 / √head_dim, and every position before the token is seen. Fails when
    /// RoPE turns more than a head has.
    pub fn new(shape: AttentionShape, rope: Arc<Rope>) -> Result<AttentionRule> {
        let dim = shape.head_dim();
        if rope.dims() > dim {
            return Err(Error::Model(format!("RoPE turns {} of {dim} dimensions", rope.dims())));
        }
        let scales = vec![1.0 / (dim as f32).sqrt(); dim];
        Ok(AttentionRule { rope, scales, window: usize::MAX, soft_cap: None })
    }

    /// Multiplies turned queries by these instead: one factor, or one for each dimension.
    pub fn with_scales(mut self, scales: &[f32]) -> Result<AttentionRule> {
        let dim = self.scales.len();
        match scales {
            [scale] => self.scales.fill(*scale),
            _ if scales.len() == dim => self.scales.copy_from_slice(scales),
            _ => {
                return Err(Error::Model(format!(
                    "{} scales for heads of {dim} dimensions",
                    scales.len()
                )));
            }
        }
        match self.scales.iter().all(|scale| scale.is_finite()) {
            true => Ok(self),
            false => Err(Error::Model("a scale of attention is not a finite number".into())),
        }
    }

    /// A token sees this many positions at most, its own included.
    pub fn with_window(mut self, window: usize) -> Result<AttentionRule> {
        if window == 0 {
            return Err(Error::Model("attention with a window of 0 positions".into()));
        }
        self.window = window;
        Ok(self)
    }

    /// Scores become `cap · tanh(score / cap)`.
    pub fn with_soft_cap(mut self, cap: f32) -> Result<AttentionRule> {
        if !(cap.is_finite() && cap > 0.0) {
            return Err(Error::Model(format!("attention with a soft cap of {cap}")));
        }
        self.soft_cap = Some(cap);
        Ok(self)
    }

    pub(crate) fn rope(&self) -> &Rope {
        &self.rope
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.scales.len()
    }

    pub(super) fn scales(&self) -> &[f32] {
        &self.scales
    }

    pub(super) fn window(&self) -> usize {
        self.window
    }

    pub(super) fn soft_cap(&self) -> Option<f32> {
        self.soft_cap
    }
}

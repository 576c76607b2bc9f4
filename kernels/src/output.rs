//! Where a matmul writes: one float per activation row and output feature.

use std::marker::PhantomData;

use super::format::TILE_ROWS;
use super::matrix::Matrix;
use crate::error::{Error, Result};

/// `y[r][n]` at `out[r · stride + n]`, plus the bias of each feature.
///
/// Tiles write disjoint features, so that several threads may share one output and work on
/// different tiles.
pub struct Output<'a> {
    data: *mut f32,
    stride: usize,
    rows: usize,
    features: usize,
    bias: Option<&'a [f32]>,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: writing is unsafe, and whoever shares an output promises disjoint tiles.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// Fails when `out` is too short for `rows` rows of the matrix, `stride` is less than its rows,
    /// or `bias` has another length.
    pub fn new(
        matrix: &Matrix,
        rows: usize,
        bias: Option<&'a [f32]>,
        out: &'a mut [f32],
        stride: usize,
    ) -> Result<Self> {
        let features = matrix.rows();
        let last = rows.checked_sub(1).and_then(|r| r.checked_mul(stride));
        let fits = last.and_then(|at| at.checked_add(features)).is_some_and(|end| end <= out.len());
        if !fits || (rows > 1 && stride < features) {
            return Err(Error::InvalidArgument(format!(
                "{rows} rows of {features} features at stride {stride} do not fit {} values",
                out.len()
            )));
        }
        if bias.is_some_and(|b| b.len() != features) {
            return Err(Error::InvalidArgument(format!("the bias must have {features} values")));
        }
        let data = out.as_mut_ptr();
        Ok(Output { data, stride, rows, features, bias, _borrow: PhantomData })
    }

    /// Features that tile `tile` has: 16 but for the last.
    #[inline(always)]
    pub(super) fn width(&self, tile: usize) -> usize {
        (self.features - tile * TILE_ROWS).min(TILE_ROWS)
    }

    /// The biases of a tile, zero where there are none.
    #[inline(always)]
    pub(super) fn bias(&self, tile: usize) -> [f32; TILE_ROWS] {
        let mut values = [0.0; TILE_ROWS];
        if let Some(bias) = self.bias {
            let bias = &bias[tile * TILE_ROWS..];
            match bias.first_chunk() {
                Some(whole) => values = *whole,
                None => values[..bias.len()].copy_from_slice(bias),
            }
        }
        values
    }

    /// Stores a row's results of one tile.
    ///
    /// # Safety
    /// Nobody else may use the same tile of this output at the same time.
    #[inline(always)]
    pub(super) unsafe fn store(&self, row: usize, tile: usize, values: &[f32; TILE_ROWS]) {
        assert!(row < self.rows && tile * TILE_ROWS < self.features);
        // SAFETY: `new` checked that `rows` rows of `features` fit, the assertion that this is one
        // of them, and the caller that no other thread writes here.
        unsafe {
            let at = self.data.add(row * self.stride + tile * TILE_ROWS);
            match self.width(tile) {
                TILE_ROWS => std::ptr::copy_nonoverlapping(values.as_ptr(), at, TILE_ROWS),
                width => std::ptr::copy_nonoverlapping(values.as_ptr(), at, width),
            }
        }
    }
}

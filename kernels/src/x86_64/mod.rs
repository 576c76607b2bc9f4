//! The kernels for x86-64, compiled for two instruction sets and picked at run time.

use crate::table::Kernels;

mod avx2;
mod avx512;
mod bytes;
mod ymm;
mod zmm;

/// Best first.
pub(super) static TABLES: [&Kernels; 2] = [&avx512::KERNELS, &avx2::KERNELS];

//! The kernels for aarch64: one set of algorithms on NEON, which every such CPU has, with three
//! ways to sum products of bytes, picked at run time.

use std::arch::is_aarch64_feature_detected;

use crate::table::Kernels;

mod dot;
mod lanes;
mod tiles;
mod unpack;

use dot::{DotProduct, MatrixProduct, Widening};
use lanes::Neon;
use tiles::tiles;

/// Best first; [`NEON`] is for all others.
pub(super) static TABLES: [&Kernels; 2] = [&I8MM, &DOTPROD];

/// Cortex-A510 and later, Neoverse V1 and later.
static I8MM: Kernels = kernels!(
    "neon-i8mm",
    || is_aarch64_feature_detected!("i8mm") && is_aarch64_feature_detected!("dotprod"),
    Neon,
    tiles::<MatrixProduct>
);

/// Cortex-A55, A76, A78AE, Neoverse N1.
static DOTPROD: Kernels =
    kernels!("neon-dotprod", || is_aarch64_feature_detected!("dotprod"), Neon, tiles::<DotProduct>);

/// Cortex-A53, A57, A72.
pub(super) static NEON: Kernels = kernels!("neon", || true, Neon, tiles::<Widening>);

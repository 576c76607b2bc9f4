//! Which table a CPU runs.

use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::table::Kernels;
use crate::{lanes, portable};

/// On aarch64 it is the tests' reference only, and no code of it ships.
#[cfg_attr(target_arch = "aarch64", allow(dead_code))]
pub(crate) static PORTABLE: Kernels = kernels!("portable", || true, lanes::Array, portable::tiles);

// TABLES are those that not every CPU can run, best first; BASELINE is the one that each can.
#[cfg(target_arch = "aarch64")]
use crate::aarch64::{NEON as BASELINE, TABLES};
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
use PORTABLE as BASELINE;
#[cfg(target_arch = "x86_64")]
use {crate::x86_64::TABLES, PORTABLE as BASELINE};
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
static TABLES: [&Kernels; 0] = [];

impl Kernels {
    /// The tables that this CPU can run, best first.
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        let tables = TABLES.into_iter().filter(|table| (table.available)()).chain([&BASELINE]);
        // In tests also the portable one; of all of them those that scripts/test-kernels names.
        #[cfg(all(test, target_arch = "aarch64"))]
        let tables = tables.chain([&PORTABLE]).filter(|table| {
            let names = std::env::var("HYBRID_TEST_TABLES");
            names.map_or(true, |names| names.split(' ').any(|name| name == table.name))
        });
        tables
    }

    /// The fastest table that this CPU can run.
    pub fn best() -> &'static Kernels {
        static BEST: OnceLock<&Kernels> = OnceLock::new();
        BEST.get_or_init(|| Self::available().next().unwrap_or(&BASELINE))
    }

    /// A table by its name. Fails when this CPU cannot run it or there is none.
    pub fn by_name(name: &str) -> Result<&'static Kernels> {
        Self::available().find(|table| table.name == name).ok_or_else(|| {
            let names = Self::names(", ");
            Error::InvalidArgument(format!("kernels {name:?}; this CPU can use: {names}"))
        })
    }

    /// The names of the tables that this CPU can run, best first.
    pub fn names(separator: &str) -> String {
        Self::available().map(Kernels::name).collect::<Vec<_>>().join(separator)
    }
}

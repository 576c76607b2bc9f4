//! Version
//!
//! HYBRID_ABI_VERSION is the number of this header; hybrid_abi_version() that of the library. A
//! program may run with a library of the same number or a higher one with the same thousands.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use crate::slm::kernels::Kernels;

/// Thousands: incompatible changes of the C ABI; units: additions.
pub const HYBRID_ABI_VERSION: i32 = 1000;

/// HYBRID_ABI_VERSION of the library that is linked.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_abi_version() -> i32 {
    HYBRID_ABI_VERSION
}

/// One line of `key=value` words: version, abi, features of this build, and the compute kernel
/// chosen on this CPU. Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_build_info() -> *const c_char {
    static INFO: OnceLock<CString> = OnceLock::new();
    INFO.get_or_init(|| {
        let cloud = if cfg!(feature = "cloud") { "cloud" } else { "none" };
        let text = format!(
            "version={} abi={HYBRID_ABI_VERSION} features={cloud} target={}-{} kernel={}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH,
            std::env::consts::OS,
            Kernels::best().name(),
        );
        CString::new(text).unwrap_or_default()
    })
    .as_ptr()
}

//! Version
//!
//! HYBRID_VERSION is the version of the header, hybrid_version() that of the library. The number of
//! the C ABI goes up when programs that were compiled against an earlier header must be compiled
//! again. New functions, new enum values and new fields at the end of structs do not raise it.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use crate::slm::kernels::Kernels;

/// The C ABI of this header.
pub const HYBRID_ABI_VERSION: i32 = 1;

/// The C ABI of the library that is linked. If it is not HYBRID_ABI_VERSION, library and header do
/// not fit together.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_abi_version() -> i32 {
    HYBRID_ABI_VERSION
}

/// The version of the library that is linked, for example "0.1.0". Static; never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// One line of `key=value` words: version, abi, the features of this build, target, the compute
/// kernels that this CPU can run (best first, separated by commas), and the one in use. Static;
/// never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_build_info() -> *const c_char {
    static INFO: OnceLock<CString> = OnceLock::new();
    INFO.get_or_init(|| {
        let cloud = if cfg!(feature = "cloud") { "cloud" } else { "none" };
        let text = format!(
            "version={} abi={HYBRID_ABI_VERSION} features={cloud} target={}-{} \
             kernels={} kernel={}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH,
            std::env::consts::OS,
            Kernels::names(","),
            Kernels::best().name(),
        );
        CString::new(text).unwrap_or_default()
    })
    .as_ptr()
}

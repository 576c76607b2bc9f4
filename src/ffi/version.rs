//! Version
//!
//! HYBRID_VERSION is the version of the header, hybrid_version() that of the library. Before 1.0
//! all releases with the same minor version fit together, from 1.0 on all with the same major
//! version. Between others, programs must be compiled again. New functions, new enum values and new
//! fields at the end of structs come with any release.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use crate::slm::kernels::Kernels;

/// The C ABI of the library that is linked. If it is not HYBRID_ABI_VERSION, library and header do
/// not fit together.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_abi_version() -> i32 {
    ABI
}

/// `cargo xtask header` computes the same for HYBRID_ABI_VERSION.
const ABI: i32 = match (number(env!("CARGO_PKG_VERSION_MAJOR")), env!("CARGO_PKG_VERSION_MINOR")) {
    (0, minor) => number(minor),
    (major, _) => 1000 * major,
};

const fn number(text: &str) -> i32 {
    match i32::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => panic!("a version is made of numbers"),
    }
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
            "version={} abi={ABI} features={cloud} target={}-{} \
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

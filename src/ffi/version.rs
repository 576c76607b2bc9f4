//! Version
//!
//! The number of the C ABI goes up when programs compiled against an earlier header have to be
//! compiled again. Functions, constants and fields of structs that grow are added without that.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use crate::slm::kernels::Kernels;

/// The C ABI of this header.
pub const HYBRID_ABI_VERSION: i32 = 1;

/// The C ABI of the library that is linked; anything but HYBRID_ABI_VERSION means that it does not
/// fit the header.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_abi_version() -> i32 {
    HYBRID_ABI_VERSION
}

/// One line of `key=value` words: version, abi, features of this build, target, the compute kernels
/// that this CPU can use (best first, with commas between), and the one that it uses. Static; never
/// NULL.
#[unsafe(no_mangle)]
pub extern "C" fn hybrid_build_info() -> *const c_char {
    static INFO: OnceLock<CString> = OnceLock::new();
    INFO.get_or_init(|| {
        let cloud = if cfg!(feature = "cloud") { "cloud" } else { "none" };
        let text = format!(
            "version={} abi={HYBRID_ABI_VERSION} features={cloud} target={}-{} kernels={} kernel={}",
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

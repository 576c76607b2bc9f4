//! One target under libFuzzer. `scripts/attack` links it, starts it, and names the target in
//! `HYBRID_FUZZ_TARGET`. With `HYBRID_FUZZ_SEEDS` it writes seeds and words there and ends.
#![no_main]
#![allow(unsafe_code, non_snake_case, reason = "libFuzzer calls it")]

use std::path::Path;
use std::sync::LazyLock;

use hybrid_fuzz::{Target, corpus, target};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("HYBRID_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("HYBRID_FUZZ_TARGET={name:?} is no target"))
});

#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerInitialize(_argc: *mut i32, _argv: *mut *mut *mut u8) -> i32 {
    if let Some(folder) = std::env::var_os("HYBRID_FUZZ_SEEDS") {
        corpus::write_seeds(&TARGET, Path::new(&folder)).unwrap_or_else(|e| panic!("{e}"));
        std::process::exit(0);
    }
    // What is set up but once is no input's.
    (TARGET.run)(b"");
    0
}

/// A panic cannot leave it: the process aborts, and libFuzzer keeps the input.
#[unsafe(no_mangle)]
extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> i32 {
    let input = match size {
        0 => &[][..],
        // SAFETY: libFuzzer's contract: `size` bytes that nobody changes during the call.
        _ => unsafe { std::slice::from_raw_parts(data, size) },
    };
    (TARGET.run)(input);
    0
}

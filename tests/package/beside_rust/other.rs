//! Another static library written in Rust, with a runtime of its own.

#[unsafe(no_mangle)]
pub extern "C" fn other_panics() -> i32 {
    let parsed = std::panic::catch_unwind(|| "no number".parse::<i32>().unwrap());
    i32::from(parsed.is_err())
}

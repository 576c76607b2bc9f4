//! Panics on purpose, so that a test sees what a bug of the library would do. Only a build with
//! `--cfg hybrid_inject` has them: that of `scripts/test-sanitizers panics`.

#[cfg(hybrid_inject)]
mod on {
    use std::cell::Cell;

    thread_local! {
        /// Places to pass before the panic; negative: none is wanted.
        static LEFT: Cell<i64> = const { Cell::new(-1) };
    }

    /// A place where a panic may be wanted: between the out-values of an entry and its result.
    pub fn point() {
        let left = LEFT.get();
        LEFT.set((left - 1).max(-1));
        if left == 0 {
            panic!("injected");
        }
    }

    /// The calls of this thread panic after `places` places; never if that is negative. Returns how
    /// many were left of the last number.
    #[unsafe(no_mangle)]
    pub extern "C" fn hybrid_inject_panic(places: i64) -> i64 {
        LEFT.replace(places)
    }
}

#[cfg(hybrid_inject)]
pub use on::point;

#[cfg(not(hybrid_inject))]
pub fn point() {}

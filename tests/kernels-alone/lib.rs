//! `src/slm/kernels` at the module path that it has in the library.

#[path = "../../src/error.rs"]
pub mod error;

#[path = "../../src/slm"]
pub mod slm {
    #[path = "kernels/mod.rs"]
    pub mod kernels;
}

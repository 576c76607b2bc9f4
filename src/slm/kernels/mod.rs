//! Quantised matmul, attention and their helpers: the hot loops. Unsafe is allowed here only.
#![allow(unsafe_code)]

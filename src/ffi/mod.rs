//! The C boundary, nothing else.
#![allow(unsafe_code)]

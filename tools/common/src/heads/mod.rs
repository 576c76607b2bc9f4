//! A reward head's data and figures: records as a table, linear heads, their scale, their files.
//! Read top-down: `dataset`, `tables`, `platt`, `linear`, `onnx`, `metrics`, `calibration`,
//! `head_file`.

pub mod calibration;
pub mod dataset;
pub mod head_file;
pub mod linear;
pub mod metrics;
pub mod onnx;
pub mod platt;
pub mod tables;
pub mod testing;

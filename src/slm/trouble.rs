//! tract's failures, as errors of ours.

use hybrid_kernels as kernels;

use crate::error::Error;

/// A failure of tract about the graph file, as our error. Errors of ours keep their kind.
pub fn in_graph(error: anyhow::Error) -> Error {
    ours(error).unwrap_or_else(|error| Error::Bundle(format!("graph.onnx: {error:#}")))
}

/// A failure of tract while running, as our error. Errors of ours keep their kind.
pub fn in_run(error: anyhow::Error) -> Error {
    ours(error).unwrap_or_else(|error| Error::Model(format!("{error:#}")))
}

/// The library's or the kernels' error that tract passed on, if it is one.
fn ours(error: anyhow::Error) -> std::result::Result<Error, anyhow::Error> {
    error.downcast::<Error>().or_else(|error| Ok(error.downcast::<kernels::Error>()?.into()))
}

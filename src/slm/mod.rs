//! The small language model on tract.
//!
//! [`Slm`] is a loaded graph, [`SlmState`] one sequence on it. `packed` graphs consist of our ops
//! on mapped weights; `plain` graphs are exports run by tract's own ops. Everything that holds for
//! both (chunks, context limit, all or nothing) is in `sequence`; it also says how states go back
//! whose caches do not keep everything.

use crate::bundle::{Bundle, FileRole, GraphKind};
use crate::error::{Error, Result};

mod dimensions;
mod marks;
mod packed;
mod perplexity;
#[cfg(feature = "plain")]
mod plain;
mod sequence;
mod state;
mod trouble;

use dimensions::Dimensions;
pub use hybrid_kernels as kernels;
use kernels::{Kernels, Pool};
use packed::PackedSlm;
pub use perplexity::{Perplexity, perplexity};
#[cfg(feature = "plain")]
use plain::PlainSlm;
use sequence::Sequence;
pub use state::{EXACT, Output, Rows, SlmState};

/// A loaded model, shared by any number of states.
pub struct Slm {
    graph: Graph,
    dimensions: Dimensions,
}

enum Graph {
    Packed(PackedSlm),
    #[cfg(feature = "plain")]
    Plain(PlainSlm),
}

impl Slm {
    /// Parses, checks and plans the graph. The weights of a packed graph stay mapped.
    ///
    /// `threads`: how many compute a `feed` of a packed graph, the caller's included, at most
    /// [`Pool::MAX_THREADS`]; 0 and 1: the caller's alone. The others live as long as the `Slm` and
    /// its states. They help one state at a time; another one that is fed meanwhile computes alone.
    /// Results are the same to the last bit. A plain graph runs on the caller's thread.
    ///
    /// Errors: [`Error::Bundle`] for a damaged graph or one that is not the manifest's;
    /// [`Error::Unsupported`] for an input of a plain export that is not known;
    /// [`Error::InvalidArgument`] for too many threads; [`Error::Model`] when the system refuses
    /// one.
    pub fn open(bundle: &Bundle, threads: usize) -> Result<Slm> {
        Pool::check(threads)?;
        let dimensions = Dimensions::of(bundle)?;
        // tract is known to panic on some damaged graphs; here that is a damaged bundle.
        let load = || load_graph(bundle, dimensions, threads);
        let graph =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)).unwrap_or_else(|_| {
                Err(Error::Bundle("graph.onnx: the graph makes tract panic".into()))
            })?;
        Ok(Slm { graph, dimensions })
    }

    /// Makes states that are spawned from now on compute with these kernels instead of the best
    /// ones, so that tests can try every kernel. A plain graph runs on tract's own.
    pub fn set_kernels(&mut self, kernels: &'static Kernels) {
        match &mut self.graph {
            Graph::Packed(slm) => slm.set_kernels(kernels),
            #[cfg(feature = "plain")]
            Graph::Plain(_) => {}
        }
    }

    /// `context`: tokens the state can hold; 0 means the model's own limit. A packed graph's cache
    /// takes memory as tokens come.
    ///
    /// Errors: [`Error::InvalidArgument`] for more than the model's limit.
    pub fn spawn(&self, context: usize) -> Result<Box<dyn SlmState>> {
        let limit = self.dimensions.context;
        if context > limit {
            return Err(Error::InvalidArgument(format!(
                "a context of {context} tokens; the model was made for at most {limit}"
            )));
        }
        let capacity = if context == 0 { limit } else { context };
        Ok(match &self.graph {
            Graph::Packed(slm) => {
                Box::new(Sequence::new(slm.spawn(capacity)?, self.dimensions, capacity))
            }
            #[cfg(feature = "plain")]
            Graph::Plain(slm) => Box::new(Sequence::new(slm.spawn()?, self.dimensions, capacity)),
        })
    }

    pub fn vocabulary_size(&self) -> usize {
        self.dimensions.vocabulary
    }

    pub fn hidden_size(&self) -> usize {
        self.dimensions.hidden_size
    }

    /// The longest context the model was made for.
    pub fn context_limit(&self) -> usize {
        self.dimensions.context
    }
}

fn load_graph(bundle: &Bundle, dimensions: Dimensions, threads: usize) -> Result<Graph> {
    let bytes = bundle.read(FileRole::Graph)?;
    match bundle.manifest().model.graph {
        GraphKind::Packed => {
            PackedSlm::load(&bytes, bundle.weights()?, dimensions, threads).map(Graph::Packed)
        }
        #[cfg(feature = "plain")]
        GraphKind::Plain => PlainSlm::load(&bytes, bundle.dir(), dimensions).map(Graph::Plain),
        #[cfg(not(feature = "plain"))]
        GraphKind::Plain => Err(Error::Unsupported(
            "a plain export: this library was built without them; pack the model's GGUF file"
                .into(),
        )),
    }
}

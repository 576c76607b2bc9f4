//! The small language model on tract.
//!
//! [`Slm`] is a loaded graph, [`SlmState`] one sequence on it. `packed` graphs consist of our ops
//! on mapped weights; `plain` graphs are exports run by tract's own ops. Everything that holds for
//! both (chunks, context limit, all or nothing) is in `sequence`; it also says how states go back
//! whose caches do not keep everything.

use crate::bundle::{Bundle, FileRole, GraphKind};
use crate::cancel::Cancel;
use crate::error::{Error, Result};

mod marks;
mod packed;
mod perplexity;
#[cfg(feature = "plain")]
mod plain;
mod sequence;

pub use hybrid_kernels as kernels;
use kernels::{Kernels, Pool};
use packed::PackedSlm;
pub use perplexity::{Perplexity, perplexity};
#[cfg(feature = "plain")]
use plain::PlainSlm;
use sequence::Sequence;

/// Which rows of a [`Slm::spawn`]ed state's `feed` to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Only the last token's row: what generation needs.
    Last,
    /// One row per token fed: what scoring and perplexity need. Memory: rows × vocabulary × 4
    /// bytes.
    All,
}

/// What the graph computes for the tokens fed, row-major.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// rows × vocabulary; padding ids are `-inf`.
    pub logits: Vec<f32>,
    /// rows × hidden size: the last hidden state, after the final norm.
    pub hidden: Vec<f32>,
}

/// So many of the last tokens that a state was fed can always be forgotten one by one.
pub const EXACT: usize = kernels::ConvCache::SLACK;

/// One sequence's state: the caches of its layers and their length.
pub trait SlmState: Send {
    /// Tokens consumed so far.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens that fit at most.
    fn capacity(&self) -> usize;

    /// Consumes `ids` in chunks, with a cancel check before each and between the graph's nodes. All
    /// or nothing: an error is a [`SlmState::rewind`] to where it was. No ids give an empty output.
    ///
    /// Errors: [`Error::ContextFull`] and [`Error::InvalidArgument`] (an id outside the vocabulary)
    /// before anything is computed; [`Error::Cancelled`]; [`Error::Model`].
    fn feed(&mut self, ids: &[u32], rows: Rows, cancel: &Cancel) -> Result<Output>;

    /// Forgets the last `n` tokens. Fails when there are fewer.
    ///
    /// Where the caches do not keep everything, more may be forgotten: see [`SlmState::len`], and
    /// feed the others again. The last [`EXACT`] tokens fed are forgotten exactly.
    fn rewind(&mut self, n: usize) -> Result<()>;

    /// A copy that goes on by itself, on any thread.
    ///
    /// Errors: [`Error::Unsupported`] for a state that cannot be copied.
    fn fork(&self) -> Result<Box<dyn SlmState>> {
        Err(Error::Unsupported("this SLM's state cannot be copied".into()))
    }

    /// Bytes that `write_cache` writes for `len` tokens; `None` for a graph whose cache cannot be
    /// kept outside: its tokens are fed again instead.
    fn cache_bytes(&self, _len: usize) -> Option<usize> {
        None
    }

    /// Whether `write_cache` can write `len` tokens now.
    fn holds(&self, len: usize) -> bool {
        len <= self.len()
    }

    /// Writes the cache of the first `len` tokens, which it [`SlmState::holds`], piece by piece.
    fn write_cache(&self, _len: usize, _out: &mut dyn FnMut(&[u8])) {}

    /// Takes `len` tokens from the bytes of `write_cache` of the same graph, in place of all there
    /// is.
    ///
    /// Errors, with nothing changed: [`Error::InvalidArgument`] for another number of bytes,
    /// [`Error::ContextFull`], [`Error::Unsupported`] where `cache_bytes` is `None`.
    fn read_cache(&mut self, _len: usize, _bytes: &[u8]) -> Result<()> {
        Err(sequence::not_kept_outside())
    }
}

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

/// What the manifest says of the graph and the graph must agree with.
#[derive(Debug, Clone, Copy)]
struct Dimensions {
    layers: usize,
    #[cfg(feature = "plain")]
    kv_heads: usize,
    #[cfg(feature = "plain")]
    head_dim: usize,
    hidden_size: usize,
    vocabulary: usize,
    /// Ids at and above this one are padding.
    usable: usize,
    context: usize,
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

impl Dimensions {
    fn of(bundle: &Bundle) -> Result<Dimensions> {
        let model = &bundle.manifest().model;
        let usable = bundle.manifest().tokens.usable;
        let sizes = [
            model.layers,
            model.kv_heads,
            model.head_dim,
            model.hidden_size,
            usable,
            model.context,
        ];
        if sizes.contains(&0) || usable > model.vocabulary {
            return Err(Error::Bundle(
                "bundle.json: a size of the model is zero or usable exceeds the vocabulary".into(),
            ));
        }
        Ok(Dimensions {
            layers: model.layers,
            #[cfg(feature = "plain")]
            kv_heads: model.kv_heads,
            #[cfg(feature = "plain")]
            head_dim: model.head_dim,
            hidden_size: model.hidden_size,
            vocabulary: model.vocabulary,
            usable,
            context: model.context,
        })
    }
}

/// A failure of tract about the graph file, as our error. Errors of ours keep their kind.
fn in_graph(error: anyhow::Error) -> Error {
    ours(error).unwrap_or_else(|error| Error::Bundle(format!("graph.onnx: {error:#}")))
}

/// A failure of tract while running, as our error. Errors of ours keep their kind.
fn in_run(error: anyhow::Error) -> Error {
    ours(error).unwrap_or_else(|error| Error::Model(format!("{error:#}")))
}

/// The library's or the kernels' error that tract passed on, if it is one.
fn ours(error: anyhow::Error) -> std::result::Result<Error, anyhow::Error> {
    error.downcast::<Error>().or_else(|error| Ok(error.downcast::<kernels::Error>()?.into()))
}

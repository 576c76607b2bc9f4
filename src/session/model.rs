//! What sessions are made on.

use std::path::Path;
use std::sync::Arc;

use crate::bundle::{Blob, Bundle, Checks, Progress, PublicKey, Verify};
use crate::error::Result;
use crate::reward::{HeadPlan, load_head};
use crate::slm::Slm;
use crate::slm::kernels::Kernels;
use crate::tokens::{ChatTemplate, Tokens};

/// How a model is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelOptions {
    pub verify: Verify,
    /// See [`Checks::public_key`].
    pub public_key: Option<PublicKey>,
    /// How many threads compute, the caller's included; 0 and 1: the caller's alone. See
    /// [`Slm::open`].
    pub threads: usize,
    /// See [`Slm::set_kernels`]; `None`: the best for this CPU.
    pub kernels: Option<&'static Kernels>,
}

impl ModelOptions {
    fn checks(&self) -> Checks {
        Checks { verify: self.verify, public_key: self.public_key }
    }
}

/// How [`Model::tokenize`] reads a text. By default every character is plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokenize {
    /// Puts the `bos` in front that the model wants at the beginning of a context, if it wants one.
    pub add_bos: bool,
    /// Names of control tokens, such as `<|im_end|>`, become control tokens.
    pub control: bool,
}

/// A bundle loaded for use: shared by sessions and threads.
pub struct Model {
    pub bundle: Bundle,
    pub slm: Slm,
    pub tokens: Arc<Tokens>,
    pub chat_template: Option<Arc<ChatTemplate>>,
    pub head: Option<HeadPlan>,
}

impl Model {
    /// Opens the bundle in `dir`; the errors are those of [`Bundle::open`] and
    /// [`Model::from_bundle`].
    pub fn open(dir: &Path, options: ModelOptions) -> Result<Model> {
        Model::open_with(dir, options, &mut |_, _| true)
    }

    /// As [`Model::open`], and [`crate::Error::Cancelled`]. `progress` follows the hashing, which
    /// takes the most time, and ends before the graph is loaded.
    pub fn open_with(dir: &Path, options: ModelOptions, progress: &mut Progress) -> Result<Model> {
        let bundle = Bundle::open_with_progress(dir, options.checks(), progress)?;
        Model::with(bundle, options)
    }

    /// Opens a bundle in memory; the errors are those of [`Bundle::from_memory`] and
    /// [`Model::from_bundle`].
    pub fn open_memory(
        files: Vec<(String, Blob)>,
        options: ModelOptions,
        progress: &mut Progress,
    ) -> Result<Model> {
        let bundle = Bundle::from_memory(files, options.checks(), progress)?;
        Model::with(bundle, options)
    }

    fn with(bundle: Bundle, options: ModelOptions) -> Result<Model> {
        let mut model = Model::from_bundle(bundle, options.threads)?;
        if let Some(kernels) = options.kernels {
            model.slm.set_kernels(kernels);
        }
        Ok(model)
    }

    /// Loads what an opened bundle holds. `threads`: see [`Slm::open`], whose errors this has,
    /// besides those of [`Tokens::open`], [`ChatTemplate::open`] and [`load_head`].
    pub fn from_bundle(bundle: Bundle, threads: usize) -> Result<Model> {
        let tokens = Tokens::open(&bundle)?;
        let chat_template = ChatTemplate::open(&bundle, &tokens)?.map(Arc::new);
        let head = load_head(&bundle)?;
        let slm = Slm::open(&bundle, threads)?;
        Ok(Model { bundle, slm, tokens: Arc::new(tokens), chat_template, head })
    }

    /// The tokens of `text`.
    ///
    /// Errors: those of [`Tokens::encode`].
    pub fn tokenize(&self, text: &str, how: Tokenize) -> Result<Vec<u32>> {
        let ids = self.tokens.encode(text, how.control)?;
        Ok(if how.add_bos { self.tokens.with_bos(ids) } else { ids })
    }

    /// How many tokens [`Model::tokenize`] gives.
    pub fn count_tokens(&self, text: &str, how: Tokenize) -> Result<usize> {
        Ok(self.tokenize(text, how)?.len())
    }

    /// The exact bytes of tokens, which may end within a character. `control`: control tokens have
    /// their names as text; otherwise they have none.
    ///
    /// Errors: [`crate::Error::InvalidArgument`] for an id that is no token.
    pub fn detokenize(&self, ids: &[u32], control: bool) -> Result<Vec<u8>> {
        self.tokens.check(ids)?;
        Ok(match control {
            true => {
                ids.iter().flat_map(|&id| self.tokens.bytes_with_special(id)).copied().collect()
            }
            false => self.tokens.bytes_of(ids),
        })
    }
}

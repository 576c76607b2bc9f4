//! What sessions are made on.

use std::path::Path;
use std::sync::Arc;

use crate::bundle::{Bundle, Verify};
use crate::error::Result;
use crate::slm::Slm;
use crate::slm::kernels::Kernels;
use crate::tokens::{ChatTemplate, Tokens};

/// How a model is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelOptions {
    pub verify: Verify,
    /// How many threads compute, the caller's included; 0 and 1: the caller's alone. See
    /// [`Slm::open`].
    pub threads: usize,
    /// See [`Slm::set_kernels`]; `None`: the best for this CPU.
    pub kernels: Option<&'static Kernels>,
}

/// A bundle loaded for use: shared by sessions and threads.
pub struct Model {
    pub bundle: Bundle,
    pub slm: Slm,
    pub tokens: Arc<Tokens>,
    pub chat_template: Option<Arc<ChatTemplate>>,
}

impl Model {
    /// Opens the bundle in `dir`; the errors are those of [`Bundle::open`] and
    /// [`Model::from_bundle`].
    pub fn open(dir: &Path, options: ModelOptions) -> Result<Model> {
        let bundle = Bundle::open(dir, options.verify)?;
        let mut model = Model::from_bundle(bundle, options.threads)?;
        if let Some(kernels) = options.kernels {
            model.slm.set_kernels(kernels);
        }
        Ok(model)
    }

    /// Loads what an opened bundle holds. `threads`: see [`Slm::open`], whose errors this has, besides
    /// those of [`Tokens::open`] and [`ChatTemplate::open`].
    pub fn from_bundle(bundle: Bundle, threads: usize) -> Result<Model> {
        let tokens = Tokens::open(&bundle)?;
        let chat_template = ChatTemplate::open(&bundle, &tokens)?.map(Arc::new);
        let slm = Slm::open(&bundle, threads)?;
        Ok(Model { bundle, slm, tokens: Arc::new(tokens), chat_template })
    }
}

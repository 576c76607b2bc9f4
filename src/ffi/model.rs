//! Model
//!
//! A hybrid_model is a bundle loaded for use: graph, weights (mapped, not copied), vocabulary and
//! reward head. It never changes, and any number of threads and sessions share one.

use std::ffi::{CString, c_char};
use std::sync::Arc;

use super::boundary::{Result, enter, enter_void};
use super::objects::{self, hybrid_model};
use super::pointers;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use crate::bundle::Verify;
use crate::session::{Model, ModelOptions};
use crate::slm::kernels::Kernels;

/// How much of a bundle is hashed when it is opened. Sizes are always checked.
pub type hybrid_verify = i32;

/// Every file.
pub const HYBRID_VERIFY_ALL: hybrid_verify = 0;
/// Every file but the weights, for storage that is verified otherwise: opens faster.
pub const HYBRID_VERIFY_ALL_BUT_WEIGHTS: hybrid_verify = 1;

/// How to open a bundle.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_model_options {
    pub struct_size: usize,
    /// Default: HYBRID_VERIFY_ALL.
    pub verify: hybrid_verify,
    /// How many threads compute, the caller's included, 0 to 64; see chapter *Threads* above. 0 and
    /// 1: the caller's alone. As many as the board has fast cores is a good choice. A plain ONNX export
    /// uses one in any case. Default: 0.
    pub threads: u32,
    /// The kernels to compute with, for tests: one of those that hybrid_build_info lists. NULL: the
    /// first of them, the best for this CPU. Default: NULL.
    pub kernels: *const c_char,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_model_options {
    const NAME: &'static str = "hybrid_model_options";
    const FIRST: usize = end_of!(Self, kernels);
    fn neutral() -> Self {
        hybrid_model_options {
            struct_size: size_of::<Self>(),
            verify: HYBRID_VERIFY_ALL,
            threads: 0,
            kernels: std::ptr::null(),
        }
    }
}

/// What a model is. Strings are borrowed until hybrid_model_free.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_model_info {
    pub struct_size: usize,
    pub name: *const c_char,
    /// For example "llama" or "qwen2".
    pub architecture: *const c_char,
    /// The cloud LLM whose agreement the reward head predicts; "" without a head.
    pub reward_cloud_model: *const c_char,
    pub parameters: u64,
    /// Tokens of the vocabulary.
    pub vocabulary: u64,
    /// Tokens of the longest context.
    pub context: u64,
    pub layers: u32,
    pub hidden_size: u32,
    /// 1: the bundle has a reward head. 0: HYBRID_SCORE_AUTO means HYBRID_SCORE_MAX_PROBABILITY.
    pub has_reward: i32,
    /// 1: hybrid_session_chat works.
    pub has_chat_template: i32,
    /// The threshold of sessions that name none.
    pub default_threshold: f32,
    /// 0.
    pub reserved: i32,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_model_info {
    const NAME: &'static str = "hybrid_model_info";
    const FIRST: usize = end_of!(Self, reserved);
    fn neutral() -> Self {
        let none = c"".as_ptr();
        hybrid_model_info {
            struct_size: size_of::<Self>(),
            name: none,
            architecture: none,
            reward_cloud_model: none,
            parameters: 0,
            vocabulary: 0,
            context: 0,
            layers: 0,
            hidden_size: 0,
            has_reward: 0,
            has_chat_template: 0,
            default_threshold: 0.0,
            reserved: 0,
        }
    }
}

/// Sets the defaults. `struct_size` is `sizeof(hybrid_model_options)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_options_init(
    options: *mut hybrid_model_options,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(options, struct_size, "options") })
}

/// Opens the bundle in the directory `path`, checks it and loads its graph. Takes a moment: most
/// of it is hashing. `options` may be NULL for the defaults. `out`: owned, free it with
/// hybrid_model_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_open(
    path: *const c_char,
    options: *const hybrid_model_options,
    out: *mut *mut hybrid_model,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::out(out, "out", std::ptr::null_mut()) }?;
        // SAFETY: header rule *Strings*.
        let path = unsafe { pointers::path(path, "path") }?;
        // SAFETY: header rule *Structs that grow*.
        let options = unsafe { sized::read(options, "options") }?;
        // SAFETY: header rule *Strings*.
        let kernels = unsafe { pointers::optional_string(options.kernels, "options.kernels") }?;
        let model = Model::open(&path, options.parse(kernels)?)?;
        *out = objects::give(hybrid_model::new(model));
        Ok(())
    })
}

/// Frees the model; sessions that use it keep it alive. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_free(model: *mut hybrid_model) {
    // SAFETY: header rule *Ownership*.
    enter_void(|| unsafe { objects::free(model) });
}

/// Describes the model. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_describe(
    model: *const hybrid_model,
    out: *mut hybrid_model_info,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let model = unsafe { pointers::reference(model, "model") }?;
        out.set(model.info());
        Ok(())
    })
}

impl hybrid_model {
    fn new(model: Model) -> hybrid_model {
        let manifest = model.bundle.manifest();
        let reward = manifest.reward.as_ref();
        hybrid_model {
            name: c_string(&manifest.model.name),
            architecture: c_string(&manifest.model.architecture),
            reward_cloud_model: c_string(reward.map_or("", |reward| &reward.cloud_model)),
            model: Arc::new(model),
        }
    }

    fn info(&self) -> hybrid_model_info {
        let manifest = self.model.bundle.manifest();
        hybrid_model_info {
            struct_size: size_of::<hybrid_model_info>(),
            name: self.name.as_ptr(),
            architecture: self.architecture.as_ptr(),
            reward_cloud_model: self.reward_cloud_model.as_ptr(),
            parameters: manifest.model.parameters,
            vocabulary: manifest.model.vocabulary as u64,
            context: manifest.model.context as u64,
            layers: manifest.model.layers as u32,
            hidden_size: manifest.model.hidden_size as u32,
            has_reward: manifest.reward.is_some().into(),
            has_chat_template: self.model.chat_template.is_some().into(),
            default_threshold: manifest.reward.as_ref().map_or(0.5, |r| r.default_threshold),
            reserved: 0,
        }
    }
}

/// A manifest's text for C; it ends at a NUL.
fn c_string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

impl hybrid_model_options {
    /// The checked form of the core, which checks the number of threads.
    fn parse(&self, kernels: Option<&str>) -> Result<ModelOptions> {
        Ok(ModelOptions {
            verify: verify(self.verify)?,
            threads: self.threads as usize,
            kernels: kernels.map(Kernels::by_name).transpose().map_err(crate::Error::from)?,
        })
    }
}

fn verify(value: hybrid_verify) -> Result<Verify> {
    match value {
        HYBRID_VERIFY_ALL => Ok(Verify::All),
        HYBRID_VERIFY_ALL_BUT_WEIGHTS => Ok(Verify::AllButWeights),
        other => Err(pointers::bad(format!("options.verify is {other}; it is a HYBRID_VERIFY_"))),
    }
}

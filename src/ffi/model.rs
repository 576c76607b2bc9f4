//! Model
//!
//! A hybrid_model is a bundle loaded for use: graph, weights (mapped, not copied), vocabulary and
//! reward head. It never changes. Any number of threads and sessions share one.

use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use super::boundary::{enter, enter_void};
use super::fault::Result;
use super::numbers::{Number, mirror};
use super::objects::{self, hybrid_model};
use super::pointers;
use super::sized::{self, SizedStruct, end_of};
use super::stack;
use super::status::hybrid_status;
use crate::bundle::{Blob, PublicKey, Verify};
use crate::session::{Model, ModelOptions};
use crate::slm::kernels::Kernels;

/// How much of a bundle is hashed when it is opened. Sizes are always checked.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum hybrid_verify {
    /// Every file.
    All = 0,
    /// Every file but the weights, which opens faster. For storage that is verified otherwise.
    AllButWeights = 1,
}
mirror!(hybrid_verify = Verify { All, AllButWeights });

/// Hears how opening a model gets on: `done` of `total` bytes are hashed. Later releases may count
/// other work too. Return 0 to continue; with anything else the call ends with
/// HYBRID_ERR_CANCELLED. See the chapter *Callbacks*.
pub type hybrid_progress_callback =
    Option<unsafe extern "C" fn(done: u64, total: u64, user: *mut c_void) -> i32>;

/// How to open a bundle.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_model_options {
    /// sizeof(hybrid_model_options).
    pub struct_size: usize,
    /// Default: HYBRID_VERIFY_ALL.
    pub verify: Number<hybrid_verify>,
    /// How many threads compute, the caller's included, 0 to 64; see the chapter *Threads*. 0 and
    /// 1: only the caller's. The number of fast cores of the board is a good choice. A plain ONNX
    /// export always uses one. Default: 0.
    pub threads: u32,
    /// The kernels to compute with, for tests: one of those that hybrid_build_info lists. NULL: the
    /// first of them, the best for this CPU. Default: NULL.
    pub kernels: *const c_char,
    /// Called while files are hashed, at least once per MiB or file. Default: NULL, not called.
    pub progress: hybrid_progress_callback,
    /// Passed to `progress`. Default: NULL.
    pub progress_user: *mut c_void,
    /// The ed25519 key that the bundle must be signed by: the PEM that `openssl pkey -pubout`
    /// prints, or its line of 60 characters. A bundle without a signature or with another one is
    /// HYBRID_ERR_BUNDLE, before anything of it is parsed. The signature is of the hashes of all
    /// files; those that `verify` leaves out are not compared with it. Default: NULL, the bundle
    /// may come from anybody.
    pub public_key: *const c_char,
}

// SAFETY: C layout, plain numbers and pointers; a callback is a pointer that may be NULL.
unsafe impl SizedStruct for hybrid_model_options {
    const NAME: &'static str = "hybrid_model_options";
    const FIRST: usize = end_of!(Self, progress_user);
    fn neutral() -> Self {
        hybrid_model_options {
            struct_size: size_of::<Self>(),
            verify: Number::of(Verify::default()),
            threads: 0,
            kernels: std::ptr::null(),
            progress: None,
            progress_user: std::ptr::null_mut(),
            public_key: std::ptr::null(),
        }
    }
}

/// A file of a bundle in memory. Its fields are final.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_bundle_file {
    /// Its name in the bundle's directory, for example "bundle.json" or "weights.bin".
    pub name: *const c_char,
    /// Its content. That of the weights must be at an address that is a multiple of 64.
    pub data: *const u8,
    /// Bytes of `data`.
    pub size: usize,
}

/// hybrid_model_info.features: the model has a chat template, so hybrid_session_chat works.
pub const HYBRID_FEATURE_CHAT: u32 = 1;
/// hybrid_model_info.features: the bundle has a reward head. Without one, HYBRID_SCORE_AUTO means
/// HYBRID_SCORE_MAX_PROBABILITY.
pub const HYBRID_FEATURE_REWARD: u32 = 2;

/// What a model is. Strings are borrowed until hybrid_model_free.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_model_info {
    /// sizeof(hybrid_model_info).
    pub struct_size: usize,
    /// The model's name.
    pub name: *const c_char,
    /// For example "llama" or "qwen2".
    pub architecture: *const c_char,
    /// The cloud LLM whose agreement the reward head predicts; "" without a head.
    pub reward_cloud_model: *const c_char,
    /// Number of parameters.
    pub parameters: u64,
    /// Tokens of the vocabulary.
    pub vocabulary: u64,
    /// Tokens of the longest context.
    pub context: u64,
    /// Number of layers.
    pub layers: u32,
    /// Size of a hidden state.
    pub hidden_size: u32,
    /// HYBRID_FEATURE_ bits. Later releases may set others.
    pub features: u32,
    /// The threshold of HYBRID_THRESHOLD_BY_DEFAULT; 0.5 without a reward head.
    pub default_threshold: f32,
}

// SAFETY: C layout, plain numbers and pointers.
unsafe impl SizedStruct for hybrid_model_info {
    const NAME: &'static str = "hybrid_model_info";
    const FIRST: usize = end_of!(Self, default_threshold);
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
            features: 0,
            default_threshold: 0.0,
        }
    }
}

/// Sets the defaults. `struct_size` is sizeof(hybrid_model_options).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_options_init(
    options: *mut hybrid_model_options,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(options, struct_size, "options") })
}

/// Opens the bundle in the directory `path`, checks it and loads its graph. This takes a moment,
/// most of it for hashing. The files must stay and not change until the model and all its sessions
/// are freed: the weights are mapped. `options` may be NULL for the defaults. `out`: owned; free it
/// with hybrid_model_free.
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
        // SAFETY: header rules *Strings* and *Callbacks*.
        let (parsed, mut progress) = unsafe { options.parse() }?;
        stack::check()?;
        let model = Model::open_with(&path, parsed, &mut progress)?;
        *out = objects::give(hybrid_model::new(model));
        Ok(())
    })
}

/// As hybrid_model_open, for a bundle that is in memory, such as firmware's flash: its `count`
/// files in any order, bundle.json among them. The library uses the weights where they are: the
/// content of `files` is borrowed from you, and must stay and not change until the model and all
/// its sessions are freed. The array itself and the names are copied. HYBRID_ERR_INVALID_ARGUMENT:
/// also for weights that are not aligned to 64 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_model_open_memory(
    files: *const hybrid_bundle_file,
    count: usize,
    options: *const hybrid_model_options,
    out: *mut *mut hybrid_model,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*.
        let out = unsafe { pointers::out(out, "out", std::ptr::null_mut()) }?;
        // SAFETY: header rule *Pointers*: `count` elements are readable.
        let files = unsafe { pointers::slice(files, count, "files") }?;
        // SAFETY: header rule *Pointers*, and the promise of this function: valid while used.
        let read = |file| unsafe { read_file(file) };
        let files = files.iter().map(read).collect::<Result<Vec<_>>>()?;
        // SAFETY: header rule *Structs that grow*.
        let options = unsafe { sized::read(options, "options") }?;
        // SAFETY: header rules *Strings* and *Callbacks*.
        let (parsed, mut progress) = unsafe { options.parse() }?;
        stack::check()?;
        let model = Model::open_memory(files, parsed, &mut progress)?;
        *out = objects::give(hybrid_model::new(model));
        Ok(())
    })
}

/// Frees the model. Sessions that use it keep it alive. NULL is ignored.
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
        let feature = |bit, has: bool| if has { bit } else { 0 };
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
            features: feature(HYBRID_FEATURE_CHAT, self.model.chat_template.is_some())
                | feature(HYBRID_FEATURE_REWARD, manifest.reward.is_some()),
            default_threshold: manifest.reward.as_ref().map_or(0.5, |r| r.default_threshold),
        }
    }
}

/// A manifest's text for C; it ends at a NUL.
fn c_string(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

impl hybrid_model_options {
    /// The checked form of the core, which checks the number of threads; and who hears of progress.
    ///
    /// # Safety
    /// Header rules *Strings*, for `kernels` and `public_key`, and *Callbacks*.
    unsafe fn parse(&self) -> Result<(ModelOptions, impl FnMut(u64, u64) -> bool)> {
        // SAFETY: header rule *Strings*.
        let kernels = unsafe { pointers::optional_string(self.kernels, "options.kernels") }?;
        // SAFETY: header rule *Strings*.
        let key = unsafe { pointers::optional_string(self.public_key, "options.public_key") }?;
        let options = ModelOptions {
            verify: self.verify.get("options.verify")?,
            public_key: key.map(PublicKey::parse).transpose()?,
            threads: self.threads as usize,
            kernels: kernels.map(Kernels::by_name).transpose().map_err(crate::Error::from)?,
        };
        let (callback, user) = (self.progress, self.progress_user);
        // SAFETY: header rule *Callbacks*.
        let call = move |done, total| callback.is_none_or(|f| unsafe { f(done, total, user) == 0 });
        Ok((options, call))
    }
}

/// # Safety
/// Header rules *Strings* and *Pointers*, for as long as the model lives.
unsafe fn read_file(file: &hybrid_bundle_file) -> Result<(String, Blob)> {
    // SAFETY: the caller's rule *Strings*.
    let name = unsafe { pointers::string(file.name, "name of a file") }?;
    // SAFETY: the caller's rule *Pointers*.
    let data: &'static [u8] = unsafe { pointers::slice(file.data, file.size, "data of a file") }?;
    Ok((name.to_owned(), Blob::new(data)))
}

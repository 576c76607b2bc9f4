//! Sampling
//!
//! How the SLM chooses its candidate. Without these settings it is greedy: it takes the likeliest
//! token.

use super::boundary::enter;
use super::objects::hybrid_session;
use super::pointers;
use super::session::with;
use super::sized::{self, SizedStruct, end_of};
use super::status::hybrid_status;
use crate::sampler::Sampling;

/// How the SLM draws a token. The order is: logit bias, repetition penalty, temperature, `min_p`,
/// `top_k`, `top_p`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_sampling {
    /// sizeof(hybrid_sampling).
    pub struct_size: usize,
    /// 0 is greedy; higher values draw less likely tokens more often. 0 to 100. Default: 0.
    pub temperature: f32,
    /// Keep the k likeliest tokens. 0 keeps all. Default: 0.
    pub top_k: u32,
    /// Keep the smallest set of tokens with this much probability, over 0 to 1. 1 keeps all.
    /// Default: 1.
    pub top_p: f32,
    /// Keep tokens with at least this share of the likeliest one's probability, 0 to under 1. 0
    /// keeps all. Default: 0.
    pub min_p: f32,
    /// Makes recent tokens less likely. 1 is off. Over 0 to 100. Default: 1.
    pub repetition_penalty: f32,
    /// How many recent tokens the penalty looks at. Default: 64.
    pub repetition_window: u32,
}

// SAFETY: C layout, plain numbers.
unsafe impl SizedStruct for hybrid_sampling {
    const NAME: &'static str = "hybrid_sampling";
    const FIRST: usize = end_of!(Self, repetition_window);
    fn neutral() -> Self {
        Sampling::default().into()
    }
}

/// A change to one token's logit. Its fields are final.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hybrid_logit_bias {
    /// The token's id.
    pub token: u32,
    /// Added to its logit. -INFINITY: the SLM never writes the token. NaN and +INFINITY are
    /// refused.
    pub bias: f32,
}

/// Sets the defaults. `struct_size` is sizeof(hybrid_sampling).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_sampling_init(
    sampling: *mut hybrid_sampling,
    struct_size: usize,
) -> hybrid_status {
    // SAFETY: header rule *Structs that grow*.
    enter(|| unsafe { sized::init(sampling, struct_size, "sampling") })
}

/// Sets how the session samples from the next candidate on. The random generator goes on: it starts
/// from hybrid_session_options.seed, once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_sampling(
    session: *mut hybrid_session,
    sampling: *const hybrid_sampling,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let sampling = unsafe { sized::read_required(sampling, "sampling") }?;
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, |c| c.session.set_sampling(sampling.into())) }
    })
}

/// Reads how the session samples. Set `out->struct_size` before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_get_sampling(
    session: *mut hybrid_session,
    out: *mut hybrid_sampling,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Structs that grow*.
        let out = unsafe { sized::out(out, "out") }?;
        // SAFETY: header rule *Pointers*.
        let sampling = unsafe { with(session, |c| Ok(c.session.sampling())) }?;
        out.set(sampling.into());
        Ok(())
    })
}

/// Sets the session's logit biases, `count` of them, in place of those before; 0 takes them all
/// away. Sampling and scores both see the changed logits, hybrid_step_details.logprobs do not.
/// HYBRID_ERR_INVALID_ARGUMENT: an id is not in the vocabulary or occurs twice, or a bias is NaN or
/// +INFINITY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_logit_bias(
    session: *mut hybrid_session,
    biases: *const hybrid_logit_bias,
    count: usize,
) -> hybrid_status {
    enter(|| {
        // SAFETY: header rule *Pointers*: `count` elements are readable.
        let biases = unsafe { pointers::slice(biases, count, "biases") }?;
        let biases: Vec<_> = biases.iter().map(|one| (one.token, one.bias)).collect();
        // SAFETY: header rule *Pointers*.
        unsafe { with(session, |c| c.session.set_logit_bias(&biases)) }
    })
}

/// Sets how many of the likeliest tokens each step reports beside the kept one, 0 (off) to 8; see
/// hybrid_step_details.logprobs. A session starts with 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hybrid_session_set_top_logprobs(
    session: *mut hybrid_session,
    count: u32,
) -> hybrid_status {
    // SAFETY: header rule *Pointers*.
    enter(|| unsafe { with(session, |c| c.session.set_top_logprobs(count)) })
}

impl From<Sampling> for hybrid_sampling {
    fn from(sampling: Sampling) -> hybrid_sampling {
        hybrid_sampling {
            struct_size: size_of::<hybrid_sampling>(),
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            repetition_window: sampling.repetition_window,
        }
    }
}

impl From<hybrid_sampling> for Sampling {
    fn from(sampling: hybrid_sampling) -> Sampling {
        Sampling {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            repetition_window: sampling.repetition_window,
        }
    }
}

//! Model families as GGUF names them: what each computes, as a row of a table. `reader` reads a
//! file by its row.

use anyhow::{Result, bail};

use super::gguf::{Metadata, required};
use super::plan::Activation;

/// What the models of one `general.architecture` compute. What a file may have or not, such as
/// biases, an output matrix or one matrix for q, k and v, follows from its tensors.
pub struct Family {
    pub name: &'static str,
    pub pairs: Pairs,
    pub norm: NormKind,
    pub places: Places,
    pub head_norm: HeadNorms,
    pub parallel: Parallel,
    pub gate: Gate,
    pub activation: Activation,
    pub scales: Scales,
    pub no_rope: NoRope,
    pub local: Local,
}

/// Which values of a head RoPE turns together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    Neighbours,
    Halves,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    Rms,
    /// A LayerNorm, with biases where the file has them.
    Layer,
    /// A LayerNorm without weights.
    Bare,
}

/// The names of the norms before and after attention and feed-forward network, where there are any,
/// and of the one before the output.
#[derive(Clone, Copy)]
pub struct Places {
    pub attention: Option<&'static str>,
    pub attention_post: Option<&'static str>,
    pub ffn: Option<&'static str>,
    pub ffn_post: Option<&'static str>,
    pub last: &'static str,
}

/// RMS norms of queries and keys, a head at a time or all heads as the file's vectors are long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum HeadNorms {
    None,
    BeforeRope,
    AfterRope,
}

/// Whether attention and feed-forward network read the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Parallel {
    No,
    Yes,
    /// Where the file has no norm for the feed-forward network.
    WithoutNorm,
    /// As `use_parallel_residual` says.
    Key,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `ffn_gate` beside `ffn_up`.
    Own,
    /// The first half of `ffn_up`.
    InUp,
    None,
}

#[derive(Clone, Copy)]
pub struct Scales {
    pub embedding: EmbeddingScale,
    /// `residual_scale` multiplies what is added to the residual.
    pub residual: bool,
    pub logits: LogitScale,
    /// Soft caps of attention's scores and of logits where the file has none.
    pub soft_caps: [Option<f32>; 2],
    /// Whether the scales above must be in the file: older files mean others where they have none.
    pub stated: bool,
    /// Models with this many layers scale scores by 1 / √(hidden / heads), whatever their heads'
    /// size.
    pub by_hidden_at: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingScale {
    None,
    /// √hidden
    Root,
    /// `embedding_scale`
    Key,
}

/// What logits do with `logit_scale`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum LogitScale {
    Times,
    Over,
}

/// Layers that do not turn queries and keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NoRope {
    Never,
    /// Every n-th layer.
    Every(usize),
    /// Those that see everything, where others see a window.
    Global,
    /// All, where `rope.scaling.finetuned` is false.
    Unfinetuned,
}

/// Layers that see only a window: all layers if the file has a window and there is no `period`.
#[derive(Clone, Copy)]
pub struct Local {
    /// Every n-th layer sees everything, unless `attention.sliding_window_pattern` says otherwise.
    pub period: Option<usize>,
    /// The window of files that do not say.
    pub window: Option<usize>,
    /// RoPE's base in these layers, unless `rope.freq_base_swa` says otherwise; else the others'.
    pub base: Option<f32>,
    /// Whether RoPE is scaled there too.
    pub scaled: bool,
}

use EmbeddingScale::Root;
use HeadNorms::{AfterRope, BeforeRope};
use NormKind::{Bare, Layer};
use Pairs::{Halves, Neighbours};

/// The family that all others are described by their differences from.
const LLAMA: Family = Family {
    name: "llama",
    pairs: Neighbours,
    norm: NormKind::Rms,
    places: Places {
        attention: Some("attn_norm"),
        attention_post: None,
        ffn: Some("ffn_norm"),
        ffn_post: None,
        last: "output_norm",
    },
    head_norm: HeadNorms::None,
    parallel: Parallel::No,
    gate: Gate::Own,
    activation: Activation::Silu,
    scales: Scales {
        embedding: EmbeddingScale::None,
        residual: false,
        logits: LogitScale::Times,
        soft_caps: [None, None],
        stated: false,
        by_hidden_at: None,
    },
    no_rope: NoRope::Never,
    local: Local { period: None, window: None, base: None, scaled: true },
};

/// Llama with the pairs of most others.
const QWEN2: Family = Family { name: "qwen2", pairs: Halves, ..LLAMA };
const QWEN3: Family = Family { name: "qwen3", head_norm: BeforeRope, ..QWEN2 };
const GRANITE: Family = Family {
    name: "granite",
    scales: Scales {
        embedding: EmbeddingScale::Key,
        residual: true,
        logits: LogitScale::Over,
        ..LLAMA.scales
    },
    no_rope: NoRope::Unfinetuned,
    ..LLAMA
};
const GEMMA: Family = Family {
    name: "gemma",
    activation: Activation::Gelu,
    scales: Scales { embedding: Root, ..LLAMA.scales },
    ..QWEN2
};
const GEMMA2: Family = Family {
    name: "gemma2",
    places: BOTH_SIDES,
    scales: Scales { soft_caps: [Some(50.0), Some(30.0)], by_hidden_at: Some(46), ..GEMMA.scales },
    local: Local { period: Some(2), window: Some(4096), ..LLAMA.local },
    ..GEMMA
};
const OLMO2: Family = Family {
    name: "olmo2",
    places: Places { attention: None, ffn: None, ..BOTH_SIDES },
    local: Local { period: Some(4), scaled: false, ..LLAMA.local },
    ..QWEN3
};
const STARCODER2: Family = Family {
    name: "starcoder2",
    norm: Layer,
    gate: Gate::None,
    activation: Activation::Gelu,
    ..QWEN2
};
const COMMAND_R: Family = Family {
    name: "command-r",
    norm: Layer,
    places: NO_FFN_NORM,
    parallel: Parallel::Yes,
    ..LLAMA
};
const CHATGLM: Family = Family { name: "chatglm", gate: Gate::InUp, ..LLAMA };

const BOTH_SIDES: Places = Places {
    attention_post: Some("post_attention_norm"),
    ffn_post: Some("post_ffw_norm"),
    ..LLAMA.places
};
const NO_FFN_NORM: Places = Places { ffn: None, ..LLAMA.places };

pub const FAMILIES: &[Family] = &[
    LLAMA,
    QWEN2,
    QWEN3,
    Family { name: "smollm3", no_rope: NoRope::Every(4), ..LLAMA },
    GRANITE,
    GEMMA,
    GEMMA2,
    Family {
        name: "gemma3",
        head_norm: BeforeRope,
        scales: Scales { by_hidden_at: Some(62), ..GEMMA.scales },
        local: Local { period: Some(6), window: None, base: Some(10_000.0), scaled: false },
        ..GEMMA2
    },
    // The file says which layers are convolutions.
    Family { name: "lfm2", places: Places { last: "token_embd_norm", ..LLAMA.places }, ..QWEN3 },
    Family { name: "phi3", gate: Gate::InUp, ..QWEN2 },
    Family { name: "mistral3", ..LLAMA },
    OLMO2,
    Family { name: "exaone", ..QWEN2 },
    Family {
        name: "exaone4",
        no_rope: NoRope::Global,
        local: Local { period: Some(4), ..LLAMA.local },
        ..OLMO2
    },
    Family { name: "internlm2", ..LLAMA },
    Family { name: "ernie4_5", ..LLAMA },
    Family { name: "hunyuan-dense", head_norm: AfterRope, ..QWEN2 },
    CHATGLM,
    Family { name: "glm4", places: BOTH_SIDES, ..CHATGLM },
    Family {
        name: "seed_oss",
        places: Places { ffn: Some("post_attention_norm"), ..LLAMA.places },
        ..QWEN2
    },
    Family { name: "arcee", gate: Gate::None, activation: Activation::ReluSquared, ..LLAMA },
    Family {
        name: "minicpm",
        scales: Scales { stated: true, ..GRANITE.scales },
        no_rope: NoRope::Never,
        ..GRANITE
    },
    Family { name: "qwen", ..QWEN2 },
    Family { name: "qwen2vl", ..QWEN2 },
    Family { name: "xverse", ..LLAMA },
    Family { name: "deci", ..LLAMA },
    Family { name: "openelm", ..QWEN3 },
    Family { name: "maincoder", head_norm: AfterRope, ..LLAMA },
    Family { name: "pangu-embedded", ..QWEN2 },
    Family { name: "plamo", places: NO_FFN_NORM, parallel: Parallel::Yes, ..QWEN2 },
    STARCODER2,
    Family { name: "codeshell", ..STARCODER2 },
    Family { name: "nemotron", activation: Activation::ReluSquared, ..STARCODER2 },
    Family { name: "phi2", places: NO_FFN_NORM, parallel: Parallel::Yes, ..STARCODER2 },
    Family { name: "falcon", places: NO_FFN_NORM, parallel: Parallel::Yes, ..STARCODER2 },
    Family { name: "gptneox", parallel: Parallel::Key, ..STARCODER2 },
    Family { name: "stablelm", norm: Layer, parallel: Parallel::WithoutNorm, ..QWEN2 },
    Family { name: "orion", norm: Layer, ..QWEN2 },
    Family { name: "olmo", norm: Bare, ..LLAMA },
    COMMAND_R,
    Family {
        name: "cohere2",
        no_rope: NoRope::Global,
        local: Local { period: Some(4), ..LLAMA.local },
        ..COMMAND_R
    },
];

/// The family of a file.
pub fn of(metadata: &Metadata) -> Result<&'static Family> {
    let key = "general.architecture";
    let architecture = required(key, metadata.text(key))?;
    let Some(family) = FAMILIES.iter().find(|family| family.name == architecture) else {
        let known: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        bail!(
            "architecture {architecture} is not supported; supported are {}; take a model of one \
             of these (docs/models.md says how to choose)",
            known.join(", ")
        );
    };
    Ok(family)
}

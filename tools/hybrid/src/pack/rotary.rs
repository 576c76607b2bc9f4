//! RoPE as GGUF describes it: base, share of the head, and the ways to stretch it.

use std::f32::consts::PI;

use anyhow::{Result, bail, ensure};

use super::family::{Family, NoRope};
use super::plan::Rope;
use super::tensors::Reader;

/// Divisors of the frequencies, as Llama 3 has them.
const FACTORS: &str = "rope_freqs.weight";
/// Those of LongRoPE: for the context that the model was first trained with, and for all of it.
const SHORT_FACTORS: &str = "rope_factors_short.weight";
const LONG_FACTORS: &str = "rope_factors_long.weight";

/// Tensors that are no weights of the model.
pub const TENSORS: [&str; 3] = [FACTORS, SHORT_FACTORS, LONG_FACTORS];

/// RoPE of the layers that see everything, and of those that see a window.
pub struct Ropes {
    family: &'static Family,
    global: Rope,
    local: Rope,
    /// What the chosen factors are for, if less than the model's own.
    pub context: usize,
    /// No layer turns anything.
    none: bool,
    /// Whether each layer turns anything, where the file says.
    pattern: Vec<i64>,
}

impl Ropes {
    /// `context`: that of the bundle, if the user wants another one than the model's.
    pub fn read(reader: &mut Reader, head_dim: usize, context: Option<usize>) -> Result<Ropes> {
        let family = reader.family;
        let key = reader.key("rope.dimension_count");
        let dim = reader.metadata().size(&key)?.unwrap_or(head_dim);
        ensure!(
            dim.is_multiple_of(2) && dim <= head_dim,
            "{key} is {dim}, expected an even number up to the head dimension {head_dim}"
        );
        let mut base = base(reader, "rope.freq_base")?.unwrap_or(10_000.0);
        if let Some(alpha) = reader.float("rope.scaling.alpha")?.filter(|alpha| *alpha > 0.0) {
            ensure!(dim > 2, "RoPE of {dim} dimensions cannot be stretched");
            base *= alpha.powf(dim as f32 / (dim as f32 - 2.0));
        }
        let local_base = self::base(reader, "rope.freq_base_swa")?;
        let local_base = local_base.or(family.local.base).unwrap_or(base);
        let plain = Rope { dim, base, factors: None, length: 1.0 };
        let (global, context) = stretched(reader, plain.clone(), context)?;
        let local = match family.local.scaled {
            true => Rope { base: local_base, ..global.clone() },
            false => Rope { base: local_base, ..plain },
        };
        let unfinetuned = reader.flag("rope.scaling.finetuned")? == Some(false);
        let none = family.no_rope == NoRope::Unfinetuned && unfinetuned;
        // No converter of GGUF files writes it; an ONNX export says by its nodes.
        let pattern = reader.metadata().integers(&reader.key("rope.layer_pattern"))?;
        let pattern = pattern.map(<[i64]>::to_vec).unwrap_or_default();
        Ok(Ropes { family, global, local, context, none, pattern })
    }

    /// That of layer `index`, which sees a window or not; `windows`: whether any layer does.
    pub fn of(&self, index: usize, local: bool, windows: bool) -> Rope {
        let none = match self.family.no_rope {
            NoRope::Never | NoRope::Unfinetuned => self.none,
            NoRope::Every(n) => (index + 1).is_multiple_of(n),
            NoRope::Global => windows && !local,
        };
        let none = none || self.pattern.get(index) == Some(&0);
        match (none, local) {
            (true, _) => Rope::NONE,
            (false, true) => self.local.clone(),
            (false, false) => self.global.clone(),
        }
    }
}

fn base(reader: &Reader, name: &str) -> Result<Option<f32>> {
    let base = reader.float(name)?;
    if let Some(base) = base {
        ensure!(base > 0.0, "{} is {base}, expected more than 0", reader.key(name));
    }
    Ok(base)
}

/// RoPE with the factors of its scaling, and the context that these are for.
fn stretched(reader: &mut Reader, rope: Rope, mut context: Option<usize>) -> Result<(Rope, usize)> {
    let whole = reader.required_size("context_length")?;
    let wanted = context.unwrap_or(whole);
    ensure!(wanted <= whole, "a context of {wanted} tokens; the model was made for {whole}");
    let original = reader.size("rope.scaling.original_context_length")?.unwrap_or(whole).min(whole);
    // From there on attention depends on the position.
    if reader.positive("attention.temperature_scale")?.is_some() {
        let most = reader.size("attention.temperature_length")?.unwrap_or(original);
        let key = reader.key("attention.temperature_scale");
        let wanted = context.unwrap_or(most.min(whole));
        ensure!(wanted <= most, "{key} is supported for a context of {most} tokens at most");
        context = Some(wanted);
    }
    let wanted = context.unwrap_or(whole);
    let length = reader.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
    let pairs = rope.dim / 2;
    if reader.has(SHORT_FACTORS) || reader.has(LONG_FACTORS) {
        let short = reader.vector(SHORT_FACTORS, pairs)?;
        let long = reader.vector(LONG_FACTORS, pairs)?;
        let context = context.unwrap_or(original);
        let factors = if context > original { long } else { short };
        return Ok((with_factors(rope, Some(factors), length)?, context));
    }
    let given = match reader.has(FACTORS) {
        true => Some(reader.vector(FACTORS, pairs)?),
        false => None,
    };
    let kind = reader.text("rope.scaling.type")?.unwrap_or("linear");
    let factor = match reader.positive("rope.scaling.factor")? {
        Some(factor) => factor,
        None => reader.positive("rope.scale_linear")?.unwrap_or(1.0),
    };
    let yarn = Yarn::read(reader, kind, &rope, factor, original)?;
    let divisor: Vec<f32> = match kind {
        "none" => vec![1.0; pairs],
        "linear" | "longrope" => vec![factor; pairs],
        "yarn" => (0..pairs).map(|pair| yarn.divisor(pair)).collect(),
        other => {
            bail!(
                "RoPE scaling {other} is not supported; supported are none, linear, llama3 (as \
                   {FACTORS}), yarn, longrope"
            )
        }
    };
    let trivial = given.is_none() && divisor.iter().all(|factor| *factor == 1.0);
    let given = given.unwrap_or_else(|| vec![1.0; pairs]);
    let factors = given.iter().zip(&divisor).map(|(given, divisor)| given * divisor).collect();
    let length = length * if kind == "yarn" { yarn.length } else { 1.0 };
    Ok((with_factors(rope, (!trivial).then_some(factors), length)?, wanted))
}

fn with_factors(rope: Rope, factors: Option<Vec<f32>>, length: f32) -> Result<Rope> {
    let sound = |factors: &Vec<f32>| factors.iter().all(|f| f.is_finite() && *f > 0.0);
    ensure!(factors.as_ref().is_none_or(sound), "a RoPE factor is not a positive number");
    Ok(Rope { factors, length, ..rope })
}

/// Slow frequencies are interpolated, fast ones stay, and there is a ramp between.
struct Yarn {
    factor: f32,
    /// How much of the extrapolation counts.
    extrapolation: f32,
    /// The pairs where the ramp begins and ends.
    ramp: [f32; 2],
    length: f32,
}

impl Yarn {
    fn read(
        reader: &Reader,
        kind: &str,
        rope: &Rope,
        factor: f32,
        original: usize,
    ) -> Result<Yarn> {
        let mut numbers = [1.0, 1.0, 32.0, 1.0];
        let names = ["ext_factor", "attn_factor", "beta_fast", "beta_slow"];
        for (number, name) in numbers.iter_mut().zip(names) {
            // -1 stands for the usual value.
            let given = reader.float(&format!("rope.scaling.yarn_{name}"))?;
            *number = given.filter(|value| *value >= 0.0).unwrap_or(*number);
        }
        let [extrapolation, own_length, fast, slow] = numbers;
        let spread = |turns: f32| {
            let ratio = original as f32 / (turns * 2.0 * PI);
            rope.dim as f32 * ratio.ln() / (2.0 * rope.base.ln())
        };
        let most = (rope.dim as f32 - 1.0).max(0.0);
        let ramp = [spread(fast).floor().max(0.0), spread(slow).ceil().min(most)];
        let grown =
            |weight: f32| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        let length = match reader.float("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0) {
            _ if extrapolation == 0.0 => own_length,
            0.0 => grown(1.0),
            multiplier => grown(1.0) / grown(multiplier),
        };
        let sound = kind != "yarn" || ramp.iter().all(|end| end.is_finite());
        ensure!(sound, "the numbers of YaRN do not fit RoPE's base {}", rope.base);
        Ok(Yarn { factor, extrapolation, ramp, length })
    }

    fn divisor(&self, pair: usize) -> f32 {
        let [low, high] = self.ramp;
        let slow = ((pair as f32 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
        let kept = (1.0 - slow) * self.extrapolation;
        1.0 / ((1.0 - kept) / self.factor + kept)
    }
}

//! From logits to a candidate token.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::error::{Error, Result};
use crate::slm::kernels::logits::argmax;

mod bias;
mod stats;

pub use bias::LogitBias;
pub use stats::{LogitStats, log_probabilities, logit_stats, top_tokens};

/// How a candidate is drawn. The default is greedy: the largest logit, and the lowest id among
/// equal ones.
///
/// The filters work on the probabilities at the given temperature, one after the other: min-p,
/// top-k, top-p. A draw takes one number from the generator; greedy takes none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 is greedy; at most 100.
    pub temperature: f32,
    /// Keep the k most likely; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set with this much probability, in (0, 1]; 1 keeps all.
    pub top_p: f32,
    /// Keep what has at least this share of the most likely one's probability, in 0..1; 0 keeps
    /// all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens, in (0, 100]; 1 is off.
    pub repetition_penalty: f32,
    /// How many recent tokens of the context, prompt included, count for the penalty.
    pub repetition_window: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 64,
        }
    }
}

impl Sampling {
    /// `Err(InvalidArgument)` naming the field that is out of its range.
    pub fn check(&self) -> Result<()> {
        let ensure = |name, value: f32, ok: bool, range| {
            if ok {
                return Ok(());
            }
            Err(Error::InvalidArgument(format!("{name} is {value}, but must be {range}")))
        };
        let (t, p, m, r) = (self.temperature, self.top_p, self.min_p, self.repetition_penalty);
        ensure("temperature", t, (0.0..=100.0).contains(&t), "from 0 (greedy) to 100")?;
        ensure("top_p", p, p > 0.0 && p <= 1.0, "over 0 and at most 1 (off)")?;
        ensure("min_p", m, (0.0..1.0).contains(&m), "from 0 (off) to under 1")?;
        ensure("repetition_penalty", r, r > 0.0 && r <= 100.0, "over 0 and at most 100, 1 is off")
    }
}

/// Relative weights under e^-30 are left out: all of them together could not move a draw.
const NEGLIGIBLE: f32 = -30.0;

/// Draws candidates. One per session.
#[derive(Clone)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
    /// Logits after the penalty.
    penalised: Vec<f32>,
    kept: Vec<Weighed>,
}

/// A token that passed the filters.
#[derive(Debug, Clone, Copy)]
struct Weighed {
    id: u32,
    /// Probability relative to the most likely token's, in (0, 1].
    weight: f32,
}

impl Weighed {
    /// Most likely first, lowest id first among equals.
    fn order(a: &Weighed, b: &Weighed) -> std::cmp::Ordering {
        b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
    }
}

impl Sampler {
    /// Equal seeds, equal draws, on every platform.
    ///
    /// Errors: those of [`Sampling::check`].
    pub fn new(sampling: Sampling, seed: u64) -> Result<Sampler> {
        sampling.check()?;
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Ok(Sampler { sampling, rng, penalised: Vec::new(), kept: Vec::new() })
    }

    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// The generator goes on.
    ///
    /// Errors, with nothing changed: those of [`Sampling::check`].
    pub fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        sampling.check()?;
        self.sampling = sampling;
        Ok(())
    }

    /// How far the generator is: what has been drawn.
    pub fn position(&self) -> u64 {
        self.rng.get_word_pos() as u64
    }

    /// Goes on where another generator of the same seed was.
    pub fn set_position(&mut self, position: u64) {
        self.rng.set_word_pos(u128::from(position));
    }

    /// The candidate. `context`: the token ids so far, for the repetition penalty. NaN counts as
    /// minus infinity; logits that are nothing else are an error.
    pub fn sample(&mut self, logits: &[f32], context: &[u32]) -> Result<u32> {
        let window = context.len().min(self.sampling.repetition_window as usize);
        let recent = &context[context.len() - window..];
        if self.sampling.repetition_penalty == 1.0 || recent.is_empty() {
            return self.draw(logits);
        }
        let mut penalised = std::mem::take(&mut self.penalised);
        penalised.clear();
        penalised.extend_from_slice(logits);
        penalise(&mut penalised, logits, recent, self.sampling.repetition_penalty);
        let candidate = self.draw(&penalised);
        self.penalised = penalised;
        candidate
    }

    fn draw(&mut self, logits: &[f32]) -> Result<u32> {
        let (best, max) = argmax(logits).ok_or_else(|| {
            Error::Model(
                "no token can follow: every logit is -inf or NaN; a logit bias may do that".into(),
            )
        })?;
        let best = best as u32;
        if self.sampling.temperature == 0.0 {
            return Ok(best);
        }
        self.keep_likely(logits, max);
        self.keep_top_k();
        self.keep_top_p();
        Ok(self.pick().unwrap_or(best))
    }

    /// Fills `kept`, in the order of ids, with all that passes min-p.
    fn keep_likely(&mut self, logits: &[f32], max: f32) {
        let temperature = self.sampling.temperature;
        let floor = self.sampling.min_p.ln().max(NEGLIGIBLE);
        self.kept.clear();
        for (id, &logit) in (0..).zip(logits) {
            let log_weight = (logit - max) / temperature;
            if log_weight >= floor {
                self.kept.push(Weighed { id, weight: log_weight.exp() });
            }
        }
    }

    fn keep_top_k(&mut self) {
        let k = self.sampling.top_k as usize;
        if k > 0 && k < self.kept.len() {
            self.kept.select_nth_unstable_by(k - 1, Weighed::order);
            self.kept.truncate(k);
            self.kept.sort_unstable_by(Weighed::order);
        }
    }

    /// Sorts only as much as it needs: the set is small as a rule, the vocabulary is not.
    fn keep_top_p(&mut self) {
        if self.sampling.top_p >= 1.0 {
            return;
        }
        let wanted = total(&self.kept) * f64::from(self.sampling.top_p);
        let (mut sorted, mut sum) = (0, 0.0);
        while sorted < self.kept.len() {
            let rest = &mut self.kept[sorted..];
            let n = (sorted * 3).max(64).min(rest.len());
            rest.select_nth_unstable_by(n - 1, Weighed::order);
            rest[..n].sort_unstable_by(Weighed::order);
            for weighed in &rest[..n] {
                sum += f64::from(weighed.weight);
                sorted += 1;
                if sum >= wanted {
                    return self.kept.truncate(sorted);
                }
            }
        }
    }

    fn pick(&mut self) -> Option<u32> {
        let unit = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = unit * total(&self.kept);
        for weighed in &self.kept {
            left -= f64::from(weighed.weight);
            if left < 0.0 {
                return Some(weighed.id);
            }
        }
        // Rounding only: the sum of the weights is over `left` but for the last bit.
        self.kept.last().map(|weighed| weighed.id)
    }
}

fn total(kept: &[Weighed]) -> f64 {
    kept.iter().map(|weighed| f64::from(weighed.weight)).sum()
}

/// Each recent token once, however often it occurs: computed from the untouched logits.
fn penalise(penalised: &mut [f32], logits: &[f32], recent: &[u32], penalty: f32) {
    for &id in recent {
        if let (Some(out), Some(&logit)) = (penalised.get_mut(id as usize), logits.get(id as usize))
        {
            *out = if logit > 0.0 { logit / penalty } else { logit * penalty };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INF: f32 = f32::INFINITY;
    const GREEDY: Sampling = Sampling {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        repetition_window: 64,
    };
    const WARM: Sampling = Sampling { temperature: 1.0, ..GREEDY };

    fn sampler(sampling: Sampling) -> Sampler {
        Sampler::new(sampling, 0).unwrap()
    }

    #[test]
    fn greedy() {
        let rows: &[(&[f32], Option<u32>)] = &[
            (&[1.0, 3.0, 2.0], Some(1)),
            (&[3.0, 1.0, 3.0], Some(0)),
            (&[-INF, -5.0, -INF], Some(1)),
            (&[f32::NAN, -1.0, f32::NAN], Some(1)),
            (&[0.0, -0.0], Some(0)),
            (&[1.0, INF], Some(1)),
            (&[-INF, f32::NAN], None),
            (&[], None),
        ];
        for (logits, want) in rows {
            assert_eq!(sampler(GREEDY).sample(logits, &[]).ok(), *want, "{logits:?}");
        }
    }

    #[test]
    fn repetition_penalty() {
        let logits = [4.0, 3.0, -1.0, -1.5];
        let penalised = |window, context: &[u32], logits: &[f32]| {
            let options = Sampling { repetition_penalty: 2.0, repetition_window: window, ..GREEDY };
            sampler(options).sample(logits, context).unwrap()
        };
        assert_eq!(penalised(64, &[], &logits), 0);
        assert_eq!(penalised(64, &[0, 0, 0, 0], &logits), 1, "once, not four times: 2 against 3");
        assert_eq!(penalised(64, &[0, 1], &logits), 0, "2 against 1.5");
        assert_eq!(penalised(1, &[0, 1], &logits), 0, "only the last one counts");
        assert_eq!(penalised(0, &[0, 1], &logits), 0);
        assert_eq!(penalised(64, &[2], &logits[2..]), 0, "ids beyond the logits are ignored");
        assert_eq!(penalised(64, &[0], &[-1.0, -1.5]), 1, "-2 against -1.5");
    }

    /// Which tokens can come out at all.
    #[test]
    fn filters() {
        // Probabilities .5 .25 .125 .125, at temperature 1.
        let logits: Vec<f32> = [0.5f32, 0.25, 0.125, 0.125].iter().map(|p| p.ln()).collect();
        let rows = [
            (WARM, vec![0, 1, 2, 3]),
            (Sampling { top_k: 1, ..WARM }, vec![0]),
            (Sampling { top_k: 3, ..WARM }, vec![0, 1, 2]),
            (Sampling { top_k: 9, ..WARM }, vec![0, 1, 2, 3]),
            (Sampling { top_p: 0.01, ..WARM }, vec![0]),
            (Sampling { top_p: 0.49, ..WARM }, vec![0]),
            (Sampling { top_p: 0.51, ..WARM }, vec![0, 1]),
            (Sampling { top_p: 0.8, ..WARM }, vec![0, 1, 2]),
            (Sampling { min_p: 0.3, ..WARM }, vec![0, 1]),
            (Sampling { min_p: 0.6, ..WARM }, vec![0]),
            // At temperature 2 the shares are .37 .26 .18 .18.
            (Sampling { temperature: 2.0, min_p: 0.6, ..WARM }, vec![0, 1]),
            // top-p counts what top-k left: .67 .33.
            (Sampling { top_k: 2, top_p: 0.6, ..WARM }, vec![0]),
        ];
        for (options, want) in rows {
            let mut sampler = sampler(options);
            let mut seen: Vec<u32> =
                (0..200).map(|_| sampler.sample(&logits, &[]).unwrap()).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, want, "{options:?}");
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits: Vec<f32> = (1..=200).map(|p| (p as f32 / 20_100.0).ln()).collect();
        for top_p in [1.0, 0.999_999] {
            let mut sampler = Sampler::new(Sampling { top_p, ..WARM }, 7).unwrap();
            let mut upper_half = 0;
            for _ in 0..20_000 {
                upper_half += u32::from(sampler.sample(&logits, &[]).unwrap() >= 100);
            }
            // Expected share .7488, standard deviation .0031.
            assert!((14_700..15_300).contains(&upper_half), "{upper_half}");
        }
    }

    /// The same tokens on every platform and in every later version.
    #[test]
    fn seeds_are_stable() {
        let logits = [0.0f32; 100];
        let draw = |seed| {
            let mut sampler = Sampler::new(WARM, seed).unwrap();
            [(); 4].map(|_| sampler.sample(&logits, &[]).unwrap())
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(draw(42), [68, 95, 42, 62]);
    }

    #[test]
    fn options_are_checked() {
        let bad = [
            ("temperature", Sampling { temperature: -0.1, ..GREEDY }),
            ("temperature", Sampling { temperature: f32::NAN, ..GREEDY }),
            ("temperature", Sampling { temperature: INF, ..GREEDY }),
            ("top_p", Sampling { top_p: 0.0, ..GREEDY }),
            ("top_p", Sampling { top_p: 1.1, ..GREEDY }),
            ("top_p", Sampling { top_p: f32::NAN, ..GREEDY }),
            ("min_p", Sampling { min_p: 1.0, ..GREEDY }),
            ("min_p", Sampling { min_p: -0.5, ..GREEDY }),
            ("repetition_penalty", Sampling { repetition_penalty: 0.0, ..GREEDY }),
            ("repetition_penalty", Sampling { repetition_penalty: INF, ..GREEDY }),
        ];
        for (name, options) in bad {
            let text = Sampler::new(options, 0).err().expect(name).to_string();
            assert!(text.contains(name), "{text}");
        }
        assert!(Sampling::default().check().is_ok());
    }
}

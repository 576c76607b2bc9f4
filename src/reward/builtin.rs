//! The scores that need no head. All are in 0..=1, higher means keep.

use crate::sampler::LogitStats;
use crate::slm::kernels::Kernels;

/// The probability of the candidate.
pub fn max_probability(stats: &LogitStats) -> f32 {
    stats.log_p.exp().clamp(0.0, 1.0)
}

/// How far the candidate is ahead of the best other token, in probability; 0 when it is behind.
pub fn margin(stats: &LogitStats) -> f32 {
    let [first, second, ..] = stats.top;
    let other = if stats.log_p >= first { second } else { first };
    (stats.log_p.exp() - other.exp()).clamp(0.0, 1.0)
}

/// One over the perplexity of the distribution: 1 when one token has all the probability.
pub fn entropy(stats: &LogitStats) -> f32 {
    (-stats.entropy).exp().clamp(0.0, 1.0)
}

/// Tokens that [`sampled`] draws, and the highest temperature at which it does.
const DRAWS: u32 = 20;
const MAX_TEMPERATURE: f32 = 2.0;

/// The share of so many tokens, each drawn at a temperature that is uniform from 0 on, that are the
/// candidate. All but its probability at the temperature is the same for the draw, so no other
/// token is looked at.
pub fn sampled(logits: &[f32], candidate: u32, uniform: &mut Uniform) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let behind = logits.get(candidate as usize).map_or(f32::NEG_INFINITY, |logit| logit - max);
    let mut scaled = vec![0.0; logits.len()];
    let mut hits = 0;
    for _ in 0..DRAWS {
        // Not 0 itself; from here down every draw is the most likely token.
        let temperature = (MAX_TEMPERATURE * uniform.draw()).max(1e-3);
        scaled.iter_mut().zip(logits).for_each(|(s, logit)| *s = (logit - max) / temperature);
        let (sum, _) = Kernels::best().exp_sums(&scaled, 0.0);
        let p = f64::from(behind / temperature).exp() / sum;
        hits += u32::from(f64::from(uniform.draw()) < p);
    }
    hits as f32 / DRAWS as f32
}

/// Uniform numbers from a seed (SplitMix64): the same seed gives the same scores on every machine.
#[derive(Debug, Clone)]
pub struct Uniform {
    state: u64,
}

impl Uniform {
    pub fn new(seed: u64) -> Uniform {
        Uniform { state: seed }
    }

    /// What has been drawn, for [`Uniform::set_position`].
    pub fn position(&self) -> u64 {
        self.state
    }

    /// Goes on where another one was.
    pub fn set_position(&mut self, position: u64) {
        self.state = position;
    }

    /// The next number, in 0..1.
    pub fn draw(&mut self) -> f32 {
        // The upper 24 bits are as many as f32 can hold without rounding up to 1.
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_follow_the_table() {
        // probabilities of the two best tokens, of the candidate; max-probability, margin
        let table = [
            (0.9f32, 0.05f32, 0.9f32, 0.9f32, 0.85f32),
            (0.5, 0.5, 0.5, 0.5, 0.0),
            (0.6, 0.3, 0.3, 0.3, 0.0),
            (0.6, 0.3, 0.01, 0.01, 0.0),
            (1.0, 0.0, 1.0, 1.0, 1.0),
        ];
        for (first, second, p, want_p, want_margin) in table {
            let mut top = [-30.0; 8];
            top[0] = first.ln();
            top[1] = second.ln();
            let stats = LogitStats { log_p: p.ln(), top, entropy: 1.0 };
            assert!((max_probability(&stats) - want_p).abs() < 1e-6);
            assert!((margin(&stats) - want_margin).abs() < 1e-6, "{first} {second} {p}");
        }
    }

    #[test]
    fn entropy_is_inverse_perplexity() {
        for (nats, want) in [(0.0f32, 1.0f32), (2f32.ln(), 0.5), (f32::INFINITY, 0.0), (-1.0, 1.0)]
        {
            let stats = LogitStats { entropy: nats, ..LogitStats::default() };
            assert!((entropy(&stats) - want).abs() < 1e-6, "{nats}");
        }
    }

    #[test]
    fn samples_are_drawn_at_temperatures_from_0_to_2() {
        // p of the first at temperature t: 1 / (1 + e^(-2 / t)); its mean over t from 0 to 2, by
        // Simpson's rule.
        let logits = [2.0, 0.0];
        let p = |t: f64| if t == 0.0 { 1.0 } else { 1.0 / (1.0 + (-2.0 / t).exp()) };
        let sum: f64 = (0..=200)
            .map(|i| {
                f64::from(if i % 200 == 0 { 1 } else { 2 + i % 2 * 2 }) * p(f64::from(i) / 100.0)
            })
            .sum();
        let want = sum / 600.0;
        let mean = |candidate| {
            let mut uniform = Uniform::new(5);
            let scores = (0..500).map(|_| sampled(&logits, candidate, &mut uniform));
            f64::from(scores.sum::<f32>() / 500.0)
        };
        // The standard deviation of 10,000 draws is under 0.005.
        assert!((mean(0) - want).abs() < 0.02, "{} {want}", mean(0));
        assert!((mean(1) - (1.0 - want)).abs() < 0.02, "{}", mean(1));
        assert_eq!(mean(2), 0.0, "no such token");
        assert_eq!(sampled(&[f32::NEG_INFINITY, 1.0], 1, &mut Uniform::new(1)), 1.0);
    }

    #[test]
    fn uniform_repeats_and_is_uniform() {
        let draws = |seed| {
            let mut uniform = Uniform::new(seed);
            (0..10_000).map(|_| uniform.draw()).collect::<Vec<_>>()
        };
        let one = draws(1);
        assert_eq!(one, draws(1));
        assert_ne!(one, draws(2));
        assert!(one.iter().all(|v| (0.0..1.0).contains(v)));
        for threshold in [0.1, 0.5, 0.9] {
            let share = one.iter().filter(|&&v| v < threshold).count() as f32 / 10_000.0;
            assert!((share - threshold).abs() < 0.02, "{share} below {threshold}");
        }
    }
}

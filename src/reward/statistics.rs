//! The logit statistics a head may read: the input `stats`, [`COUNT`] values in this order.

use crate::sampler::LogitStats;

/// How many there are; the size of the input `stats` is `[1, COUNT]`.
pub const COUNT: usize = 16;

/// Their version: a head is trained for one. It changes when a value changes its meaning.
pub const VERSION: u32 = 1;

/// No log-probability or log-ratio is larger than this, in nats.
const MAX_NATS: f32 = 30.0;

/// Odds are clamped to ± this, in nats: f32 cannot tell probabilities nearer to 1 apart.
const MAX_LOG_ODDS: f32 = 16.0;

/// What each value is called, in order.
pub const NAMES: [&str; COUNT] = [
    "log_p",     // ln p of the candidate, nats, -30..=0
    "log_odds",  // ln (p / (1 - p)) of the candidate, nats, -16..=16
    "p",         // probability of the candidate, 0..=1
    "margin",    // p of the most likely token less p of the second, 0..=1
    "log_ratio", // ln of the ratio of these two, nats, 0..=30
    "entropy",   // of the whole distribution, nats, 0..=30
    "behind",    // ln p of the candidate less ln p of the most likely token, nats, -30..=0
    "tail",      // ln of the probability that is left after the eight most likely, nats, -30..=0
    "top1",      // ln p of the most likely token, nats, -30..=0
    "top2",      // … and so on to the eighth
    "top3",
    "top4",
    "top5",
    "top6",
    "top7",
    "top8",
];

/// The values for one candidate. Finite for every input that is not NaN.
pub fn values(stats: &LogitStats) -> [f32; COUNT] {
    let log_p = log_probability(stats.log_p);
    let top = stats.top.map(log_probability);
    let [first, second, ..] = top;
    let covered: f64 = top.iter().map(|&t| f64::from(t).exp()).sum();

    let mut values = [0.0; COUNT];
    values[0] = log_p;
    values[1] = log_odds(log_p);
    values[2] = log_p.exp();
    values[3] = (first.exp() - second.exp()).clamp(0.0, 1.0);
    values[4] = (first - second).clamp(0.0, MAX_NATS);
    values[5] = stats.entropy.clamp(0.0, MAX_NATS);
    values[6] = (log_p - first).clamp(-MAX_NATS, 0.0);
    values[7] = log_probability((1.0 - covered).max(0.0).ln() as f32);
    values[8..].copy_from_slice(&top);
    values
}

fn log_probability(value: f32) -> f32 {
    value.clamp(-MAX_NATS, 0.0)
}

fn log_odds(log_p: f32) -> f32 {
    let log_p = f64::from(log_p);
    // expm1 keeps the digits of 1 - p where p is almost 1.
    let odds = log_p - (-log_p.exp_m1()).max(f64::MIN_POSITIVE).ln();
    (odds as f32).clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(top: &[f32], log_p: f32, entropy: f32) -> LogitStats {
        let mut padded = [-30.0; 8];
        padded[..top.len()].copy_from_slice(top);
        LogitStats { log_p, top: padded, entropy }
    }

    #[test]
    fn values_follow_their_definitions() {
        let (a, b) = (0.6f32.ln(), 0.3f32.ln());
        let second = values(&stats(&[a, b], b, 0.9));
        let expected = [b, (0.3f32 / 0.7).ln(), 0.3, 0.3, 2f32.ln(), 0.9, b - a, 0.1f32.ln(), a, b];
        for (i, want) in expected.iter().enumerate() {
            assert!((second[i] - want).abs() < 1e-5, "{}: {} != {want}", NAMES[i], second[i]);
        }
        assert!(second[10..].iter().all(|&v| v == -30.0));
    }

    #[test]
    fn values_stay_in_their_ranges() {
        let cases = [
            stats(&[0.0], 0.0, 0.0),
            stats(&[0.0], f32::NEG_INFINITY, 0.0),
            stats(&[-1e-9, -40.0], -1e-9, -1e-3),
            stats(&[f32::NEG_INFINITY; 8], f32::NEG_INFINITY, f32::INFINITY),
            stats(&[f32::INFINITY; 8], f32::INFINITY, f32::NEG_INFINITY),
            stats(&[-2.0794415; 8], -2.0794415, 2.0794415),
        ];
        for case in cases {
            let got = values(&case);
            assert!(got.iter().all(|v| v.is_finite() && v.abs() <= MAX_NATS), "{case:?}: {got:?}");
            assert!(got[1].abs() <= MAX_LOG_ODDS, "{case:?}: {got:?}");
            assert!((0.0..=1.0).contains(&got[2]) && (0.0..=1.0).contains(&got[3]));
        }
    }
}

//! What a logits vector says about a candidate, in two vectorised passes.

use crate::slm::kernels::Kernels;
use crate::slm::kernels::logits::{self, TOP};

/// What the logits say about a candidate, at temperature 1 and before any filter. Log-probabilities
/// under -30 are given as -30.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LogitStats {
    /// ln p of the candidate.
    pub log_p: f32,
    /// The largest log-probabilities, descending, padded with -30.
    pub top: [f32; TOP],
    /// Entropy of the whole distribution in nats.
    pub entropy: f32,
}

/// The lowest log-probability told, and what a missing one counts as.
const FLOOR: f32 = -30.0;

/// Statistics of one row of logits. NaN counts as minus infinity; with no finite logit at all every
/// number is NaN, which scores as weak.
pub fn logit_stats(logits: &[f32], candidate: u32) -> LogitStats {
    let top = logits::top(logits);
    let max = top[0];
    if !max.is_finite() {
        return LogitStats { log_p: f32::NAN, top: [f32::NAN; TOP], entropy: f32::NAN };
    }
    let (sum, weighted) = Kernels::best().exp_sums(logits, max);
    let log_sum = sum.ln();
    let log_p = |logit: f32| ((f64::from(logit - max) - log_sum) as f32).max(FLOOR);
    LogitStats {
        log_p: logits.get(candidate as usize).map_or(FLOOR, |&logit| log_p(logit)),
        top: top.map(log_p),
        // -sum p ln p, with ln p = d - log_sum and d = logit - max.
        entropy: ((log_sum - weighted / sum) as f32).max(0.0),
    }
}

/// The log-probabilities (natural, at temperature 1) of `token` and then of the `top` most likely
/// tokens, [`TOP`] at most, falling. Impossible tokens are left out, but for `token` itself.
/// Nothing where no logit is finite.
pub fn log_probabilities(logits: &[f32], token: u32, top: usize) -> Vec<(u32, f32)> {
    let max = logits::top(logits)[0];
    if !max.is_finite() {
        return Vec::new();
    }
    let log_sum = Kernels::best().exp_sums(logits, max).0.ln();
    let log_p = |id: u32| {
        let logit = logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        (id, (f64::from(logit - max) - log_sum) as f32)
    };
    let likely = top_tokens(logits).into_iter().take(top).map(log_p);
    let mut seen = None;
    let possible = likely.filter(|&(id, log_p)| {
        // Where there are fewer than `TOP` tokens, the rest is 0.
        log_p > f32::NEG_INFINITY && (id != 0 || seen.replace(()).is_none())
    });
    std::iter::once(log_p(token)).chain(possible).collect()
}

/// The ids of the largest logits, falling; of equal ones the lower id first. Where there are fewer,
/// the rest is 0.
pub fn top_tokens(logits: &[f32]) -> [u32; TOP] {
    let mut best = [(f32::NEG_INFINITY, 0); TOP];
    for (id, &logit) in (0..).zip(logits) {
        if logit > best[TOP - 1].0 {
            let at = best.partition_point(|&(other, _)| other >= logit);
            best[at..].rotate_right(1);
            best[at] = (logit, id);
        }
    }
    best.map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_logits_come_first() {
        let mut logits = vec![-1.0; 50];
        let want = [7, 3, 40, 0, 1, 2, 4, 5];
        logits[7] = 9.0;
        logits[3] = 5.0;
        logits[40] = 5.0;
        assert_eq!(top_tokens(&logits), want);
        assert_eq!(top_tokens(&[2.0, f32::NEG_INFINITY, 3.0])[..2], [2, 0]);
    }

    #[test]
    fn log_probabilities_of_the_token_and_the_most_likely() {
        let inf = f32::INFINITY;
        let logits: Vec<f32> = [0.25f32, 0.5, 0.125, 0.125].iter().map(|p| p.ln()).collect();
        /// Logits, token, top; ids and probabilities.
        type Row<'a> = (&'a [f32], u32, usize, &'a [(u32, f32)]);
        let rows: [Row; 6] = [
            (&logits, 2, 0, &[(2, 0.125)]),
            (&logits, 2, 3, &[(2, 0.125), (1, 0.5), (0, 0.25), (2, 0.125)]),
            (&logits, 0, 9, &[(0, 0.25), (1, 0.5), (0, 0.25), (2, 0.125), (3, 0.125)]),
            (&[-inf, 3.0, -inf], 0, 9, &[(0, 0.0), (1, 1.0)]),
            (&[-100.0, 100.0], 9, 2, &[(9, 0.0), (1, 1.0), (0, 0.0)]),
            (&[-inf, f32::NAN], 0, 2, &[]),
        ];
        for (logits, token, top, want) in rows {
            let got = log_probabilities(logits, token, top);
            assert_eq!(got.len(), want.len(), "{got:?} instead of {want:?}");
            for ((id, log_p), (want_id, p)) in got.iter().zip(want) {
                assert!(id == want_id && (log_p.exp() - p).abs() < 1e-6, "{got:?}, {want:?}");
            }
        }
        assert_eq!(log_probabilities(&[-100.0, 100.0], 0, 0)[0].1, -200.0, "no floor");
    }

    /// The definition, in f64.
    fn reference(logits: &[f32], candidate: u32) -> LogitStats {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let d: Vec<f64> = logits.iter().map(|&l| f64::from(l) - f64::from(max)).collect();
        let log_sum = d.iter().map(|d| d.exp()).sum::<f64>().ln();
        let mut log_p: Vec<f64> = d.iter().map(|d| d - log_sum).collect();
        let of_candidate = log_p[candidate as usize];
        log_p.sort_by(|a, b| b.total_cmp(a));
        let entropy = -log_p.iter().filter(|l| l.is_finite()).map(|l| l * l.exp()).sum::<f64>();
        let floored = |l: f64| l.max(-30.0) as f32;
        let top = std::array::from_fn(|i| log_p.get(i).map_or(-30.0, |&l| floored(l)));
        LogitStats { log_p: floored(of_candidate), top, entropy: entropy as f32 }
    }

    fn close(a: &LogitStats, b: &LogitStats) -> bool {
        let near = |a: f32, b: f32| (a - b).abs() <= 2e-5 * b.abs().max(1.0);
        near(a.log_p, b.log_p)
            && near(a.entropy, b.entropy)
            && a.top.iter().zip(&b.top).all(|(&a, &b)| near(a, b))
    }

    /// Pseudo-random logits with a spread like a language model's.
    fn spread(n: usize, scale: f32) -> Vec<f32> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        (0..n).map(|_| (next() + next() + next() - 1.5) * scale).collect()
    }

    #[test]
    fn agrees_with_the_definition() {
        for n in [1, 2, 7, 8, 9, 63, 64, 65, 1000, 1024, 1025, 49_152, 151_936] {
            for scale in [0.0, 1.0, 10.0, 60.0] {
                let logits = spread(n, scale);
                for candidate in [0, n / 2, n - 1] {
                    let got = logit_stats(&logits, candidate as u32);
                    let want = reference(&logits, candidate as u32);
                    assert!(close(&got, &want), "{n} {scale}: {got:?} instead of {want:?}");
                }
            }
        }
    }

    #[test]
    fn odd_logits() {
        let inf = f32::INFINITY;
        let padded = logit_stats(&[1.0, -inf, 1.0, f32::NAN], 1);
        assert_eq!(padded.log_p, -30.0);
        assert!((padded.entropy - 2f32.ln()).abs() < 1e-6);
        assert!((padded.top[1] + 2f32.ln()).abs() < 1e-6);
        assert_eq!(padded.top[2..], [-30.0; 6]);
        assert_eq!(logit_stats(&[1.0], 5).log_p, -30.0, "a candidate that does not exist");
        let sure = logit_stats(&[0.0, 500.0], 1);
        assert_eq!((sure.log_p, sure.top[0]), (0.0, 0.0));
        assert!(sure.entropy < 1e-30);
        for none in [&[][..], &[-inf], &[f32::NAN, -inf], &[inf, 0.0]] {
            let stats = logit_stats(none, 0);
            assert!(stats.log_p.is_nan() && stats.entropy.is_nan() && stats.top[0].is_nan());
        }
    }
}

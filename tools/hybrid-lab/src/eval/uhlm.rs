//! The thresholds of U-HLM (arXiv:2412.12687): a line is fitted to how often the cloud LLM rejects
//! a candidate, over the SLM's uncertainty, and read off where the risk of keeping one is as high
//! as is wanted.

/// Two thresholds on the score, which is one less the uncertainty u, by name; none where rejection
/// does not rise with u. `agrees` is 1 where the cloud LLM would have kept the candidate, 0
/// elsewhere.
///
/// With the line β = a u + b, a candidate is kept up to the uncertainty
/// - `risk-averse`: −b / a, where no rejection is expected;
/// - `risk-prone`: (Δ − b) / a, where Δ is how often the cloud LLM finds the candidate less likely
///   than the SLM does. Decoding greedily the SLM finds it certain, so that this is every
///   disagreement.
pub fn thresholds(scores: &[f64], agrees: &[f64]) -> Vec<(&'static str, f32)> {
    let n = scores.len().max(1) as f64;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n;
    let u = mean(&mut scores.iter().map(|score| 1.0 - score));
    let rejected = mean(&mut agrees.iter().map(|agrees| 1.0 - agrees));
    let pairs = || scores.iter().zip(agrees).map(|(s, a)| (1.0 - s - u, 1.0 - a - rejected));
    let variance = mean(&mut pairs().map(|(x, _)| x * x));
    let slope = mean(&mut pairs().map(|(x, y)| x * y)) / variance;
    if slope.is_nan() || slope <= 0.0 {
        return Vec::new();
    }
    let constant = rejected - slope * u;
    let threshold = |risk: f64| (1.0 - (risk - constant) / slope) as f32;
    vec![("risk-averse", threshold(0.0)), ("risk-prone", threshold(rejected))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_off_the_line() {
        // Ten candidates at each uncertainty, of which so many are rejected: β = u / 2 - 0.1 from
        // 0.2 on.
        let (mut scores, mut agrees) = (Vec::new(), Vec::new());
        for (u, rejected) in [(0.2, 0), (0.4, 1), (0.6, 2), (0.8, 3)] {
            for i in 0..10 {
                scores.push(1.0 - u);
                agrees.push(if i < rejected { 0.0 } else { 1.0 });
            }
        }
        let found = thresholds(&scores, &agrees);
        assert_eq!(
            found.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["risk-averse", "risk-prone"]
        );
        // 6 of 40 are rejected, which the line says of u = 0.5.
        for ((_, threshold), want) in found.iter().zip([0.8, 0.5]) {
            assert!((threshold - want).abs() < 1e-6, "{found:?}");
        }
    }

    #[test]
    fn no_line_no_threshold() {
        for (scores, agrees) in [
            (vec![], vec![]),
            (vec![0.5; 4], vec![0.0, 1.0, 0.0, 1.0]),
            (vec![0.9, 0.1], vec![0.0, 1.0]),
        ] {
            assert_eq!(thresholds(&scores, &agrees), [], "{scores:?}");
        }
    }
}

//! Platt scaling: log-odds made to fit labels, and the loss by which heads are compared.

use anyhow::{Result, ensure};

const ITERATIONS: u64 = 300;
/// Keeps the scale finite where the classes are perfectly apart.
const PENALTY: f64 = 1e-6;

/// By what log-odds must be multiplied, and what must be added, to fit `agrees` best. The scale is
/// over 0.
///
/// Newton's method: a line search by slopes gets stuck where a fit is all but perfect.
pub fn platt(log_odds: &[f64], agrees: &[f64]) -> Result<(f64, f64)> {
    ensure_both(agrees)?;
    let agrees = &smoothed(agrees);
    let cost = |[scale, shift]: [f64; 2]| {
        let moved: Vec<f64> = log_odds.iter().map(|z| scale * z + shift).collect();
        loss(&moved, agrees) + 0.5 * PENALTY * scale * scale
    };
    let mut point = [0.0, 0.0];
    for _ in 0..ITERATIONS {
        let step = newton_step(log_odds, agrees, point);
        let mut lengths = (0..40).map(|halvings| 0.5f64.powi(halvings));
        let next = lengths.find_map(|length| {
            let next = [point[0] - length * step[0], point[1] - length * step[1]];
            (cost(next) < cost(point)).then_some(next)
        });
        match next {
            Some(next) => point = next,
            None => break,
        }
    }
    ensure!(
        point[0] > 0.0,
        "the head does no better than chance on these prompts: more prompts are needed"
    );
    Ok((point[0], point[1]))
}

/// Labels as probabilities that never are 0 or 1, as Platt has them: so many rows cannot tell a
/// rarer error from none.
fn smoothed(agrees: &[f64]) -> Vec<f64> {
    let ones = agrees.iter().sum::<f64>();
    let zeros = agrees.len() as f64 - ones;
    let [one, zero] = [(ones + 1.0) / (ones + 2.0), 1.0 / (zeros + 2.0)];
    agrees.iter().map(|y| y * one + (1.0 - y) * zero).collect()
}

/// The inverse of the second derivatives times the slope, by scale and shift.
fn newton_step(log_odds: &[f64], agrees: &[f64], [scale, shift]: [f64; 2]) -> [f64; 2] {
    let n = agrees.len().max(1) as f64;
    let (mut slope, mut curve) = ([PENALTY * scale, 0.0], [PENALTY, 0.0, 1e-12]);
    for (&z, &y) in log_odds.iter().zip(agrees) {
        let p = sigmoid(scale * z + shift);
        let (error, weight) = ((p - y) / n, p * (1.0 - p) / n);
        slope[0] += error * z;
        slope[1] += error;
        curve[0] += weight * z * z;
        curve[1] += weight * z;
        curve[2] += weight;
    }
    let [a, b, c] = curve;
    let determinant = a * c - b * b;
    [(c * slope[0] - b * slope[1]) / determinant, (a * slope[1] - b * slope[0]) / determinant]
}

/// Mean negative log-likelihood of `agrees` under these log-odds.
pub fn loss(log_odds: &[f64], agrees: &[f64]) -> f64 {
    let terms = log_odds.iter().zip(agrees).map(|(&z, &y)| softplus(z) - y * z);
    terms.sum::<f64>() / agrees.len().max(1) as f64
}

pub fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// ln(1 + e^z)
pub fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

/// The loss of log-odds that are scaled to fit these labels; infinite where they rank no better
/// than chance.
pub fn loss_when_scaled(log_odds: &[f64], agrees: &[f64]) -> f64 {
    let scaled = |(scale, shift)| log_odds.iter().map(|z| scale * z + shift).collect::<Vec<_>>();
    platt(log_odds, agrees).map_or(f64::INFINITY, |by| loss(&scaled(by), agrees))
}

/// Labels of one kind teach nothing.
pub fn ensure_both(agrees: &[f64]) -> Result<()> {
    ensure!(
        agrees.contains(&0.0) && agrees.contains(&1.0),
        "the SLM and the cloud LLM always agree or never: there is nothing to learn from these \
         prompts"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::testing;

    #[test]
    fn scaling_repairs_the_odds_and_keeps_the_ranking() {
        let data = testing::dataset(6000, 2, 3);
        let truth = testing::truth(2).log_odds_of_rows(&data);
        let overconfident: Vec<f64> = truth.iter().map(|z| 3.0 * z - 2.0).collect();
        let (scale, shift) = platt(&overconfident, &data.agrees).unwrap();
        assert!((scale * 3.0 - 1.0).abs() < 0.1, "{scale}");
        assert!((shift - scale * 2.0).abs() < 0.1, "{shift}");
        let upside_down: Vec<f64> = truth.iter().map(|z| -z).collect();
        assert!(platt(&upside_down, &data.agrees).is_err());
        assert!(platt(&truth, &vec![1.0; truth.len()]).is_err(), "one class");
    }

    #[test]
    fn scaling_of_what_is_perfectly_apart_is_modest() {
        let log_odds = [-3.0, -2.0, -0.5, 0.5, 1.0, 9.0].repeat(50);
        let agrees = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0].repeat(50);
        let (scale, shift) = platt(&log_odds, &agrees).unwrap();
        // 150 rows without an error are no proof that there is none in 152.
        let [below, above] = [-0.5, 0.5].map(|z| scale * z + shift);
        assert!((-6.0..-2.0).contains(&below) && (2.0..6.0).contains(&above), "{below} {above}");
    }
}

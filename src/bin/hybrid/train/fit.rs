//! Logistic regression by L-BFGS, with its own objective, and Platt scaling.

use std::cell::RefCell;

use anyhow::{Result, ensure};
use argmin::core::{CostFunction, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use hybrid::reward::statistics;

use super::dataset::Dataset;

/// The statistics carry most of the signal in few columns, so their weights are penalised less.
const STATISTICS_PENALTY: f64 = 0.01;
const ITERATIONS: u64 = 300;
const MEMORY: usize = 10;

/// Keeps the scale finite where the classes are perfectly apart.
const PLATT_PENALTY: f64 = 1e-6;

/// `bias + Σ weight · (feature - centre)`, the log-odds of agreement. The centres keep the sum small, so
/// that f32 is enough where the head runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    pub bias: f64,
    pub centre: Vec<f32>,
    /// Statistics, hidden state before, and by option hidden state after.
    pub weights: Vec<f64>,
}

impl Linear {
    pub fn log_odds(&self, features: &[f32]) -> f64 {
        let terms = self.weights.iter().zip(&self.centre).zip(features);
        self.bias + terms.map(|((w, &c), &x)| w * f64::from(x - c)).sum::<f64>()
    }

    pub fn log_odds_of_rows(&self, data: &Dataset) -> Vec<f64> {
        (0..data.rows()).map(|row| self.log_odds(data.row(row))).collect()
    }

    /// The probabilities of agreement.
    pub fn probabilities(&self, data: &Dataset) -> Vec<f64> {
        self.log_odds_of_rows(data).into_iter().map(sigmoid).collect()
    }

    /// The same with the log-odds scaled and moved.
    fn then(&self, scale: f64, shift: f64) -> Linear {
        Linear {
            bias: self.bias * scale + shift,
            centre: self.centre.clone(),
            weights: self.weights.iter().map(|w| w * scale).collect(),
        }
    }
}

/// Features scaled to mean 0 and variance 1 over the training rows.
pub struct Standardised<'a> {
    data: &'a Dataset,
    rows: Vec<f32>,
    centre: Vec<f32>,
    /// One over the standard deviation; 0 for a column that never changes.
    scale: Vec<f64>,
}

impl<'a> Standardised<'a> {
    pub fn new(data: &'a Dataset) -> Standardised<'a> {
        let width = data.width(true);
        let n = data.rows().max(1) as f64;
        let mut mean = vec![0.0; width];
        for row in 0..data.rows() {
            mean.iter_mut().zip(data.row(row)).for_each(|(m, &x)| *m += f64::from(x) / n);
        }
        let centre: Vec<f32> = mean.into_iter().map(|m| m as f32).collect();
        let mut variance = vec![0.0; width];
        for row in 0..data.rows() {
            let columns = variance.iter_mut().zip(&centre).zip(data.row(row));
            columns.for_each(|((v, c), x)| *v += f64::from(x - c).powi(2) / n);
        }
        let scale: Vec<f64> =
            variance.iter().map(|v| if *v > 1e-12 { 1.0 / v.sqrt() } else { 0.0 }).collect();
        let rows = (0..data.rows())
            .flat_map(|row| {
                let columns = data.row(row).iter().zip(&centre).zip(&scale);
                columns.map(|((x, c), s)| (f64::from(x - c) * s) as f32)
            })
            .collect();
        Standardised { data, rows, centre, scale }
    }

    /// Fits a head on raw features. `l2` is the penalty on the weights of the hidden states.
    pub fn fit(&self, after: bool, l2: f64) -> Result<Linear> {
        let width = self.data.width(after);
        let penalty = (0..width)
            .map(|column| l2 * if column < statistics::COUNT { STATISTICS_PENALTY } else { 1.0 })
            .collect();
        let rows = self.rows.chunks_exact(self.data.width(true)).map(|row| &row[..width]).collect();
        let fitted = minimise(Objective::new(rows, &self.data.agrees, penalty))?;
        let weights = fitted.weights.iter().zip(&self.scale).map(|(w, s)| w * s).collect();
        Ok(Linear { bias: fitted.bias, centre: self.centre[..width].to_vec(), weights })
    }
}

/// Platt scaling: the head whose log-odds fit `agrees` best, with the same ranking.
pub fn calibrate(head: &Linear, data: &Dataset) -> Result<Linear> {
    let (scale, shift) = platt(&head.log_odds_of_rows(data), &data.agrees)?;
    Ok(head.then(scale, shift))
}

/// By what log-odds must be multiplied, and what must be added, to fit `agrees` best. The scale is over 0.
///
/// Newton's method: a line search by slopes gets stuck where a fit is all but perfect.
pub fn platt(log_odds: &[f64], agrees: &[f64]) -> Result<(f64, f64)> {
    ensure_both(agrees)?;
    let cost = |[scale, shift]: [f64; 2]| {
        let moved: Vec<f64> = log_odds.iter().map(|z| scale * z + shift).collect();
        loss(&moved, agrees) + 0.5 * PLATT_PENALTY * scale * scale
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

/// The inverse of the second derivatives times the slope, by scale and shift.
fn newton_step(log_odds: &[f64], agrees: &[f64], [scale, shift]: [f64; 2]) -> [f64; 2] {
    let n = agrees.len().max(1) as f64;
    let (mut slope, mut curve) = ([PLATT_PENALTY * scale, 0.0], [PLATT_PENALTY, 0.0, 1e-12]);
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
fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

fn dot(weights: &[f64], features: &[f32]) -> f64 {
    // Eight sums, so that the compiler can use vector registers.
    let mut sums = [0.0; 8];
    let (w, w_rest) = weights.as_chunks::<8>();
    let features = &features[..weights.len()];
    let (x, x_rest) = features.as_chunks::<8>();
    for (w, x) in w.iter().zip(x) {
        for lane in 0..8 {
            sums[lane] += w[lane] * f64::from(x[lane]);
        }
    }
    let rest: f64 = w_rest.iter().zip(x_rest).map(|(w, &x)| w * f64::from(x)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Mean loss and penalty as a function of `[bias, weights…]`.
struct Objective<'a> {
    rows: Vec<&'a [f32]>,
    agrees: &'a [f64],
    penalty: Vec<f64>,
    /// Cost and gradient of the point asked last: argmin asks for them one after the other.
    last: RefCell<(Vec<f64>, f64, Vec<f64>)>,
}

impl<'a> Objective<'a> {
    fn new(rows: Vec<&'a [f32]>, agrees: &'a [f64], penalty: Vec<f64>) -> Objective<'a> {
        Objective { rows, agrees, penalty, last: RefCell::default() }
    }

    fn evaluate(&self, point: &[f64]) -> (f64, Vec<f64>) {
        let (bias, weights) = (point[0], &point[1..]);
        let n = self.rows.len().max(1) as f64;
        let mut cost = 0.0;
        let mut gradient = vec![0.0; point.len()];
        for (row, &y) in self.rows.iter().zip(self.agrees) {
            let z = bias + dot(weights, row);
            cost += (softplus(z) - y * z) / n;
            let slope = (sigmoid(z) - y) / n;
            gradient[0] += slope;
            gradient[1..].iter_mut().zip(*row).for_each(|(g, &x)| *g += slope * f64::from(x));
        }
        for ((g, w), l2) in gradient[1..].iter_mut().zip(weights).zip(&self.penalty) {
            cost += 0.5 * l2 * w * w;
            *g += l2 * w;
        }
        (cost, gradient)
    }

    fn with<T>(&self, point: &[f64], take: impl FnOnce(f64, &[f64]) -> T) -> T {
        let mut last = self.last.borrow_mut();
        if last.0 != point {
            let (cost, gradient) = self.evaluate(point);
            *last = (point.to_vec(), cost, gradient);
        }
        take(last.1, &last.2)
    }
}

impl CostFunction for Objective<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, point: &Vec<f64>) -> Result<f64> {
        Ok(self.with(point, |cost, _| cost))
    }
}

impl Gradient for Objective<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, point: &Vec<f64>) -> Result<Vec<f64>> {
        Ok(self.with(point, |_, gradient| gradient.to_vec()))
    }
}

fn ensure_both(agrees: &[f64]) -> Result<()> {
    ensure!(
        agrees.contains(&0.0) && agrees.contains(&1.0),
        "the SLM and the cloud LLM always agree or never: there is nothing to learn from these prompts"
    );
    Ok(())
}

/// What [`minimise`] found.
struct Fitted {
    bias: f64,
    weights: Vec<f64>,
}

fn minimise(objective: Objective) -> Result<Fitted> {
    ensure_both(objective.agrees)?;
    let start = vec![0.0; objective.penalty.len() + 1];
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY)
        .with_tolerance_grad(1e-6)?
        .with_tolerance_cost(1e-10)?;
    let result = Executor::new(objective, solver)
        .configure(|state| state.param(start).max_iters(ITERATIONS))
        .run()?;
    let best = result.state().get_best_param().cloned().unwrap_or_default();
    ensure!(
        best.len() > 1 && best.iter().all(|w| w.is_finite()),
        "the fit did not converge; are the features finite?"
    );
    Ok(Fitted { bias: best[0], weights: best[1..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::testing;

    #[test]
    fn the_gradient_is_the_slope_of_the_cost() {
        let data = testing::dataset(40, 3, 1);
        let rows = (0..data.rows()).map(|r| data.row(r)).collect();
        let objective = Objective::new(rows, &data.agrees, vec![0.3; data.width(true)]);
        let point: Vec<f64> =
            (0..=data.width(true)).map(|i| (i as f64 * 0.7).sin() / 4.0).collect();
        let (_, gradient) = objective.evaluate(&point);
        for i in 0..point.len() {
            let shifted = |by: f64| {
                let mut point = point.clone();
                point[i] += by;
                objective.evaluate(&point).0
            };
            let slope = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((slope - gradient[i]).abs() < 1e-6, "{i}: {slope} {}", gradient[i]);
        }
    }

    #[test]
    fn a_known_separator_is_recovered() {
        let data = testing::dataset(6000, 4, 2);
        let head = Standardised::new(&data).fit(true, 1e-4).unwrap();
        let truth = testing::truth(4);
        let cosine = {
            let norm = |w: &[f64]| w.iter().map(|w| w * w).sum::<f64>().sqrt();
            let product: f64 = head.weights.iter().zip(&truth.weights).map(|(a, b)| a * b).sum();
            product / norm(&head.weights) / norm(&truth.weights)
        };
        assert!(cosine > 0.97, "{cosine}");
        assert!((head.bias - truth.bias).abs() < 0.4, "{} {}", head.bias, truth.bias);
        let without = Standardised::new(&data).fit(false, 1e-4).unwrap();
        let loss_of = |head: &Linear| loss(&head.log_odds_of_rows(&data), &data.agrees);
        assert!(loss_of(&head) < loss_of(&without), "the state after carries signal here");
        let strong = Standardised::new(&data).fit(true, 1e4).unwrap();
        assert!(strong.weights[statistics::COUNT..].iter().all(|w| w.abs() < 1e-3));
    }

    #[test]
    fn scaling_repairs_the_odds_and_keeps_the_ranking() {
        let data = testing::dataset(6000, 2, 3);
        let truth = testing::truth(2);
        let overconfident = truth.then(3.0, -2.0);
        let repaired = calibrate(&overconfident, &data).unwrap();
        for (w, want) in repaired.weights.iter().zip(&truth.weights) {
            assert!((w - want).abs() < 0.15, "{w} {want}");
        }
        assert!(calibrate(&truth.then(-1.0, 0.0), &data).is_err(), "an upside-down head");
    }

    #[test]
    fn scaling_of_what_is_perfectly_apart_is_finite() {
        let log_odds = [-3.0, -2.0, -0.5, 0.5, 1.0, 9.0];
        let (scale, shift) = platt(&log_odds, &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).unwrap();
        assert!(scale > 5.0 && scale < 100.0, "{scale}");
        assert!((scale * 0.5 + shift) > 2.0 && (scale * -0.5 + shift) < -2.0, "{shift}");
    }

    #[test]
    fn one_class_is_an_error() {
        let mut data = testing::dataset(20, 2, 4);
        data.agrees.fill(1.0);
        assert!(Standardised::new(&data).fit(true, 0.1).is_err());
    }
}

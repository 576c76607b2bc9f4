//! Heads that are a weighted sum of features: by L-BFGS with an L2 penalty, for any loss.

use std::cell::RefCell;

use anyhow::{Result, ensure};
use argmin::core::{CostFunction, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use hybrid::reward::statistics;
use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

use super::loss::{Labels, Loss, slopes};
use super::standardised::{Scaling, Standardised};
use hybrid_common::heads::linear::Linear;
use hybrid_common::heads::platt::ensure_both;

/// The statistics carry most of the signal in few columns, so their weights are penalised less.
pub const STATISTICS_PENALTY: f64 = 0.01;
const ITERATIONS: u64 = 300;
const MEMORY: usize = 10;
/// Rows that one thread takes at a time: their features stay in its cache. Sums are taken in this
/// order however many threads there are.
const CHUNK: usize = 128;
/// With fewer features than this, all rows together, one thread is enough.
const PARALLEL: usize = 1 << 22;

/// Weights of standardised columns.
#[derive(Debug, Clone)]
pub struct Fitted {
    pub bias: f64,
    pub weights: Vec<f64>,
}

impl Fitted {
    /// The head on raw features.
    pub fn raw(&self, scaling: &Scaling) -> Linear {
        let weights = self.weights.iter().zip(&scaling.scale).map(|(w, &s)| w * f64::from(s));
        let centre = scaling.centre[..self.weights.len()].to_vec();
        Linear { bias: self.bias, centre, weights: weights.collect() }
    }
}

/// What validation chose of a path.
pub struct Line {
    pub loss: Loss,
    /// It reads the state after the candidate.
    pub after: bool,
    pub fitted: Fitted,
    pub l2: f64,
    /// Its loss on the validation prompts, scaled.
    pub reached: f64,
}

/// What a head is fitted to.
#[derive(Clone, Copy)]
pub struct Examples<'a> {
    pub rows: ArrayView2<'a, f32>,
    /// The cloud LLM's tokens, of pairs.
    pub chosen: ArrayView2<'a, f32>,
    pub labels: &'a Labels,
    pub loss: Loss,
}

impl<'a> Examples<'a> {
    /// Of the first columns: without or with the state after the candidate.
    pub fn of(data: &'a Standardised, loss: Loss, after: bool) -> Examples<'a> {
        let (rows, chosen) = data.columns(after);
        Examples { rows, chosen, labels: &data.labels, loss }
    }
}

/// Fits one penalty after the other, each from where the last one ended.
pub struct Path<'a> {
    examples: Examples<'a>,
    /// `[bias, weights…]`
    point: Vec<f64>,
}

impl<'a> Path<'a> {
    pub fn new(examples: Examples<'a>) -> Path<'a> {
        let mut point = vec![0.0; examples.rows.ncols() + 1];
        point[0] = examples.loss.start(examples.labels);
        Path { examples, point }
    }

    /// `penalty`: on half the square of every column's weight.
    pub fn fit(&mut self, penalty: Vec<f64>) -> Result<Fitted> {
        ensure_both(&self.examples.labels.agrees)?;
        let objective = Objective::new(self.examples, penalty);
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), MEMORY)
            .with_tolerance_grad(1e-6)?
            .with_tolerance_cost(1e-8)?;
        let result = Executor::new(objective, solver)
            .configure(|state| state.param(self.point.clone()).max_iters(ITERATIONS))
            .run()?;
        let best = result.state().get_best_param().cloned().unwrap_or_default();
        ensure!(
            best.len() > 1 && best.iter().all(|w| w.is_finite()),
            "the fit did not converge; are the features finite?"
        );
        self.point = best;
        Ok(Fitted { bias: self.point[0], weights: self.point[1..].to_vec() })
    }
}

/// The usual penalty of a head with so many columns.
pub fn penalty(l2: f64, width: usize) -> Vec<f64> {
    let of = |column| if column < statistics::COUNT { STATISTICS_PENALTY } else { 1.0 };
    (0..width).map(|column| l2 * of(column)).collect()
}

/// Mean loss and penalty as a function of `[bias, weights…]`.
pub struct Objective<'a> {
    examples: Examples<'a>,
    penalty: Vec<f64>,
    /// Cost and gradient of the point asked last: argmin asks for them one after the other.
    last: RefCell<(Vec<f64>, f64, Vec<f64>)>,
}

impl<'a> Objective<'a> {
    pub fn new(examples: Examples<'a>, penalty: Vec<f64>) -> Objective<'a> {
        Objective { examples, penalty, last: RefCell::default() }
    }

    pub fn evaluate(&self, point: &[f64]) -> (f64, Vec<f64>) {
        let examples = self.examples;
        let n = examples.rows.nrows();
        let part = |at: usize| examples.evaluate(at..(at + CHUNK).min(n), point);
        let chunks: Vec<usize> = (0..n).step_by(CHUNK).collect();
        // Where there is little to do, waiting for other threads takes longer.
        let parts: Vec<(f64, Vec<f64>)> = if n * examples.rows.ncols() < PARALLEL {
            chunks.into_iter().map(part).collect()
        } else {
            chunks.into_par_iter().map(part).collect()
        };
        let (mut cost, mut gradient) = (0.0, vec![0.0; point.len()]);
        for (of_part, slope) in parts {
            cost += of_part / n as f64;
            gradient.iter_mut().zip(slope).for_each(|(g, s)| *g += s / n as f64);
        }
        for ((g, w), l2) in gradient[1..].iter_mut().zip(&point[1..]).zip(&self.penalty) {
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

impl Examples<'_> {
    /// Loss and slope of these rows, summed.
    fn evaluate(&self, rows: std::ops::Range<usize>, point: &[f64]) -> (f64, Vec<f64>) {
        let rows: Vec<usize> = rows.collect();
        let pairs = self.labels.pairs(self.loss, &rows);
        let score = |features: &[f32]| point[0] + dot(&point[1..], features);
        let scores: Vec<f64> = rows.iter().map(|&row| score(slice(&self.rows, row))).collect();
        let chosen: Vec<f64> =
            pairs.iter().map(|&(_, pair)| score(slice(&self.chosen, pair))).collect();
        let slopes = slopes(self.loss, self.labels, &rows, &scores, &pairs, &chosen);
        let mut gradient = vec![0.0; point.len()];
        let mut add = |slope: f64, features: &[f32]| {
            gradient[0] += slope;
            gradient[1..].iter_mut().zip(features).for_each(|(g, &x)| *g += slope * f64::from(x));
        };
        rows.iter().zip(&slopes.rows).for_each(|(&row, &by)| add(by, slice(&self.rows, row)));
        let of_pairs = pairs.iter().zip(&slopes.chosen);
        of_pairs.for_each(|(&(_, pair), &by)| add(by, slice(&self.chosen, pair)));
        (slopes.cost, gradient)
    }
}

/// A row, whose columns lie one after the other.
fn slice<'a>(rows: &ArrayView2<'a, f32>, row: usize) -> &'a [f32] {
    rows.index_axis_move(Axis(0), row).to_slice().expect("rows are contiguous")
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

#[cfg(test)]
mod tests {
    use hybrid_common::heads::dataset::Dataset;

    use super::*;
    use hybrid_common::heads::platt::loss;
    use hybrid_common::heads::testing;

    fn fit(data: &Dataset, loss: Loss, after: bool, l2: f64) -> Result<Linear> {
        let standardised = Standardised::new(data);
        let mut path = Path::new(Examples::of(&standardised, loss, after));
        Ok(path.fit(penalty(l2, data.width(after)))?.raw(&standardised.scaling))
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_cost() {
        let data = testing::dataset(300, 3, 1);
        let standardised = Standardised::new(&data);
        for loss in Loss::ALL {
            let penalty = vec![0.3; data.width(true)];
            let objective = Objective::new(Examples::of(&standardised, loss, true), penalty);
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
                assert!(
                    (slope - gradient[i]).abs() < 1e-6,
                    "{loss:?} {i}: {slope} {}",
                    gradient[i]
                );
            }
        }
    }

    fn cosine(a: &[f64], b: &[f64]) -> f64 {
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        product(a, b) / (product(a, a) * product(b, b)).sqrt()
    }

    #[test]
    fn a_known_separator_is_recovered() {
        let data = testing::dataset(6000, 4, 2);
        let truth = testing::truth(4);
        let head = fit(&data, Loss::Agree, true, 1e-4).unwrap();
        assert!(cosine(&head.weights, &truth.weights) > 0.97);
        assert!((head.bias - truth.bias).abs() < 0.4, "{} {}", head.bias, truth.bias);
        let without = fit(&data, Loss::Agree, false, 1e-4).unwrap();
        let loss_of = |head: &Linear| loss(&head.log_odds_of_rows(&data), &data.agrees);
        assert!(loss_of(&head) < loss_of(&without), "the state after carries signal here");
        let strong = fit(&data, Loss::Agree, true, 1e4).unwrap();
        assert!(strong.weights[statistics::COUNT..].iter().all(|w| w.abs() < 1e-3));
    }

    #[test]
    fn every_loss_finds_the_direction() {
        let (data, truth) = (testing::dataset(6000, 4, 2), testing::truth(4));
        for loss in Loss::ALL {
            let head = fit(&data, loss, true, 1e-4).unwrap();
            // Both tokens of a pair have the context in common: it is not seen in pairs alone.
            let context = statistics::COUNT..statistics::COUNT + 4;
            let mut want = truth.weights.clone();
            if loss == Loss::Pairs {
                assert!(head.weights[context.clone()].iter().all(|w| w.abs() < 1e-6));
                want[context].fill(0.0);
            }
            let cosine = cosine(&head.weights, &want);
            assert!(cosine > 0.9, "{loss:?}: {cosine}");
        }
    }

    #[test]
    fn one_class_is_an_error() {
        let mut data = testing::dataset(20, 2, 4);
        data.agrees.fill(1.0);
        assert!(fit(&data, Loss::Agree, true, 0.1).is_err());
    }
}

//! Small networks: what they compute, and how the result changes with every parameter. The rest of
//! training is in `descent`.

use half::f16;
use hybrid::reward::builtin::Uniform;
use hybrid::reward::statistics;
use ndarray::{Array1, Array2, ArrayBase, ArrayView2, Axis, Data, Ix2};

use super::linear::Fitted;
use super::standardised::Scaling;

/// Units of a hidden layer, and of residual blocks behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub units: usize,
    pub blocks: usize,
}

/// What it adds to a line. With standardised features x:
///
/// h = relu(x·W + b), for each block h += relu(h·A + a)·B + b', and at last h·v + c, besides what
/// the line makes of x.
#[derive(Debug, Clone, PartialEq)]
pub struct Net {
    pub shape: Shape,
    pub scaling: Scaling,
    /// `[width, 1]`, and a bias. Descent leaves them as they are.
    pub line: Array2<f32>,
    pub bias: f32,
    /// W, b; A, a, B, b' of each block; v, c. Vectors are `[1, n]`, v is `[n, 1]`.
    pub parameters: Vec<Array2<f32>>,
}

/// What the forward pass leaves for the backward pass.
pub struct Trace {
    /// `[rows]`
    pub scores: Array1<f32>,
    /// The first layer's output, then for every block its inner layer's and its own.
    layers: Vec<Array2<f32>>,
}

impl Net {
    /// Random weights, but for the last ones: the net begins as the line alone.
    pub fn new(shape: Shape, scaling: &Scaling, line: &Fitted, seed: u64) -> Net {
        let width = line.weights.len();
        let mut uniform = Uniform::new(seed);
        // Uniform numbers whose variance keeps that of the layer before (He).
        let mut random = |inputs: usize, outputs: usize, part: f32| {
            let most = part * (6.0 / inputs as f32).sqrt();
            Array2::from_shape_simple_fn((inputs, outputs), || (uniform.draw() * 2.0 - 1.0) * most)
        };
        let Shape { units, blocks } = shape;
        let zeros = |inputs, outputs| Array2::zeros((inputs, outputs));
        let mut parameters = vec![random(width, units, 1.0), zeros(1, units)];
        for _ in 0..blocks {
            // A block begins as almost nothing, so that depth does no harm.
            parameters.extend([random(units, units, 1.0), zeros(1, units)]);
            parameters.extend([random(units, units, 0.1), zeros(1, units)]);
        }
        parameters.extend([zeros(units, 1), zeros(1, 1)]);
        let [centre, scale] =
            [&scaling.centre, &scaling.scale].map(|values| values[..width].to_vec());
        Net {
            shape,
            scaling: Scaling { centre, scale },
            line: Array2::from_shape_fn((width, 1), |(column, _)| line.weights[column] as f32),
            bias: line.bias as f32,
            parameters,
        }
    }

    pub fn width(&self) -> usize {
        self.scaling.centre.len()
    }

    /// The last two: v and c.
    pub fn last(&self) -> [&Array2<f32>; 2] {
        self.parameters.last_chunk().expect("made by `new`").each_ref()
    }

    /// The scores of standardised rows. `keep` switches units of the hidden layers off in training:
    /// `[rows, units]` of 0 or of one over the share that is kept.
    pub fn forward(&self, x: ArrayView2<f32>, keep: Option<&Array2<f32>>) -> Trace {
        let p = &self.parameters;
        let mut h = x.dot(&p[0]) + &p[1];
        h.mapv_inplace(|v| v.max(0.0));
        if let Some(keep) = keep {
            h *= keep;
        }
        let mut layers = vec![h];
        for block in 0..self.shape.blocks {
            let [a, a_bias, b, b_bias] = self.block(block);
            let h = layers.last().expect("the first layer");
            let mut inner = h.dot(a) + a_bias;
            inner.mapv_inplace(|v| v.max(0.0));
            let h = h + &inner.dot(b) + b_bias;
            layers.extend([inner, h]);
        }
        let [v, c] = self.last();
        let of_net = layers.last().expect("the first layer").dot(v) + c;
        let scores = (x.dot(&self.line) + self.bias + of_net).remove_axis(Axis(1));
        Trace { scores, layers }
    }

    fn block(&self, block: usize) -> &[Array2<f32>; 4] {
        self.parameters[2 + 4 * block..].first_chunk().expect("made by `new`")
    }

    /// The slopes of all parameters. `slopes`: of the loss by the scores.
    pub fn backward(
        &self,
        x: ArrayView2<f32>,
        keep: Option<&Array2<f32>>,
        trace: &Trace,
        slopes: &Array1<f32>,
    ) -> Vec<Array2<f32>> {
        let slopes = slopes.view().insert_axis(Axis(1));
        let sum = |of: &Array2<f32>| of.sum_axis(Axis(0)).insert_axis(Axis(0));
        let [v, _] = self.last();
        let top = &trace.layers[2 * self.shape.blocks];
        let mut found = vec![slopes.sum_axis(Axis(0)).insert_axis(Axis(0)), top.t().dot(&slopes)];
        let mut by_h = slopes.dot(&v.t());
        for block in (0..self.shape.blocks).rev() {
            let [a, _, b, _] = self.block(block);
            let (h, inner) = (&trace.layers[2 * block], &trace.layers[2 * block + 1]);
            let mut by_inner = by_h.dot(&b.t());
            by_inner.zip_mut_with(inner, |slope, &on| *slope *= f32::from(u8::from(on > 0.0)));
            found.extend([sum(&by_h), inner.t().dot(&by_h), sum(&by_inner), h.t().dot(&by_inner)]);
            by_h += &by_inner.dot(&a.t());
        }
        by_h.zip_mut_with(&trace.layers[0], |slope, &on| *slope *= f32::from(u8::from(on > 0.0)));
        if let Some(keep) = keep {
            by_h *= keep;
        }
        found.extend([sum(&by_h), x.t().dot(&by_h)]);
        found.reverse();
        found
    }

    /// Rounds the large matrices to the half precision in which they are written.
    pub fn round(&mut self) {
        for matrix in self.parameters.iter_mut().filter(|p| is_large(p)) {
            matrix.mapv_inplace(|v| f16::from_f32(v).to_f32());
        }
    }

    /// The log-odds of one row of raw features.
    pub fn log_odds(&self, features: &[f32]) -> f64 {
        self.log_odds_of(self.scaling.apply(&features[..self.width()]).view())[0]
    }

    /// The log-odds of standardised rows.
    pub fn log_odds_of(&self, x: ArrayView2<f32>) -> Vec<f64> {
        self.forward(x, None).scores.into_iter().map(f64::from).collect()
    }

    /// The same with the log-odds scaled, and moved by so much and by so much times the
    /// standardised statistics.
    pub fn then(&self, scale: f64, shift: f64, of_stats: &[f64; statistics::COUNT]) -> Net {
        let mut net = self.clone();
        let last = net.parameters.last_chunk_mut::<2>().expect("made by `new`");
        last.iter_mut().chain([&mut net.line]).for_each(|weights| *weights *= scale as f32);
        net.bias = net.bias * scale as f32 + shift as f32;
        net.line.iter_mut().zip(of_stats).for_each(|(weight, &more)| *weight += more as f32);
        net
    }
}

/// A matrix, and no vector.
pub fn is_large<S: Data<Elem = f32>>(parameter: &ArrayBase<S, Ix2>) -> bool {
    parameter.nrows() > 1 && parameter.ncols() > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::standardised::Standardised;
    use hybrid_common::heads::testing;

    fn line(width: usize) -> Fitted {
        Fitted { bias: 0.3, weights: (0..width).map(|i| (i as f64 * 0.7).sin()).collect() }
    }

    #[test]
    fn slopes_are_how_the_scores_rise() {
        let data = testing::dataset(12, 3, 1);
        let standardised = Standardised::new(&data);
        let x = standardised.rows.view();
        for (blocks, drop) in [(0, false), (0, true), (2, false), (2, true)] {
            let shape = Shape { units: 5, blocks };
            let mut net = Net::new(shape, &standardised.scaling, &line(x.ncols()), 1);
            // No bias lies at the corner of a relu, and no last weight is 0.
            net.parameters.iter_mut().for_each(|p| p.mapv_inplace(|v| v + 0.01));
            let mask =
                Array2::from_shape_fn((12, 5), |(r, c)| if (r + c) % 3 == 0 { 0.0 } else { 1.5 });
            let keep = drop.then_some(&mask);
            let slopes: Array1<f32> = (0..12).map(|i| (i as f32 * 0.8).sin()).collect();
            let cost = |net: &Net| {
                let scores = net.forward(x, keep).scores;
                scores.iter().zip(&slopes).map(|(z, s)| f64::from(z * s)).sum::<f64>()
            };
            let found = net.backward(x, keep, &net.forward(x, keep), &slopes);
            assert_eq!(found.len(), net.parameters.len());
            for (index, slopes) in found.iter().enumerate() {
                assert_eq!(slopes.dim(), net.parameters[index].dim(), "{index}");
                for (at, slope) in slopes.indexed_iter().step_by(3) {
                    let moved = |by: f32| {
                        let mut net = net.clone();
                        net.parameters[index][at] += by;
                        cost(&net)
                    };
                    let want = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                    assert!(
                        (want - f64::from(*slope)).abs() < 0.02 * want.abs().max(1.0),
                        "{blocks} {index} {at:?}: {slope} {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn scaling_is_exact() {
        let data = testing::dataset(20, 3, 1);
        let standardised = Standardised::new(&data);
        let x = standardised.rows.view();
        let shape = Shape { units: 4, blocks: 1 };
        let mut net = Net::new(shape, &standardised.scaling, &line(x.ncols()), 1);
        net.parameters.iter_mut().for_each(|p| p.mapv_inplace(|v| v + 0.01));
        let more: [f64; statistics::COUNT] = std::array::from_fn(|i| i as f64 / 10.0);
        let then = net.then(2.0, -1.0, &more).log_odds_of(x);
        for (row, z) in net.log_odds_of(x).into_iter().enumerate() {
            let stats = x.row(row).iter().zip(&more).map(|(&x, m)| f64::from(x) * m).sum::<f64>();
            assert!((then[row] - (2.0 * z - 1.0 + stats)).abs() < 1e-4);
            assert!((net.log_odds(data.row(row)) - z).abs() < 1e-5);
        }
    }
}

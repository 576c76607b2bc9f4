//! Fits a network: AdamW on shuffled batches, a running mean of the weights, and the validation
//! prompts say when to stop.

use anyhow::Result;
use hybrid::reward::builtin::Uniform;
use ndarray::{Array1, Array2, Axis, Slice, concatenate};

use super::linear::Line;
use super::loss::slopes;
use super::net::{Net, Shape};
use super::standardised::Standardised;
use hybrid_common::heads::platt::{ensure_both, loss_when_scaled};

const BATCH: usize = 256;
const EPOCHS: usize = 40;
/// It ends after so many epochs without a lower loss.
const PATIENCE: usize = 4;
const RATE: f32 = 1e-3;
/// Share of the hidden layer that is switched off in each row.
const DROP: f32 = 0.3;
const DECAY: f32 = 0.05;
/// Of the running mean, a step.
const KEEP: f32 = 0.99;
/// Of the slopes' means, as Adam's authors have them.
const MEANS: [f32; 2] = [0.9, 0.999];

/// A fitted network.
pub struct Found {
    pub net: Net,
    /// That gave the lowest loss.
    pub epochs: usize,
}

/// Fits a network that begins as this line, fitted to the same loss.
pub fn fit(
    shape: Shape,
    line: &Line,
    train: &Standardised,
    validation: &Validation,
    seed: u64,
) -> Result<Found> {
    ensure_both(&train.labels.agrees)?;
    let mut uniform = Uniform::new(seed ^ 0x5eed);
    let mut net = Net::new(shape, &train.scaling, &line.fitted, seed);
    let mut adam = Adam::new(&net.parameters);
    let mut mean = net.clone();
    let mut best: Option<(f64, Found)> = None;
    let mut order: Vec<usize> = (0..train.rows.nrows()).collect();
    for epoch in 1..=EPOCHS {
        shuffle(&mut order, &mut uniform);
        for batch in order.chunks(BATCH) {
            let found = step(&net, line, train, batch, &mut uniform);
            adam.descend(&mut net.parameters, &found);
            for (mean, now) in mean.parameters.iter_mut().zip(&net.parameters) {
                let keep = KEEP.min(1.0 - 1.0 / adam.steps as f32);
                mean.zip_mut_with(now, |m, &n| *m += (1.0 - keep) * (n - *m));
            }
        }
        let mut rounded = mean.clone();
        rounded.round();
        let reached = validation.loss(&rounded);
        log::debug!("{shape:?} {:?} epoch {epoch}: validation loss {reached:.5}", line.loss);
        if best.as_ref().is_none_or(|(least, _)| reached < *least) {
            best = Some((reached, Found { net: rounded, epochs: epoch }));
        } else if best.as_ref().is_some_and(|(_, found)| epoch - found.epochs >= PATIENCE) {
            break;
        }
    }
    Ok(best.expect("an epoch").1)
}

/// The rows on which a network is judged.
pub struct Validation<'a> {
    /// Standardised, all columns.
    pub rows: Array2<f32>,
    pub agrees: &'a [f64],
}

impl Validation<'_> {
    /// The loss once the log-odds are scaled, as they will be.
    fn loss(&self, net: &Net) -> f64 {
        let columns = self.rows.slice_axis(Axis(1), Slice::from(..net.width()));
        loss_when_scaled(&net.log_odds_of(columns), self.agrees)
    }
}

/// The mean slopes of one batch, with the pairs of its rows.
fn step(
    net: &Net,
    &Line { loss, after, .. }: &Line,
    train: &Standardised,
    batch: &[usize],
    uniform: &mut Uniform,
) -> Vec<Array2<f32>> {
    let (rows, chosen) = train.columns(after);
    let pairs = train.labels.pairs(loss, batch);
    let others: Vec<usize> = pairs.iter().map(|&(_, pair)| pair).collect();
    let (rows, others) = (rows.select(Axis(0), batch), chosen.select(Axis(0), &others));
    let x = concatenate(Axis(0), &[rows.view(), others.view()]).expect("equally wide");
    // Both tokens of a pair are seen by the same units.
    let mut keep = Array2::from_shape_simple_fn((x.nrows(), net.shape.units), || {
        if uniform.draw() < DROP { 0.0 } else { 1.0 / (1.0 - DROP) }
    });
    for (at, &(place, _)) in (batch.len()..).zip(&pairs) {
        let same = keep.row(place).to_owned();
        keep.row_mut(at).assign(&same);
    }
    let trace = net.forward(x.view(), Some(&keep));
    let scores: Vec<f64> = trace.scores.iter().map(|&z| z.into()).collect();
    let (of_rows, of_others) = scores.split_at(batch.len());
    let slopes = slopes(loss, &train.labels, batch, of_rows, &pairs, of_others);
    let n = batch.len() as f64;
    let slopes: Array1<f32> =
        slopes.rows.iter().chain(&slopes.chosen).map(|s| (s / n) as f32).collect();
    net.backward(x.view(), Some(&keep), &trace, &slopes)
}

/// Fisher and Yates.
fn shuffle(order: &mut [usize], uniform: &mut Uniform) {
    for last in (1..order.len()).rev() {
        order.swap(last, (uniform.next_u64() % (last as u64 + 1)) as usize);
    }
}

/// AdamW: each parameter's steps are scaled by what its slopes were like, and matrices decay.
struct Adam {
    steps: i32,
    first: Vec<Array2<f32>>,
    second: Vec<Array2<f32>>,
}

impl Adam {
    fn new(parameters: &[Array2<f32>]) -> Adam {
        let zeros = || parameters.iter().map(|p| Array2::zeros(p.dim())).collect();
        Adam { steps: 0, first: zeros(), second: zeros() }
    }

    fn descend(&mut self, parameters: &mut [Array2<f32>], slopes: &[Array2<f32>]) {
        self.steps += 1;
        let [first, second] = MEANS;
        // The means begin at 0 and are too small for a while.
        let [of_first, of_second] = MEANS.map(|mean| 1.0 - mean.powi(self.steps));
        for (index, parameter) in parameters.iter_mut().enumerate() {
            let decay = if super::net::is_large(parameter) { 1.0 - RATE * DECAY } else { 1.0 };
            let (m, v) = (&mut self.first[index], &mut self.second[index]);
            m.zip_mut_with(&slopes[index], |m, &s| *m = first * *m + (1.0 - first) * s);
            v.zip_mut_with(&slopes[index], |v, &s| *v = second * *v + (1.0 - second) * s * s);
            ndarray::Zip::from(parameter).and(m).and(v).for_each(|p, &mut m, &mut v| {
                let by = (m / of_first) / ((v / of_second).sqrt() + 1e-8);
                *p = *p * decay - RATE * by;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::linear::{Examples, Path, penalty};
    use crate::train::loss::Loss;
    use hybrid_common::heads::dataset::Dataset;
    use hybrid_common::heads::metrics::auc;
    use hybrid_common::heads::testing;

    /// The AUC on other rows, of a line and of a net that begins as it.
    fn auc_of(
        shape: Shape,
        loss: Loss,
        train: &Dataset,
        validation: &Dataset,
        seed: u64,
    ) -> ([f64; 2], Net) {
        let standardised = Standardised::new(train);
        let rows = standardised.scaling.apply(&validation.columns);
        let validation = Validation { rows, agrees: &validation.agrees };
        let penalty = penalty(1e-3, standardised.rows.ncols());
        let fitted = Path::new(Examples::of(&standardised, loss, true)).fit(penalty).unwrap();
        let line = Line { loss, after: true, fitted, l2: 1e-3, reached: 0.0 };
        let begin = Net::new(shape, &standardised.scaling, &line.fitted, seed);
        let found = fit(shape, &line, &standardised, &validation, seed).unwrap().net;
        let auc = |net: &Net| auc(&net.log_odds_of(validation.rows.view()), validation.agrees);
        ([auc(&begin), auc(&found)], found)
    }

    const SHAPES: [Shape; 2] = [Shape { units: 16, blocks: 0 }, Shape { units: 16, blocks: 2 }];

    #[test]
    fn a_net_sees_what_a_line_cannot() {
        let [train, validation] = [1, 2].map(|seed| testing::bent(3000, 2, seed));
        for shape in SHAPES {
            let ([line, net], _) = auc_of(shape, Loss::Agree, &train, &validation, 1);
            assert!(net > line + 0.2, "{shape:?}: {net}, the line {line}");
        }
    }

    #[test]
    fn every_loss_orders() {
        let [train, validation] = [1, 2].map(|seed| testing::dataset(3000, 3, seed));
        let most = auc(&testing::truth(3).log_odds_of_rows(&validation), &validation.agrees);
        for loss in Loss::ALL {
            let ([_, net], _) = auc_of(SHAPES[0], loss, &train, &validation, 1);
            // Pairs say nothing of how places differ.
            let want = if loss == Loss::Pairs { most - 0.1 } else { most - 0.03 };
            assert!(net > want, "{loss:?}: {net} of {most}");
        }
    }

    #[test]
    fn the_seed_decides() {
        let [train, validation] = [1, 2].map(|seed| testing::dataset(600, 1, seed));
        let fit = |seed| auc_of(SHAPES[1], Loss::Both, &train, &validation, seed).1;
        assert_eq!(fit(7), fit(7));
        assert_ne!(fit(7), fit(8));
    }
}

//! A head of a few kilobytes: a weighted L1 penalty chooses columns, then the weights of these are
//! fitted anew. The penalty is smaller for the statistics, as we know that they tell much (after
//! LLM-Lasso, which asks an LLM).

use anyhow::Result;
use hybrid::reward::statistics;
use ndarray::Axis;

use super::linear::{Examples, Fitted, Line, Objective, Path, penalty};
use super::standardised::Standardised;

/// On a statistic's weight, of that on a state's.
const STATISTICS_PENALTY: f64 = 0.1;
/// No more columns than make a few kilobytes.
pub const MAX_COLUMNS: usize = 300;
/// Penalties tried, each this part of the last, beginning where the states' weights are all 0.
const STEPS: usize = 10;
const RATIO: f64 = 0.65;
/// Enough to choose columns; their weights are fitted anew.
const ITERATIONS: usize = 60;
/// Of the line's penalty, on the weights that are fitted anew: few columns need less.
const L2_PART: f64 = 0.1;

/// One choice of columns.
pub struct Sparse {
    pub fitted: Fitted,
    pub columns: usize,
}

/// Ever more columns, up to [`MAX_COLUMNS`].
pub fn fit(data: &Standardised, line: &Line) -> Result<Vec<Sparse>> {
    let examples = Examples::of(data, line.loss, line.after);
    let width = examples.rows.ncols();
    let objective = Objective::new(examples, vec![0.0; width]);
    let cost = |column| if column < statistics::COUNT { STATISTICS_PENALTY } else { 1.0 };
    let costs: Vec<f64> = (0..width).map(cost).collect();
    let mut point = vec![0.0; width + 1];
    point[0] = line.loss.start(&data.labels);
    // Pairs say nothing of the state before: its slopes are 0.
    let largest = objective.evaluate(&point).1[1 + statistics::COUNT..]
        .iter()
        .fold(1e-6f64, |most, slope| most.max(slope.abs()));
    let mut found = Vec::<Sparse>::new();
    for step in 0..STEPS {
        let l1 = largest * RATIO.powi(step as i32);
        let penalty: Vec<f64> = costs.iter().map(|cost| cost * l1).collect();
        point = descend(&objective, point, &penalty);
        let columns: Vec<usize> = (0..width).filter(|column| point[1 + column] != 0.0).collect();
        if columns.len() > MAX_COLUMNS {
            break;
        }
        if !columns.is_empty() && found.last().is_none_or(|last| last.columns != columns.len()) {
            let fitted = refit(data, line, &columns)?;
            found.push(Sparse { fitted, columns: columns.len() });
        }
    }
    Ok(found)
}

/// The weights of these columns alone, without L1, which would keep them small.
fn refit(data: &Standardised, line: &Line, columns: &[usize]) -> Result<Fitted> {
    let all = Examples::of(data, line.loss, line.after);
    let width = all.rows.ncols();
    // Column by column they would lie the wrong way round.
    let [rows, chosen] = [all.rows, all.chosen]
        .map(|all| all.select(Axis(1), columns).as_standard_layout().into_owned());
    let mut path = Path::new(Examples { rows: rows.view(), chosen: chosen.view(), ..all });
    let penalties = penalty(line.l2 * L2_PART, width);
    let few = path.fit(columns.iter().map(|&column| penalties[column]).collect())?;
    let mut weights = vec![0.0; width];
    columns.iter().zip(&few.weights).for_each(|(&column, &weight)| weights[column] = weight);
    Ok(Fitted { bias: few.bias, weights })
}

/// FISTA: gradient steps with momentum, each followed by the step of L1, which sets small weights
/// to 0. The momentum begins anew when it leads uphill.
fn descend(objective: &Objective, start: Vec<f64>, penalty: &[f64]) -> Vec<f64> {
    let cost = |smooth: f64, point: &[f64]| {
        smooth + penalty.iter().zip(&point[1..]).map(|(l1, w)| l1 * w.abs()).sum::<f64>()
    };
    let (mut point, mut ahead, mut speed, mut step) = (start.clone(), start, 1.0f64, 1.0f64);
    let mut best = f64::INFINITY;
    for _ in 0..ITERATIONS {
        let (smooth, gradient) = objective.evaluate(&ahead);
        let (next, found) = loop {
            let next = shrunk(&ahead, &gradient, step, penalty);
            let found = objective.evaluate(&next).0;
            if found <= smooth + model(&ahead, &next, &gradient, step) + 1e-12 || step < 1e-9 {
                let found = cost(found, &next);
                break (next, found);
            }
            step /= 2.0;
        };
        if found > best {
            (ahead, speed) = (point.clone(), 1.0);
            best = f64::INFINITY;
            continue;
        }
        let faster = (1.0 + (1.0 + 4.0 * speed * speed).sqrt()) / 2.0;
        let momentum = (speed - 1.0) / faster;
        ahead = next.iter().zip(&point).map(|(n, p)| n + momentum * (n - p)).collect();
        let done = best - found < 1e-6;
        (point, speed, best) = (next, faster, found);
        if done {
            break;
        }
    }
    point
}

/// A step against the gradient, then every weight nearer to 0 by its penalty.
fn shrunk(from: &[f64], gradient: &[f64], step: f64, penalty: &[f64]) -> Vec<f64> {
    let moved = from.iter().zip(gradient).map(|(p, g)| p - step * g);
    let by = std::iter::once(0.0).chain(penalty.iter().map(|l1| step * l1));
    moved.zip(by).map(|(w, by)| w.signum() * (w.abs() - by).max(0.0)).collect()
}

/// How the cost changes at most if the step is short enough for the curvature.
fn model(from: &[f64], to: &[f64], gradient: &[f64], step: f64) -> f64 {
    let moves = from.iter().zip(to).zip(gradient);
    moves.map(|((a, b), g)| g * (b - a) + (b - a) * (b - a) / (2.0 * step)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::loss::Loss;
    use hybrid_common::heads::testing;

    /// A line of no weights, which says what is fitted.
    fn line(loss: Loss) -> Line {
        let fitted = Fitted { bias: 0.0, weights: Vec::new() };
        Line { loss, after: true, fitted, l2: 0.01, reached: 0.0 }
    }

    /// Two of 64 columns of the states and one statistic decide.
    #[test]
    fn noise_is_left_out() {
        let used = [3, statistics::COUNT + 5, statistics::COUNT + 40];
        let data = testing::labelled(4000, 32, 1, |features| {
            used.iter().map(|&column| 1.5 * f64::from(features[column])).sum()
        });
        for loss in [Loss::Agree, Loss::Soft, Loss::LogP] {
            let found = fit(&Standardised::new(&data), &line(loss)).unwrap();
            let first = found.iter().find(|sparse| sparse.columns >= 3).unwrap();
            for &column in &used {
                assert!(first.fitted.weights[column] > 0.3, "{loss:?} {column}");
            }
            assert!(first.columns < 12, "{loss:?}: {} columns", first.columns);
            let columns = |sparse: &Sparse| {
                sparse.fitted.weights.iter().filter(|weight| **weight != 0.0).count()
            };
            assert!(found.iter().all(|sparse| columns(sparse) == sparse.columns));
            assert!(found.is_sorted_by(|a, b| a.columns < b.columns), "the penalty falls");
        }
    }

    #[test]
    fn a_statistic_is_taken_before_a_state() {
        let [stat, state] = [2, statistics::COUNT + 1];
        let mut data = testing::labelled(3000, 4, 2, |x| 1.5 * f64::from(x[stat]));
        // The state says exactly the same.
        for row in data.columns.chunks_exact_mut(statistics::COUNT + 8) {
            row[state] = row[stat];
        }
        let found = fit(&Standardised::new(&data), &line(Loss::Agree)).unwrap();
        assert!(found.len() > 2);
        for sparse in found {
            assert!(sparse.fitted.weights[stat] > 0.5);
            assert_eq!(sparse.fitted.weights[state], 0.0, "{} columns", sparse.columns);
        }
    }
}

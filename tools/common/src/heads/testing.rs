//! Synthetic positions with a known answer.

use hybrid::reward::builtin::Uniform;
use hybrid::reward::statistics;

use super::dataset::Dataset;
use super::linear::Linear;
use super::platt::sigmoid;

/// The log-odds by which [`dataset`] draws its labels.
pub fn truth(hidden_size: usize) -> Linear {
    let width = statistics::COUNT + 2 * hidden_size;
    Linear {
        bias: 1.5,
        centre: vec![0.0; width],
        weights: (0..width).map(|i| (i as f64 * 1.3 + 0.4).sin()).collect(),
    }
}

/// `rows` positions, ten per prompt, labelled by [`truth`].
pub fn dataset(rows: usize, hidden_size: usize, seed: u64) -> Dataset {
    let truth = truth(hidden_size);
    labelled(rows, hidden_size, seed, |features| truth.log_odds(features))
}

/// The same with log-odds that no sum of columns has: two of them pull one way or the other
/// together.
pub fn bent(rows: usize, hidden_size: usize, seed: u64) -> Dataset {
    labelled(rows, hidden_size, seed, |features| {
        let [a, b] = [0, 1].map(|column| f64::from(features[statistics::COUNT + column]));
        3.0 * a * b + 1.0
    })
}

/// Positions with labels drawn by `log_odds`. The LLM's token is the likeliest of eight.
pub fn labelled(
    rows: usize,
    hidden_size: usize,
    seed: u64,
    log_odds: impl Fn(&[f32]) -> f64,
) -> Dataset {
    let (mut uniform, mut others) = (Uniform::new(seed), Uniform::new(seed ^ 0xdead));
    let draw = |uniform: &mut Uniform, n| (0..n).map(|_| uniform.draw() * 4.0 - 2.0).collect();
    let mut data = Dataset::new(hidden_size);
    for row in 0..rows {
        let parts: [Vec<f32>; 3] =
            [statistics::COUNT, hidden_size, hidden_size].map(|n| draw(&mut uniform, n));
        let probability = sigmoid(log_odds(&parts.concat()));
        let agrees = f64::from(uniform.draw()) < probability;
        if !agrees {
            let tokens = (0..8).map(|_| {
                let stats = draw(&mut others, statistics::COUNT);
                [stats, parts[1].clone(), draw(&mut others, hidden_size)].concat()
            });
            let best = tokens.max_by(|a, b| log_odds(a).total_cmp(&log_odds(b)));
            data.pairs.rows.push(row as u32);
            data.pairs.columns.extend(best.expect("eight"));
        }
        data.agrees.push(f64::from(u8::from(agrees)));
        data.llm_log_p.push(probability.ln() as f32);
        data.columns.extend(parts.concat());
        data.prompts.push(row as u32 / 10);
    }
    data
}

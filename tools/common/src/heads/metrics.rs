//! How well scores find the positions where the cloud LLM disagrees.

use hybrid::reward::builtin::Uniform;

use super::dataset::Dataset;

/// Bins of the calibration error, of equal size.
const BINS: usize = 10;

const RESAMPLES: usize = 1000;

/// Row numbers by ascending score; equal scores in a fixed order that knows nothing of the labels.
pub fn ascending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let shuffled = |row: usize| (row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(shuffled(a).cmp(&shuffled(b))));
    order
}

/// The probability that a disagreement scores lower than an agreement; equal scores count half.
pub fn auc(scores: &[f64], agrees: &[f64]) -> f64 {
    let order = ascending(scores);
    let (mut below, mut wins) = (0.0, 0.0);
    for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let disagreeing = tied.iter().filter(|&&row| agrees[row] == 0.0).count() as f64;
        let agreeing = tied.len() as f64 - disagreeing;
        wins += agreeing * (below + disagreeing / 2.0);
        below += disagreeing;
    }
    wins / (below * (agrees.len() as f64 - below))
}

/// So many of the rows are this share of them.
pub fn count(share: f64, rows: usize) -> usize {
    (share * rows as f64).round() as usize
}

/// Share of all disagreements among the `share` of positions that score lowest.
pub fn recall(scores: &[f64], agrees: &[f64], share: f64) -> f64 {
    let order = ascending(scores);
    let asked = &order[..count(share, order.len())];
    let caught = asked.iter().filter(|&&row| agrees[row] == 0.0).count() as f64;
    caught / agrees.iter().filter(|&&a| a == 0.0).count().max(1) as f64
}

/// Share of prompts with every disagreement among the `share` of positions that score lowest.
pub fn whole_prompts(scores: &[f64], data: &Dataset, share: f64) -> f64 {
    let order = ascending(scores);
    let mut whole = vec![true; data.prompt_count()];
    for &row in &order[count(share, order.len())..] {
        if data.agrees[row] == 0.0 {
            whole[data.prompts[row] as usize] = false;
        }
    }
    whole.iter().filter(|&&w| w).count() as f64 / whole.len().max(1) as f64
}

/// Expected calibration error: mean distance between score and frequency over bins of equal size.
pub fn calibration_error(scores: &[f64], agrees: &[f64]) -> f64 {
    let order = ascending(scores);
    let bins = order.chunks(order.len().div_ceil(BINS).max(1));
    let errors = bins.map(|bin| {
        let sum = |values: &[f64]| bin.iter().map(|&row| values[row]).sum::<f64>();
        (sum(scores) - sum(agrees)).abs()
    });
    errors.sum::<f64>() / order.len().max(1) as f64
}

/// The middle 95 % of a figure over resampled prompts. Prompts are resampled, not rows, because the
/// rows of one prompt are alike.
pub fn interval(data: &Dataset, seed: u64, figure: impl Fn(&[usize]) -> f64) -> (f64, f64) {
    let mut uniform = Uniform::new(seed);
    let rows: Vec<usize> = (0..data.rows()).collect();
    let prompts: Vec<&[usize]> =
        rows.chunk_by(|&a, &b| data.prompts[a] == data.prompts[b]).collect();
    let draw = |uniform: &mut Uniform| (uniform.next_u64() % prompts.len() as u64) as usize;
    let mut figures: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sample: Vec<&[usize]> =
                prompts.iter().map(|_| prompts[draw(&mut uniform)]).collect();
            figure(&sample.concat())
        })
        .filter(|figure| figure.is_finite())
        .collect();
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures.get((share * figures.len() as f64) as usize).copied();
    (at(0.025).unwrap_or(f64::NAN), at(0.975).unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::{platt::sigmoid, testing};

    #[test]
    fn figures_of_known_rankings() {
        let agrees = [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0];
        let rising: Vec<f64> = (0..10).map(|i| i as f64 / 10.0).collect();
        let falling: Vec<f64> = rising.iter().map(|s| 1.0 - s).collect();
        // name, scores, auc, recall at 0.2, recall at 0.6
        let table = [
            ("rising", &rising, (18.0 + 0.0) / 21.0, 2.0 / 3.0, 1.0),
            ("falling", &falling, 3.0 / 21.0, 0.0, 1.0 / 3.0),
            ("constant", &vec![0.5; 10], 0.5, f64::NAN, f64::NAN),
        ];
        for (name, scores, want_auc, at_20, at_60) in table {
            assert!((auc(scores, &agrees) - want_auc).abs() < 1e-12, "{name}");
            for (share, want) in [(0.2, at_20), (0.6, at_60)] {
                let got = recall(scores, &agrees, share);
                assert!(want.is_nan() || (got - want).abs() < 1e-12, "{name} {share}: {got}");
            }
        }
    }

    #[test]
    fn calibration_errors() {
        let data = testing::dataset(3000, 2, 9);
        let scores: Vec<f64> =
            testing::truth(2).log_odds_of_rows(&data).into_iter().map(sigmoid).collect();
        assert!(calibration_error(&scores, &data.agrees) < 0.04);
        let moved: Vec<f64> = scores.iter().map(|s| s * 0.5).collect();
        assert!(calibration_error(&moved, &data.agrees) > 0.1);
    }

    #[test]
    fn an_interval_holds_the_figure() {
        let data = testing::dataset(2000, 1, 5);
        let scores = testing::truth(1).log_odds_of_rows(&data);
        let figure = |rows: &[usize]| {
            let pick = |values: &[f64]| rows.iter().map(|&r| values[r]).collect::<Vec<_>>();
            auc(&pick(&scores), &pick(&data.agrees))
        };
        let (low, high) = interval(&data, 1, figure);
        let whole = auc(&scores, &data.agrees);
        assert!(low < whole && whole < high && high - low < 0.1, "{low} {whole} {high}");
        assert_eq!(interval(&data, 1, figure), (low, high), "the seed decides");
    }

    #[test]
    fn whole_prompts_need_every_disagreement() {
        let mut data = testing::dataset(4, 1, 1);
        data.agrees = vec![0.0, 1.0, 0.0, 0.0];
        data.prompts = vec![0, 0, 1, 1];
        let scores = [0.1, 0.9, 0.2, 0.8];
        for (share, want) in [(0.0, 0.0), (0.25, 0.5), (0.5, 0.5), (0.75, 1.0)] {
            assert_eq!(whole_prompts(&scores, &data, share), want, "{share}");
        }
    }
}

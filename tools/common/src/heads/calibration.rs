//! The table of a bundle: what each threshold means on the calibration prompts.

use hybrid::bundle::{CalibrationPoint, Measured};

use super::dataset::Dataset;
use super::metrics::{ascending, count};

/// Points of a table: one for every hundredth of the tokens.
const POINTS: usize = 100;

/// Thresholds with what they mean for these scores, ascending, and how much data that stands on.
pub fn calibration(scores: &[f64], data: &Dataset) -> (Vec<CalibrationPoint>, Measured) {
    let disagreements = data.disagreements();
    let (mut points, mut effect) = (Vec::<CalibrationPoint>::new(), 1.0f64);
    for point in 1..=POINTS {
        let threshold = threshold(scores, point as f64 / POINTS as f64);
        if points.last().is_some_and(|last| last.threshold >= threshold) {
            continue;
        }
        let errors = Errors::of(scores, threshold, data);
        points.push(CalibrationPoint {
            threshold,
            share: errors.under as f32 / data.rows().max(1) as f32,
            recall: (disagreements - errors.kept) as f32 / disagreements.max(1) as f32,
            risk: Some(errors.risk as f32),
        });
        if errors.kept >= ENOUGH {
            effect = effect.max(errors.design_effect);
        }
    }
    let measured = Measured {
        prompts: data.prompt_count() as u32,
        tokens: data.rows() as u32,
        disagreements: disagreements as u32,
        design_effect: effect as f32,
    };
    (points, measured)
}

/// The threshold under which `share` of the scores lie, as nearly as they allow.
pub fn threshold(scores: &[f64], share: f64) -> f32 {
    let order = ascending(scores);
    let at = count(share, order.len());
    match (at.checked_sub(1).and_then(|i| order.get(i)), order.get(at)) {
        (_, None) => 1.0,
        (None, Some(&first)) => scores[first] as f32,
        (Some(&below), Some(&above)) => ((scores[below] + scores[above]) / 2.0) as f32,
    }
}

/// With fewer errors than this their variance says nothing.
const ENOUGH: usize = 10;

/// What a threshold leaves.
struct Errors {
    /// Tokens under the threshold.
    under: usize,
    /// Disagreements that are kept.
    kept: usize,
    /// Share of a prompt's tokens that are kept disagreements, mean over prompts.
    risk: f64,
    /// The variance of the share of kept disagreements among all tokens, when prompts are drawn,
    /// over that when tokens are drawn (Kish).
    design_effect: f64,
}

impl Errors {
    fn of(scores: &[f64], threshold: f32, data: &Dataset) -> Errors {
        let (mut under, mut prompts) = (0, vec![(0usize, 0usize); data.prompt_count()]);
        for (row, &score) in scores.iter().enumerate() {
            let is_under = (score as f32) < threshold;
            let (kept, tokens) = &mut prompts[data.prompts[row] as usize];
            under += usize::from(is_under);
            *kept += usize::from(!is_under && data.agrees[row] == 0.0);
            *tokens += 1;
        }
        let sum = |term: &dyn Fn(f64, f64) -> f64| {
            prompts.iter().map(|&(kept, tokens)| term(kept as f64, tokens as f64)).sum::<f64>()
        };
        let (m, n) = (prompts.len() as f64, scores.len() as f64);
        let share = sum(&|kept, _| kept) / n;
        let squares = sum(&|kept, tokens| (kept - share * tokens).powi(2));
        Errors {
            under,
            kept: prompts.iter().map(|&(kept, _)| kept).sum(),
            risk: sum(&|kept, tokens| kept / tokens) / m,
            design_effect: m / (m - 1.0) * squares / (n * share * (1.0 - share)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::{platt::sigmoid, testing};

    #[test]
    fn tables_are_monotone_and_mean_what_they_say() {
        let data = testing::dataset(3000, 2, 9);
        let scores: Vec<f64> =
            testing::truth(2).log_odds_of_rows(&data).into_iter().map(sigmoid).collect();
        let (points, measured) = calibration(&scores, &data);
        assert_eq!(points.len(), POINTS);
        assert!(points.is_sorted_by(|a, b| a.threshold < b.threshold));
        assert!(points.is_sorted_by(|a, b| a.share < b.share && a.recall <= b.recall));
        for (point, share) in points.iter().zip(1..) {
            let under = scores.iter().filter(|&&s| (s as f32) < point.threshold).count();
            assert!((under as f32 / 3000.0 - point.share).abs() < 1e-6);
            assert!((point.share - share as f32 / 100.0).abs() < 0.002, "{point:?} {share}");
            // Prompts are equally long here, so both means are one.
            let kept = (1.0 - point.recall) * data.disagreements() as f32 / 3000.0;
            assert!((point.risk.unwrap() - kept).abs() < 1e-5, "{point:?}");
        }
        let counts = (measured.prompts, measured.tokens, measured.disagreements as usize);
        assert_eq!(counts, (300, 3000, data.disagreements()));
        assert!(measured.design_effect < 1.3, "rows are independent: {measured:?}");
    }

    #[test]
    fn errors_that_come_together_count_once() {
        // Ten rows a prompt: all of one prompt in five are wrong.
        let mut data = testing::dataset(1000, 1, 3);
        data.agrees = (0..1000).map(|row| f64::from(u8::from(row / 10 % 5 != 0))).collect();
        let errors = Errors::of(&[0.5; 1000], 0.5, &data);
        assert_eq!((errors.under, errors.kept), (0, 200));
        assert!((errors.risk - 0.2).abs() < 1e-9);
        assert!((errors.design_effect - 10.0 * 100.0 / 99.0).abs() < 1e-6, "ten times fewer");
    }

    #[test]
    fn equal_scores_make_one_point() {
        let mut data = testing::dataset(20, 1, 3);
        data.agrees.fill(0.0);
        let (points, _) = calibration(&[0.5; 20], &data);
        assert!(points.is_sorted_by(|a, b| a.threshold < b.threshold), "{points:?}");
        assert_eq!(points.last().map(|p| p.share), Some(1.0));
    }
}

//! All fitted heads beside each other, as they would be installed.

use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hybrid::reward::Head as Loaded;
use serde::Serialize;

use super::head::Head;
use super::kinds::Trial;
use super::report::Figures;
use hybrid_common::heads::dataset::Dataset;
use hybrid_common::heads::platt::{platt, sigmoid};

/// Rows on which a written head is run.
const RUNS: usize = 500;
/// A head with more bytes is not chosen.
const MAX_BYTES: usize = 1_000_000;

/// A head that could be installed.
pub struct Candidate<'a> {
    pub trial: &'a Trial,
    /// Scaled.
    pub head: Head,
    pub onnx: Vec<u8>,
    pub row: Row,
}

/// What it is worth.
#[derive(Debug, Serialize)]
pub struct Row {
    pub kind: &'static str,
    pub fitted_to: &'static str,
    pub after: bool,
    pub setting: String,
    /// Mean negative log-likelihood on the validation prompts.
    pub loss: f64,
    pub bytes: usize,
    /// The median on this machine.
    pub microseconds: f64,
    pub on_validation: Figures,
    pub on_test: Option<Figures>,
}

impl<'a> Candidate<'a> {
    /// Scales, writes and tries a head.
    pub fn of(
        trial: &'a Trial,
        validation: &Dataset,
        test: Option<&Dataset>,
    ) -> Result<Candidate<'a>> {
        let (scale, shift) = platt(&trial.head.log_odds_of_rows(validation), &validation.agrees)?;
        let head = trial.head.then(scale, shift);
        let onnx = head.write(validation.hidden_size);
        let figures =
            |data: &Dataset| Figures::of(trial.kind, &head.probabilities(data), data, true);
        let row = Row {
            kind: trial.kind,
            fitted_to: trial.fitted_to.name(),
            after: Loaded::load(&onnx, validation.hidden_size)?.reads_after(),
            setting: trial.setting.clone(),
            loss: trial.loss,
            bytes: onnx.len(),
            microseconds: (measure(&onnx, &head, validation)? * 10.0).round() / 10.0,
            on_validation: figures(validation),
            on_test: test.map(figures),
        };
        Ok(Candidate { trial, head, onnx, row })
    }
}

/// The lowest loss of those that are small enough; of equal ones the first.
pub fn best<'a, 'b>(candidates: &'b [Candidate<'a>]) -> Result<&'b Candidate<'a>> {
    let small = candidates.iter().filter(|candidate| candidate.onnx.len() <= MAX_BYTES);
    let best = small.min_by(|a, b| a.trial.loss.total_cmp(&b.trial.loss));
    best.with_context(|| {
        format!("no head has at most {MAX_BYTES} bytes: try --heads linear,sparse")
    })
}

/// Runs the written head: it must give the fitted scores. Microseconds a run.
fn measure(onnx: &[u8], head: &Head, data: &Dataset) -> Result<f64> {
    let mut loaded = Loaded::load(onnx, data.hidden_size)?;
    let mut runs = Vec::new();
    for row in (0..data.rows()).step_by(data.rows().div_ceil(RUNS).max(1)) {
        let features = data.row(row);
        let (stats, hidden) = features.split_first_chunk().context("a short row")?;
        let (before, after) = hidden.split_at(data.hidden_size);
        let begun = Instant::now();
        let got = loaded.run(before, Some(after), stats)?;
        runs.push(begun.elapsed().as_secs_f64() * 1e6);
        let want = sigmoid(head.log_odds(features));
        ensure!(
            (f64::from(got) - want).abs() < 1e-3,
            "the written head scores {got} where the fitted one scores {want}"
        );
    }
    runs.sort_by(f64::total_cmp);
    Ok(runs.get(runs.len() / 2).copied().unwrap_or_default())
}

/// The rows as a table for people. `*` is before the one that was chosen.
pub struct Table<'a> {
    pub rows: Vec<&'a Row>,
    pub chosen: usize,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let on_test = self.rows.iter().any(|row| row.on_test.is_some());
        write!(f, "  {:9}{:7}{:6}{:30}{:>8}", "head", "to", "after", "", "loss")?;
        write!(
            f,
            "{:>8}{:>7}{:>7}{:>7}{:>7}{:>8}",
            "AUC", "at 5 %", "10 %", "20 %", "30 %", "cal."
        )?;
        let test = if on_test { "   test AUC   10 %   20 %" } else { "" };
        writeln!(f, "{:>8}{:>8}{test}", "bytes", "µs")?;
        for (at, row) in self.rows.iter().enumerate() {
            let mark = if at == self.chosen { "*" } else { " " };
            let after = if row.after { "yes" } else { "no" };
            write!(f, "{mark} {:9}{:7}{after:6}{:30}", row.kind, row.fitted_to, row.setting)?;
            let figures = &row.on_validation;
            let recall = figures.recall.map(|recall| format!("{recall:7.3}")).concat();
            let error = figures.calibration_error.unwrap_or_default();
            write!(f, "{:8.4}{:8.4}{recall}{error:8.4}", row.loss, figures.auc)?;
            write!(f, "{:8}{:8.1}", row.bytes, row.microseconds)?;
            if let Some(Figures { auc, recall: [_, at_10, at_20, _], .. }) = &row.on_test {
                write!(f, "{auc:11.4}{at_10:7.3}{at_20:7.3}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

//! `hybrid train`: fits a reward head to what `hybrid collect` noted and puts it into the bundle. Read
//! top-down: `tables`, `dataset`, `fit`, `metrics`, `report`.

mod arguments;
pub mod calibration;
pub mod dataset;
pub mod fit;
mod head_file;
pub mod mbpp;
pub mod metrics;
pub mod onnx;
pub mod prompts;
pub mod report;
mod select;
pub mod tables;
#[cfg(test)]
pub mod testing;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ArgMatches;
use hybrid::bundle::RewardInfo;
use hybrid::reward::{Head, statistics};
use hybrid::session::{Model, ModelOptions};
use serde_json::json;

use arguments::Options;
pub use arguments::command;
use dataset::Dataset;
use fit::{Linear, Standardised};
pub use head_file::HeadFile;
pub use prompts::{Prompt, Split, Stop};
use report::{Figures, Report};
use select::Trial;
use tables::Tables;

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let options = Options::parse(arguments)?;
    let model = Model::open(&options.bundle, ModelOptions::default())?;
    let tables = Tables::read(&options.records, &model)?;
    let Tables { train, validation, .. } = &tables;
    for (name, data) in [("train", train), ("validation", validation), ("test", &tables.test)] {
        println!("{name}: {}", describe(data));
    }
    let trials = select::trials(train, validation, options.after)?;
    let best = select::best(&trials).context("no head was fitted")?;
    let head = fit::calibrate(&best.head, validation)?;
    if options.curve {
        print!("{}", report::curve(&learning_curve(best, train, validation)?));
    }
    let file = finish(&options, &model, &tables, &trials, best, &head)?;
    if let Some(dir) = &options.out {
        file.write(dir)?;
        println!("written to {}", dir.display());
    }
    file.install(&model.bundle, false)?;
    println!("installed in {}", options.bundle.display());
    Ok(())
}

/// What heads like `best` are worth when they are fitted to an eighth, a quarter and half of the prompts.
fn learning_curve(
    best: &Trial,
    train: &Dataset,
    validation: &Dataset,
) -> Result<Vec<(usize, Figures)>> {
    [0.125, 0.25, 0.5, 1.0]
        .map(|share| {
            let part = train.part(share);
            let head = Standardised::new(&part).fit(best.after, best.l2)?;
            let scores = head.log_odds_of_rows(validation);
            Ok((part.rows(), Figures::of("", &scores, validation, false)))
        })
        .into_iter()
        .collect()
}

/// Its size and how often the models disagree.
pub fn describe(data: &Dataset) -> String {
    let share = data.disagreements() as f64 / data.rows().max(1) as f64;
    format!(
        "{} prompts, {} tokens, the SLM disagrees on {:.1} %",
        data.prompt_count(),
        data.rows(),
        share * 100.0
    )
}

/// Measures the chosen head, prints the report and makes the files.
fn finish(
    options: &Options,
    model: &Model,
    tables: &Tables,
    trials: &[Trial],
    best: &Trial,
    head: &Linear,
) -> Result<HeadFile> {
    let Tables { train, validation, test, cloud_model } = tables;
    let other = select::best_of(trials, !best.after).map(|trial| {
        let name = if best.after { "head without after" } else { "head with after" };
        (name, &trial.head)
    });
    let on_validation = Report::of(head, other, validation);
    print!("on validation\n{on_validation}");
    let on_test = (test.rows() > 0).then(|| Report::of(head, other, test));
    if let Some(report) = &on_test {
        print!("on test\n{report}");
    }

    let onnx = onnx::write(head, validation.hidden_size);
    let microseconds = measure(&onnx, head, validation)?;
    let scores = head.probabilities(validation);
    let (table, measured) = calibration::calibration(&scores, validation);
    println!("threshold  cloud tokens  disagreements caught");
    for point in table.iter().skip(4).step_by(5) {
        println!(
            "{:9.4}{:13.1} %{:20.1} %",
            point.threshold,
            point.share * 100.,
            point.recall * 100.
        );
    }
    println!(
        "{} state after the candidate, L2 {}; {} bytes, {microseconds:.1} µs a token",
        if best.after { "with" } else { "without" },
        best.l2,
        onnx.len()
    );
    let info = RewardInfo {
        after: best.after,
        cloud_model: cloud_model.clone(),
        provenance: format!(
            "hybrid train {}, statistics {}; {}; validation {}",
            env!("CARGO_PKG_VERSION"),
            statistics::VERSION,
            describe(train),
            describe(validation)
        ),
        default_threshold: calibration::threshold(&scores, options.share),
        calibration: table,
        measured: Some(measured),
    };
    let training = json!({
        "bundle_format": hybrid::bundle::FORMAT_VERSION,
        "graph_sha256": file_hash(model, hybrid::bundle::FileRole::Graph),
        "weights_sha256": file_hash(model, hybrid::bundle::FileRole::Weights),
        "statistics_version": statistics::VERSION,
        "train": counts(train),
        "validation": counts(validation),
        "l2": best.l2,
        "test": counts(test),
        "on_validation": on_validation,
        "on_test": on_test,
        "microseconds": (microseconds * 10.0).round() / 10.0,
    });
    Ok(HeadFile::new(&model.bundle, onnx, info, training))
}

fn file_hash(model: &Model, role: hybrid::bundle::FileRole) -> Option<&str> {
    model.bundle.manifest().files.get(&role).map(|file| file.sha256.as_str())
}

fn counts(data: &Dataset) -> serde_json::Value {
    json!({
        "prompts": data.prompt_count(),
        "tokens": data.rows(),
        "disagreements": data.disagreements(),
    })
}

/// Runs the written head over all rows: it must give the fitted scores. Microseconds a run.
fn measure(onnx: &[u8], head: &Linear, data: &Dataset) -> Result<f64> {
    let mut loaded = Head::load(onnx, data.hidden_size)?;
    let mut runs = Vec::new();
    for row in 0..data.rows() {
        let features = data.row(row);
        let (stats, hidden) = features.split_first_chunk().context("a short row")?;
        let (before, after) = hidden.split_at(data.hidden_size);
        let begun = Instant::now();
        let got = loaded.run(before, Some(after), stats)?;
        runs.push(begun.elapsed().as_secs_f64() * 1e6);
        let want = fit::sigmoid(head.log_odds(features));
        ensure!(
            (f64::from(got) - want).abs() < 1e-3,
            "the written head scores {got} where the fitted one scores {want}"
        );
    }
    runs.sort_by(f64::total_cmp);
    Ok(runs.get(runs.len() / 2).copied().unwrap_or_default())
}

/// Writes a file whole or not at all.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| path.display().to_string())
}

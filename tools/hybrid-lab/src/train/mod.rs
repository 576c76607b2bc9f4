//! `hybrid-lab train`: fits a reward head to what `hybrid-lab collect` noted and puts it into the
//! bundle. Read top-down: `standardised`, `loss`; `linear`, `sparse`, `net` and `descent`, `stack`;
//! `kinds`, `select`; `onnx`, `comparison`, `report`.

mod arguments;
mod comparison;
mod descent;
mod head;
mod kinds;
mod linear;
mod loss;
mod net;
mod onnx;
pub mod report;
mod select;
mod sparse;
mod stack;
mod standardised;

use anyhow::Result;
use clap::ArgMatches;
use hybrid::bundle::RewardInfo;
use hybrid::reward::statistics;
use hybrid::session::{Model, ModelOptions};
use hybrid_common::cli::print;
use hybrid_common::heads::calibration;
use hybrid_common::heads::dataset::Dataset;
use hybrid_common::heads::head_file::HeadFile;
use hybrid_common::heads::tables::Tables;
use serde_json::json;

use arguments::Options;
pub use arguments::command;
use comparison::{Candidate, Table};
use kinds::Fold;
use report::{Figures, Report};

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let mut options = Options::parse(arguments)?;
    let model = Model::open(&options.bundle, ModelOptions::default())?;
    let tables = Tables::read(&options.records, &model)?;
    let Tables { train, validation, test, .. } = &tables;
    for (name, data) in [("train", train), ("validation", validation), ("test", test)] {
        print(&format!("{name}: {}\n", data.describe()))?;
    }
    let asked = std::mem::take(&mut options.choice.losses);
    let (possible, impossible): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|loss| loss.is_possible(train));
    options.choice.losses = possible;
    for loss in impossible {
        let name = loss.name();
        print(&format!("not fitted to `{name}`: not every record has what it needs\n"))?;
    }
    let trials = select::trials(&options.choice, &Fold::new(train, validation))?;
    let test = (test.rows() > 0).then_some(test);
    let candidates: Result<Vec<Candidate>> =
        trials.iter().map(|trial| Candidate::of(trial, validation, test)).collect();
    let candidates = candidates?;
    let best = comparison::best(&candidates)?;
    let rows: Vec<_> = candidates.iter().map(|candidate| &candidate.row).collect();
    let chosen = rows.iter().position(|row| std::ptr::eq(*row, &best.row)).unwrap_or_default();
    print(&Table { rows, chosen }.to_string())?;
    if options.curve {
        print(&report::curve(&learning_curve(best, train, validation)?))?;
    }
    let file = finish(&options, &model, &tables, &candidates, best)?;
    if let Some(dir) = &options.out {
        file.write(dir)?;
        print(&format!("written to {}\n", dir.display()))?;
    }
    file.install(&model.bundle, false)?;
    print(&format!("installed in {}\n", options.bundle.display()))
}

/// What heads like `best` are worth when they are fitted to an eighth, a quarter and half of the
/// prompts.
fn learning_curve(
    best: &Candidate,
    train: &Dataset,
    validation: &Dataset,
) -> Result<Vec<(usize, Figures)>> {
    [0.125, 0.25, 0.5, 1.0]
        .map(|share| {
            let part = train.part(share);
            let fold = Fold::new(&part, validation);
            let line = fold.line(best.trial.fitted_to, best.trial.after)?;
            let trial = fold.fit(best.trial.base, &line)?;
            let scores = trial.head.log_odds_of_rows(validation);
            Ok((part.rows(), Figures::of("", &scores, validation, false)))
        })
        .into_iter()
        .collect()
}

/// Measures the chosen head, prints the report and makes the files.
fn finish(
    options: &Options,
    model: &Model,
    tables: &Tables,
    candidates: &[Candidate],
    best: &Candidate,
) -> Result<HeadFile> {
    let Tables { train, validation, test, cloud_model } = tables;
    let Candidate { head, onnx, row, .. } = best;
    let on_validation = Report::of(head, validation);
    print(&format!("{} fitted to `{}`, on validation\n{on_validation}", row.kind, row.fitted_to))?;
    let on_test = (test.rows() > 0).then(|| Report::of(head, test));
    if let Some(report) = &on_test {
        print(&format!("on test\n{report}"))?;
    }

    let scores = head.probabilities(validation);
    let (table, measured) = calibration::calibration(&scores, validation);
    print("threshold  cloud tokens  disagreements caught\n")?;
    for point in table.iter().skip(4).step_by(5) {
        print(&format!(
            "{:9.4}{:13.1} %{:20.1} %\n",
            point.threshold,
            point.share * 100.,
            point.recall * 100.
        ))?;
    }
    print(&format!(
        "{} state after the candidate, {}; {} bytes, {:.1} µs a token\n",
        if row.after { "with" } else { "without" },
        row.setting,
        row.bytes,
        row.microseconds
    ))?;
    let info = RewardInfo {
        after: row.after,
        cloud_model: cloud_model.clone(),
        provenance: format!(
            "hybrid-lab train {}, {} fitted to {}, statistics {}; {}; validation {}",
            env!("CARGO_PKG_VERSION"),
            row.kind,
            row.fitted_to,
            statistics::VERSION,
            train.describe(),
            validation.describe()
        ),
        default_threshold: calibration::threshold(&scores, options.share),
        calibration: table,
        measured: Some(measured),
    };
    let heads: Vec<_> = candidates.iter().map(|candidate| &candidate.row).collect();
    let training = json!({
        "bundle_format": hybrid::bundle::FORMAT_VERSION,
        "graph_sha256": file_hash(model, hybrid::bundle::FileRole::Graph),
        "weights_sha256": file_hash(model, hybrid::bundle::FileRole::Weights),
        "statistics_version": statistics::VERSION,
        "train": counts(train),
        "validation": counts(validation),
        "test": counts(test),
        "head": row,
        "on_validation": on_validation,
        "on_test": on_test,
        "heads": heads,
    });
    Ok(HeadFile::new(&model.bundle, onnx.clone(), info, training))
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

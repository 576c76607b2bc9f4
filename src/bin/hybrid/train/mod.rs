//! `hybrid train`: asks the cloud LLM, reads its answers with the SLM, fits a reward head and puts it
//! into the bundle. Read top-down: `answers`, `features`, `dataset`, `fit`, `metrics`, `report`.

mod answers;
mod arguments;
pub mod calibration;
pub mod dataset;
mod features;
mod fit;
mod head_file;
pub mod mbpp;
mod metrics;
mod onnx;
pub mod prompts;
pub mod report;
mod select;
#[cfg(test)]
mod testing;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::ArgMatches;
use hybrid::bundle::{RewardInfo, sha256};
use hybrid::consult::Consult;
use hybrid::reward::{Head, statistics};
use hybrid::session::{Model, ModelOptions};
use serde_json::json;

use crate::cloud::connect;
use crate::progress::Steps;
use answers::Answers;
use arguments::Options;
pub use arguments::command;
use dataset::Dataset;
use features::Collector;
use fit::{Linear, sigmoid};
pub use head_file::HeadFile;
use prompts::{Prompt, Split};
use report::{Figures, Gain};
use select::Trial;

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let options = Options::parse(arguments)?;
    let model = Model::open(&options.bundle, ModelOptions::default())?;
    let prompts = prompts(&options, &model)?;
    let (train, validation) = collect(&options, &model, &prompts)?;
    for (name, data) in [("train", &train), ("validation", &validation)] {
        println!("{name}: {}", describe(data));
    }
    let trials = select::trials(&train, &validation, options.after)?;
    let best = select::best(&trials).context("no head was fitted")?;
    let head = fit::calibrate(&best.head, &validation)?;
    let file = finish(&options, &model, &train, &validation, &trials, best, &head)?;
    if let Some(dir) = &options.out {
        file.write(dir)?;
        println!("written to {}", dir.display());
    }
    file.install(&model.bundle, false)?;
    println!("installed in {}", options.bundle.display());
    Ok(())
}

/// The prompts of all files.
fn prompts(options: &Options, model: &Model) -> Result<Vec<Prompt>> {
    let template = model.chat_template.as_deref();
    let mut prompts = Vec::new();
    if let Some(path) = &options.data {
        prompts.extend(mbpp::read(path, template)?);
    }
    if let Some(path) = &options.prompts {
        prompts.extend(prompts::read(path, template, Split::Train)?);
    }
    prompts::select(prompts, options.limit)
}

/// Answers and features of every prompt, for training and for validation.
fn collect(options: &Options, model: &Model, prompts: &[Prompt]) -> Result<(Dataset, Dataset)> {
    let cloud = connect(&options.cloud, model)?;
    let folder = |name: &str| -> Result<_> {
        let dir = options.cache.join(name);
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(dir)
    };
    let answers = Answers {
        cloud: cloud.as_ref().map(|cloud| cloud as &dyn Consult),
        model: &options.cloud_model,
        tokens: &model.tokens,
        dir: folder("answers")?,
    };
    let mut collector = Collector::new(model, folder("features")?)?;
    let size = model.slm.hidden_size();
    let (mut train, mut validation) = (Dataset::new(size), Dataset::new(size));
    let bar = Steps::new("prompts", prompts.len() as u64);
    for prompt in prompts {
        let data = match prompt.split {
            Split::Train => &mut train,
            Split::Validation => &mut validation,
            Split::Test => continue,
        };
        let ids = model.tokens.encode_prompt(&prompt.text, true)?;
        let room = collector.room(&ids);
        ensure!(
            !ids.is_empty() && room > 0,
            "prompt {} has {} tokens: the SLM's context has no room for it and an answer",
            prompt.id,
            ids.len()
        );
        let answer = answers.get(&prompt.id, &ids, prompt.stop, room)?;
        let positions =
            collector.get(&ids, &answer).with_context(|| format!("prompt {}", prompt.id))?;
        data.push(&positions);
        bar.add(1);
    }
    Ok((train, validation))
}

fn describe(data: &Dataset) -> String {
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
    train: &Dataset,
    validation: &Dataset,
    trials: &[Trial],
    best: &Trial,
    head: &Linear,
) -> Result<HeadFile> {
    let scores: Vec<f64> = head.log_odds_of_rows(validation).into_iter().map(sigmoid).collect();
    let mut figures = vec![Figures::of("head", &scores, validation, true)];
    for after in [false, true] {
        let other = select::best_of(trials, after).filter(|trial| trial.after != best.after);
        if let Some(other) = other {
            let name = if after { "head with after" } else { "head without after" };
            let scores = other.head.log_odds_of_rows(validation);
            figures.push(Figures::of(name, &scores, validation, false));
        }
    }
    let builtin = report::builtin(validation);
    figures.extend(builtin.iter().map(|(name, s)| Figures::of(name, s, validation, false)));
    let gain = builtin.first().map(|(name, s)| Gain::of(&scores, name, s, validation));

    let onnx = onnx::write(head, validation.hidden_size);
    let microseconds = measure(&onnx, head, validation)?;
    let (table, measured) = calibration::calibration(&scores, validation);
    print!("{}", report::table(&figures));
    if let Some(gain) = &gain {
        let [auc, recall] =
            [gain.auc, gain.recall_at_20].map(|(l, h)| format!("{l:+.3} to {h:+.3}"));
        println!("95 % of resamples gain over {}: AUC {auc}, at 20 % {recall}", gain.over);
    }
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
        cloud_model: options.cloud_model.clone(),
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
        "data": options.sources()?,
        "bundle_format": hybrid::bundle::FORMAT_VERSION,
        "graph_sha256": file_hash(model, hybrid::bundle::FileRole::Graph),
        "weights_sha256": file_hash(model, hybrid::bundle::FileRole::Weights),
        "statistics_version": statistics::VERSION,
        "train": counts(train),
        "validation": counts(validation),
        "l2": best.l2,
        "figures_on_validation": figures,
        "gain_95": gain,
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
        let want = sigmoid(head.log_odds(features));
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

/// Name and hash of a file that a head was trained on.
fn source(path: &Path) -> Result<serde_json::Value> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(json!({ "file": name, "sha256": sha256(&bytes) }))
}

//! `hybrid-lab eval`: how near a bundle and its cloud come to the cloud LLM alone, on the user's
//! prompts.
//!
//! Two pictures. *Along the LLM's text*: how well each gate's score tells where the SLM would have
//! written another token. *Sessions*: what is written and used when the gate decides, at thresholds
//! that were set on other prompts. [`case`] runs the sessions.

mod arguments;
mod report;
pub mod results;
mod uhlm;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::ArgMatches;
use hybrid::policy::Mode;
use hybrid::reward::ScoreKind;
use hybrid::session::Model;
use serde_json::{Value, json};

pub use arguments::command;
use arguments::{Gate, Options, Points};
use hybrid_common::answers::case::{self, Case, Setting};
use hybrid_common::cli::print;
use hybrid_common::files::replace;
use hybrid_common::heads::calibration;
use hybrid_common::progress::Steps;
use hybrid_common::prompts::{self, Prompt, Split, number_of};
use report::{Record, Way};
use results::{Results, Scores};

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let options = Options::parse(arguments)?;
    let model = Arc::new(Model::open(&options.bundle, options.llm.model_options())?);
    let Prompts { validation, test, available } = prompts(&options, &model)?;
    let bench = options.llm.bench(model.clone())?;

    let mut validated = Scores::default();
    let bar = Steps::new("thresholds", validation.len() as u64);
    for prompt in &validation {
        validated.add(&options.gates, &bench.case(prompt)?)?;
        bar.add(1);
    }
    drop(bar);
    let ways = ways(&options, &validated)?;

    let mut results = Results::default();
    let bar = Steps::new("sessions", test.len() as u64);
    for prompt in &test {
        let case = bench.case(prompt)?;
        results.scores.add(&options.gates, &case)?;
        for way in ways.iter().filter(|_| options.sessions) {
            let outcome = outcome(&options, &case, way)?;
            results.records.push(Record::new(&prompt.id, way, outcome, &case.answer));
        }
        results.answers.push(case.answer);
        bar.add(1);
    }
    drop(bar);
    results.sum_up(&options, ways);
    if let Some(path) = &options.out {
        let setup = setup(&options, &model, validation.len(), available);
        replace(path, results.lines(setup, &test)?.as_bytes())?;
    }
    print(&results.tables())
}

struct Prompts {
    /// They set thresholds.
    validation: Vec<Prompt>,
    /// They are measured.
    test: Vec<Prompt>,
    /// So many could be measured.
    available: usize,
}

fn prompts(options: &Options, model: &Model) -> Result<Prompts> {
    let template = model.chat_template.as_deref();
    let mut all = prompts::read(&options.prompts, template, Split::Test)?;
    // In an order that knows nothing of the prompts, so that the first ones are a fair sample.
    all.sort_by_cached_key(|prompt| number_of(&prompt.id));
    let (mut validation, mut test) = (Vec::new(), Vec::new());
    for prompt in all {
        match prompt.split {
            Split::Validation => validation.push(prompt),
            Split::Test => test.push(prompt),
            Split::Train => {}
        }
    }
    let available = test.len();
    validation.truncate(options.calibrate.unwrap_or(usize::MAX));
    test.truncate(options.sample.unwrap_or(usize::MAX));
    ensure!(!test.is_empty(), "there is no prompt to measure, that is, with the split `test`");
    Ok(Prompts { validation, test, available })
}

/// What is measured: each model alone, the oracle, and every gate at every point.
fn ways(options: &Options, scores: &Scores) -> Result<Vec<Way>> {
    let alone = |gate| Way { gate, burst: 1, ..Way::default() };
    let mut ways = vec![alone("slm"), alone("llm"), alone("oracle")];
    for &burst in &options.bursts {
        for gate in &options.gates {
            let points = points(options, scores, gate)?;
            ways.extend(points.into_iter().map(|point| Way { burst, ..point }));
        }
    }
    Ok(ways)
}

/// Where one gate is measured, without the burst.
fn points(options: &Options, scores: &Scores, gate: &Gate) -> Result<Vec<Way>> {
    let at = |threshold| Way { gate: gate.name, threshold: Some(threshold), ..Way::default() };
    let shares = match &options.points {
        Points::Thresholds(thresholds) => {
            return Ok(thresholds.iter().map(|&threshold| at(threshold)).collect());
        }
        Points::Shares(shares) if shares.is_empty() => return Ok(Vec::new()),
        Points::Shares(shares) => shares,
    };
    let scores_of = scores.of(gate.name).context(
        "there is no prompt to set thresholds on, that is, with the split `validation`; \
         --thresholds needs none",
    )?;
    let of_share =
        |&share: &f64| Way { share: Some(share), ..at(calibration::threshold(scores_of, share)) };
    let of_rule = |(rule, threshold)| Way { rule: Some(rule), ..at(threshold) };
    let mut points: Vec<Way> = shares.iter().map(of_share).collect();
    if gate.kind == ScoreKind::Sampled {
        points.extend(uhlm::thresholds(scores_of, scores.agrees()).into_iter().map(of_rule));
    }
    Ok(points)
}

fn outcome(options: &Options, case: &Case, way: &Way) -> Result<case::Outcome> {
    let setting = match way.gate {
        "oracle" => return case.oracle(),
        "slm" => Setting::alone(Mode::LocalOnly),
        "llm" => Setting::alone(Mode::CloudFirst),
        name => {
            let gate = options.gates.iter().find(|gate| gate.name == name);
            let kind = gate.context("a way has a gate")?.kind;
            let threshold = way.threshold.context("a gate has a threshold")?;
            Setting { burst: way.burst, extras: options.extras, ..Setting::gated(kind, threshold) }
        }
    };
    if options.live { case.run_live(setting) } else { case.run(setting) }
}

/// What was measured on what.
fn setup(options: &Options, model: &Model, validation: usize, available: usize) -> Value {
    let place =
        if options.llm.teacher.is_some() { "as a bundle on this machine" } else { "at a server" };
    json!({
        "kind": "setup",
        "slm": model.bundle.manifest().model.name,
        "llm": format!("{}, {place}", options.llm.model),
        "head": model.bundle.manifest().reward.as_ref().map(|reward| &reward.provenance),
        "validation_prompts": validation,
        "available_prompts": available,
        "rescue": options.extras.rescue,
        "corrections": options.extras.corrections,
        "live": options.live,
    })
}

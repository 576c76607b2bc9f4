//! `hybrid eval`: how near a bundle and its cloud come to the cloud LLM alone, on the user's prompts.
//!
//! Two pictures. *Along the LLM's text*: how well each gate's score tells where the SLM would have
//! written another token. *Sessions*: what is written and used when the gate decides, at thresholds
//! that were set on other prompts. `case` runs the sessions, `remember` and `memory` save them from
//! computing anything twice.

mod arguments;
pub mod case;
pub mod llm;
mod memory;
mod remember;
mod report;
pub mod results;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::ArgMatches;
use hybrid::policy::Mode;
use hybrid::session::Model;
use serde_json::{Value, json};

use crate::progress::Steps;
use crate::train::prompts::{Prompt, Split, number_of};
use crate::train::{calibration, prompts, replace};
pub use arguments::command;
use arguments::{Options, Points};
use case::{Case, Setting};
use report::{Record, Way};
use results::{Results, Scores};

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let options = Options::parse(arguments)?;
    let model = Arc::new(Model::open(&options.bundle, options.llm.model_options())?);
    let (validation, test) = prompts(&options, &model)?;
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
    print!("{}", results.tables());
    match &options.out {
        Some(path) => {
            let setup = setup(&options, &model, &validation);
            replace(path, results.lines(setup, &test)?.as_bytes())
        }
        None => Ok(()),
    }
}

/// The prompts that set thresholds and those that are measured.
fn prompts(options: &Options, model: &Model) -> Result<(Vec<Prompt>, Vec<Prompt>)> {
    let template = model.chat_template.as_deref();
    let mut all = prompts::of_files(
        options.data.as_deref(),
        options.prompts.as_deref(),
        template,
        Split::Test,
    )?;
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
    validation.truncate(options.calibrate.unwrap_or(usize::MAX));
    test.truncate(options.sample.unwrap_or(usize::MAX));
    ensure!(!test.is_empty(), "there is no prompt to measure, that is, with the split `test`");
    Ok((validation, test))
}

/// What is measured: each model alone, the oracle, and every gate at every point.
fn ways(options: &Options, scores: &Scores) -> Result<Vec<Way>> {
    let alone = |gate, burst| Way { gate, share: None, threshold: None, burst };
    let mut ways = vec![alone("slm", 1), alone("llm", 1), alone("oracle", 1)];
    for &burst in &options.bursts {
        for gate in &options.gates {
            let way = |share, threshold| Way {
                gate: gate.name,
                share,
                threshold: Some(threshold),
                burst,
            };
            match &options.points {
                Points::Thresholds(thresholds) => {
                    ways.extend(thresholds.iter().map(|&threshold| way(None, threshold)));
                }
                Points::Shares(shares) => {
                    let scores = scores.of(gate.name).context(
                        "there is no prompt to set thresholds on, that is, with the split \
                         `validation`; --thresholds needs none",
                    )?;
                    let threshold = |share: f64| calibration::threshold(scores, share);
                    ways.extend(shares.iter().map(|&share| way(Some(share), threshold(share))));
                }
            }
        }
    }
    Ok(ways)
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
fn setup(options: &Options, model: &Model, validation: &[Prompt]) -> Value {
    let place =
        if options.llm.teacher.is_some() { "as a bundle on this machine" } else { "at a server" };
    json!({
        "kind": "setup",
        "slm": model.bundle.manifest().model.name,
        "llm": format!("{}, {place}", options.llm.model),
        "head": model.bundle.manifest().reward.as_ref().map(|reward| &reward.provenance),
        "validation_prompts": validation.len(),
        "live": options.live,
    })
}

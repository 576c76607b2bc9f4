//! `hybrid calibrate`: what a head's scores mean on the user's own prompts. `scored` gathers the
//! scores, `scaling` makes probabilities of them again, `unseen` tries that on prompts held out.

mod arguments;
mod scaling;
mod scored;
mod unseen;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::ArgMatches;
use hybrid::bundle::{FileRole, RewardInfo, set_reward};
use hybrid::reward::Head;
use hybrid::session::Model;

use crate::sign::NO_LONGER_SIGNED;
use arguments::Options;
pub use arguments::command;
use hybrid_common::cli::print;
use hybrid_common::heads::calibration::threshold;
use hybrid_common::heads::tables;
use hybrid_common::prompts::{self, Prompt, Split, number_of};
use scored::Scored;
use unseen::Unseen;

/// What separates how a head was trained from how it was calibrated since.
const CALIBRATED: &str = "; calibrated on ";

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let options = Options::parse(arguments)?;
    let model = Arc::new(Model::open(&options.bundle, options.llm.model_options())?);
    let info = model.bundle.manifest().reward.clone();
    let info = info.context("the bundle has no reward head to calibrate; train or install one")?;
    let onnx = model.bundle.read(FileRole::Reward)?;

    let (scored, cloud_model, unseen) = if let Some(file) = &options.prompts {
        let prompts = read_prompts(file, &options, &model)?;
        let bench = options.llm.bench(model.clone())?;
        let scored = Scored::of_prompts(&bench, &prompts)?;
        let mut unseen = Unseen::of(&scored, &info)?;
        if options.sessions {
            unseen.run_sessions(&bench, &prompts)?;
        }
        (scored, options.llm.model.clone(), unseen)
    } else {
        let (scored, cloud_model) = read_records(&options, &model, &onnx)?;
        let unseen = Unseen::of(&scored, &info)?;
        (scored, cloud_model, unseen)
    };
    let data = scored.labels.describe();
    let scaling = scored.scaling()?;
    print(&format!(
        "{data}\n{unseen}\nlog-odds scaled by {:.3} and moved by {:+.3}\n",
        scaling.scale, scaling.shift
    ))?;
    if options.dry_run {
        return Ok(());
    }
    let trained = info.provenance.split(CALIBRATED).next().unwrap_or_default();
    let info = RewardInfo {
        cloud_model,
        provenance: format!("{trained}{CALIBRATED}{data}"),
        default_threshold: threshold(&scored.scaled(scaling), options.share),
        ..scored.calibrated(&info, scaling)
    };
    set_reward(model.bundle.dir().context("a bundle in memory")?, &scaling.write(&onnx)?, info)?;
    if model.bundle.is_signed() {
        eprintln!("{NO_LONGER_SIGNED}");
    }
    print(&format!("{}: calibrated\n", options.bundle.display()))
}

/// The prompts in an order that knows nothing of them, so that the first ones are a fair sample.
fn read_prompts(file: &Path, options: &Options, model: &Model) -> Result<Vec<Prompt>> {
    let template = model.chat_template.as_deref();
    let mut all = prompts::read(file, template, Split::Test)?;
    all.retain(|prompt| options.splits.contains(&prompt.split));
    all.sort_by_cached_key(|prompt| number_of(&prompt.id));
    all.truncate(options.limit);
    enough(all.len())?;
    Ok(all)
}

/// The scores of the cloud LLM's own answers, and its name.
fn read_records(options: &Options, model: &Model, onnx: &[u8]) -> Result<(Scored, String)> {
    let mut records = tables::records(&options.records, model)?;
    records.retain(|record| {
        record.about.path == "llm" && options.splits.contains(&record.about.split)
    });
    records.sort_by_cached_key(|record| number_of(&record.about.prompt));
    records.truncate(options.limit);
    enough(records.len())?;
    let cloud_model = records[0].about.llm.clone();
    tables::of_one_llm(&records, &cloud_model)?;
    let mut head = Head::load(onnx, model.slm.hidden_size())?;
    Ok((Scored::of_records(&records, &mut head, model)?, cloud_model))
}

fn enough(prompts: usize) -> Result<()> {
    ensure!(
        prompts >= 4,
        "there are {prompts} prompts of these splits: 4 at least, and better a hundred, make a \
         calibration"
    );
    Ok(())
}

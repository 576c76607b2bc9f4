//! `hybrid run`: generates with a bundle, and shows who wrote what.

mod arguments;
mod output;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use hybrid::Error;
use hybrid::bundle::{Bundle, Verify};
use hybrid::cloud::{Cloud, Exchange};
use hybrid::consult::Consult;
use hybrid::session::{Model, Session};
use hybrid::tokens::Message;
use hybrid_common::arguments::SCORES;
use hybrid_common::files::replace;
use hybrid_common::interrupt;
use hybrid_common::progress::Bytes;

pub use arguments::command;
use arguments::{Settings, get, path};
use output::Stop;

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let settings = Settings::parse(arguments)?;
    for option in arguments::without_effect(arguments) {
        say(&format!("note: --{option} has no effect without --cloud-url\n"));
    }
    let dir = path(arguments, "BUNDLE").context("required by clap")?;
    let model = Arc::new(open(dir, get(arguments, "threads")?)?);
    let cloud = cloud(arguments, &model)?;
    let has_cloud = cloud.is_some();
    let mut session = Session::new(model, cloud, settings.birth.clone())?;
    settings.set(&mut session)?;
    if has_cloud {
        say(&score(&session));
    }
    let corrections = path(arguments, "corrections-file");
    if let Some(file) = corrections.filter(|file| file.exists()) {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        session.restore_corrections(&bytes)?;
    }
    interrupt::catch()?;
    session.set_cancel(interrupt::cancel());
    prompt(&mut session, arguments)?;
    let max_tokens = get::<u32>(arguments, "max-tokens")?;
    let stop = output::generate(&mut session, max_tokens as usize)?;
    let (stats, usage) = (session.stats(), session.usage());
    say(&output::summary(&stats, &usage, has_cloud, stop));
    if !io::stderr().is_terminal() {
        say(&output::figures(&stats, &usage));
    }
    if let Some(file) = corrections {
        replace(file, &session.save_corrections()).context("cannot save the corrections")?;
    }
    match stop {
        Stop::Interrupt => Err(Error::Cancelled.into()),
        _ => Ok(()),
    }
}

/// On stderr, which nobody may read.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn score(session: &Session) -> String {
    let Some(kind) = session.score_kind() else { return String::new() };
    let name = SCORES.iter().find(|(_, known)| *known == kind).map_or("?", |(name, _)| name);
    format!("score    {name}, threshold {}\n", session.threshold())
}

fn open(dir: &Path, threads: usize) -> Result<Model> {
    let bar = Bytes::new("checking", 0);
    let bundle = Bundle::open_with_progress(dir, Verify::All, &mut |done, total| {
        bar.set(done, total);
        true
    })?;
    drop(bar);
    Ok(Model::from_bundle(bundle, threads)?)
}

fn prompt(session: &mut Session, arguments: &ArgMatches) -> Result<()> {
    let prompted = match arguments.get_one::<String>("prompt") {
        Some(prompt) => session.prompt(prompt),
        None => session.chat(&messages(arguments)),
    };
    match prompted {
        Err(Error::ContextFull { needed, limit, .. }) => bail!(
            "the prompt has {needed} tokens, the context {limit}; shorten the prompt or give a \
             larger --context"
        ),
        other => Ok(other?),
    }
}

fn messages(arguments: &ArgMatches) -> Vec<Message> {
    let message = |role: &str, argument| {
        let content = arguments.get_one::<String>(argument)?.clone();
        Some(Message { role: role.into(), content })
    };
    [message("system", "system"), message("user", "chat")].into_iter().flatten().collect()
}

/// A cloud that cannot be reached now is no reason not to run: its consults will fail, visibly.
fn cloud(arguments: &ArgMatches, model: &Model) -> Result<Option<Arc<dyn Consult>>> {
    let Some(options) = hybrid_common::cloud::cloud(arguments)? else { return Ok(None) };
    let cloud = Cloud::new(options)?;
    match cloud.probe(&*model.tokens, &interrupt::cancel()) {
        Ok(Exchange::Ids) => say("cloud    same vocabulary: token ids are exchanged\n"),
        Ok(Exchange::Bytes) => say("cloud    another vocabulary: text is exchanged\n"),
        Ok(Exchange::Messages) => say("cloud    a chat server: messages are exchanged\n"),
        Err(error) => {
            say(&format!("warning: {error}; the SLM writes alone until the cloud answers\n"))
        }
    }
    Ok(Some(Arc::new(cloud)))
}

//! `hybrid run`: generates with a bundle, and shows who wrote what.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use hybrid::bundle::{Bundle, Verify};
use hybrid::cloud::{Cloud, CloudOptions, Roots, ServerKind};
use hybrid::consult::Consult;
use hybrid::controller::{Hold, Unit};
use hybrid::policy::{Budget, Mode};
use hybrid::reward::{Guarantee, ScoreKind, Threshold};
use hybrid::sampler::Sampling;
use hybrid::session::{
    ConsultOptions, CorrectionOptions, Gate, Model, Session, SessionOptions, Source, Stats, Step,
    Usage,
};
use hybrid::tokens::Message;

use crate::arguments::text;
use crate::progress::Bytes;
use crate::train::replace;

/// Read where `--token-file` is not given; an argument would show in the list of processes.
const TOKEN_VARIABLE: &str = "HYBRID_CLOUD_TOKEN";

const MODES: &[(&str, Mode)] =
    &[("local", Mode::LocalOnly), ("hybrid", Mode::Hybrid), ("cloud-first", Mode::CloudFirst)];

/// Scores by their names.
pub const SCORES: &[(&str, ScoreKind)] = &[
    ("auto", ScoreKind::Auto),
    ("head", ScoreKind::Head),
    ("max-probability", ScoreKind::MaxProbability),
    ("margin", ScoreKind::Margin),
    ("entropy", ScoreKind::Entropy),
    ("random", ScoreKind::Random),
    ("u-hlm", ScoreKind::Sampled),
];

#[derive(Clone, Copy)]
enum Held {
    Share,
    Calls,
    Bytes,
    Money,
}

const HOLDS: &[(&str, Held)] = &[
    ("share", Held::Share),
    ("calls-per-hour", Held::Calls),
    ("bytes-per-hour", Held::Bytes),
    ("money-per-hour", Held::Money),
];

const KINDS: &[(&str, ServerKind)] =
    &[("openai", ServerKind::OpenAi), ("llama-cpp", ServerKind::LlamaCpp)];

pub fn command() -> Command {
    let file = |name, help| text(name, "FILE", help).value_parser(value_parser!(PathBuf));
    let number = |name, help| text(name, "N", help).value_parser(value_parser!(u64));
    let small = |name, help| text(name, "N", help).value_parser(value_parser!(u32));
    let real = |name, help| {
        text(name, "F", help).value_parser(value_parser!(f32)).allow_negative_numbers(true)
    };
    let double = |name, help| text(name, "F", help).value_parser(value_parser!(f64));
    let flag =
        |name: &'static str, help| Arg::new(name).long(name).help(help).action(ArgAction::SetTrue);
    Command::new("run")
        .about("Generate text; on a terminal, the cloud's tokens are green, fallback is yellow")
        .after_help(format!(
            "The cloud's bearer token is read from --token-file or from {TOKEN_VARIABLE}."
        ))
        .arg(
            Arg::new("BUNDLE")
                .help("The bundle's directory")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(text("prompt", "TEXT", "Continue this text as it stands"))
        .arg(text("chat", "TEXT", "Answer this message, by the bundle's chat template"))
        .group(ArgGroup::new("input").args(["prompt", "chat"]).required(true))
        .arg(text("system", "TEXT", "The system message before it").conflicts_with("prompt"))
        .arg(small("max-tokens", "Tokens generated at most").default_value("256"))
        .arg(number("context", "Tokens of context; 0 is the model's limit").default_value("0"))
        .arg(
            text("stop", "TEXT", "Stop before this text; may be repeated")
                .action(ArgAction::Append),
        )
        .arg(crate::threads())
        .next_help_heading("When to ask the cloud")
        .arg(choice("mode", MODES, "Who may write").default_value("hybrid"))
        .arg(real("threshold", "Ask for candidates that score under it (the bundle's own)"))
        .arg(real("share", "Threshold for this share of tokens, by the bundle's calibration"))
        .arg(real("guarantee", "Threshold for at most this share of tokens unlike the cloud LLM's"))
        .group(ArgGroup::new("by").args(["threshold", "share", "guarantee"]))
        .arg(real("confidence", "Of the guarantee; 0: on average").default_value("0.95"))
        .arg(choice("score", SCORES, "What scores candidates").default_value("auto"))
        .arg(choice("hold", HOLDS, "Move the threshold so that --hold-limit is held"))
        .arg(double("hold-limit", "The share, or how much an hour may cost").requires("hold"))
        .arg(double("price-prompt-token", "For money-per-hour").default_value("0"))
        .arg(double("price-token", "The same, of a token of the answer").default_value("0"))
        .arg(small("burst", "Tokens taken from one consult at most").default_value("1"))
        .arg(flag("hand-back", "Count tokens of a burst as the SLM's where it is sure of the same"))
        .arg(
            small("rescue", "Tokens scored in the candidate's place before a consult")
                .default_value("0"),
        )
        .arg(
            small("correction-cache", "Answers of consults that are remembered").default_value("0"),
        )
        .arg(small("correction-suffix", "Ids before one that must be the same").default_value("32"))
        .arg(file("corrections", "Load them from this file if it is there, and save them to it"))
        .arg(number("deadline-ms", "Time for one whole consult").default_value("2000"))
        .arg(number("budget-calls", "Consults at most"))
        .arg(number("budget-tokens", "Tokens from the cloud at most"))
        .arg(number("budget-bytes", "Bytes sent and received at most"))
        .next_help_heading("The cloud")
        .arg(text("cloud", "URL", "https://host[:port] of the cloud LLM; none: local only"))
        .arg(choice("kind", KINDS, "Its wire format").default_value("openai"))
        .arg(text("model", "NAME", "Sent as `model`").default_value(""))
        .arg(file("ca", "PEM file with the CA to trust instead of the system's"))
        .arg(file("token-file", "File with the bearer token"))
        .next_help_heading("Sampling")
        .arg(real("temperature", "0 is greedy").default_value("0"))
        .arg(small("top-k", "0 is off").default_value("0"))
        .arg(real("top-p", "1 is off").default_value("1"))
        .arg(real("min-p", "0 is off").default_value("0"))
        .arg(real("repetition-penalty", "1 is off").default_value("1"))
        .arg(small("repetition-window", "Tokens that count for it").default_value("64"))
        .arg(number("seed", "Equal seeds, equal text").default_value("0"))
        .next_help_heading("Speed")
        .arg(small("draft", "Draft N tokens from the context at most").default_value("0"))
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let settings = Settings::parse(arguments)?;
    let dir = path(arguments, "BUNDLE").context("required by clap")?;
    let model = Arc::new(open(dir, get(arguments, "threads")?)?);
    let cloud = cloud(arguments, &model)?;
    let mut session = Session::new(model, cloud, settings.birth.clone())?;
    settings.set(&mut session)?;
    if let Some(score) = session.score_kind() {
        eprintln!("score    {score:?}, threshold {}", session.threshold());
    }
    let corrections = path(arguments, "corrections");
    if let Some(file) = corrections.filter(|file| file.exists()) {
        let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
        session.restore_corrections(&bytes)?;
    }
    match arguments.get_one::<String>("prompt") {
        Some(prompt) => session.prompt(prompt)?,
        None => session.chat(&messages(arguments))?,
    }
    let max_tokens = get::<u32>(arguments, "max-tokens")?;
    generate(&mut session, max_tokens as usize)?;
    if let Some(file) = corrections {
        replace(file, &session.save_corrections())?;
    }
    eprint!("{}", summary(&session.stats(), &session.usage()));
    Ok(())
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

fn messages(arguments: &ArgMatches) -> Vec<Message> {
    let message = |role: &str, argument| {
        let content = arguments.get_one::<String>(argument)?.clone();
        Some(Message { role: role.into(), content })
    };
    [message("system", "system"), message("user", "chat")].into_iter().flatten().collect()
}

fn generate(session: &mut Session, max_tokens: usize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let coloured = out.is_terminal();
    let mut written = Ok(());
    session.run(max_tokens, &mut |step| {
        written = write_step(&mut out, step, coloured);
        written.is_ok()
    })?;
    written?;
    writeln!(out, "{}", session.flush())?;
    Ok(())
}

fn write_step(out: &mut impl Write, step: &Step, coloured: bool) -> std::io::Result<()> {
    let colour = match step.source {
        Source::Local => None,
        Source::Cloud | Source::Correction => Some(32),
        Source::Fallback => Some(33),
    };
    match colour.filter(|_| coloured && !step.text.is_empty()) {
        Some(colour) => write!(out, "\x1b[{colour}m{}\x1b[0m", step.text)?,
        None => write!(out, "{}", step.text)?,
    }
    out.flush()
}

/// People read the first lines, programs the last one.
fn summary(stats: &Stats, usage: &Usage) -> String {
    let seconds = (stats.local_time + usage.cloud_time).as_secs_f64();
    let per_second = if seconds > 0.0 { stats.tokens as f64 / seconds } else { 0.0 };
    let share = 100.0 * stats.cloud as f64 / stats.tokens.max(1) as f64;
    format!(
        "prompt   {} tokens in {:.2} s\n\
         tokens   {} ({} local, {} of them rescued, {} cloud = {share:.1} %, {} corrections, {} fallback)\n\
         consults {} ({} failed), {} bytes sent, {} received, {} prompt tokens billed, {} answered\n\
         time     {:.2} s local ({:.3} s scoring), {:.2} s cloud\n\
         tokens={} cloud={} fallback={} consults={} tok_s={per_second:.2}\n",
        stats.prompt_tokens,
        stats.prompt_time.as_secs_f64(),
        stats.tokens,
        stats.local,
        stats.rescued,
        stats.cloud,
        stats.corrections,
        stats.fallback,
        usage.consults,
        usage.failures,
        usage.bytes_sent,
        usage.bytes_received,
        usage.prompt_tokens,
        usage.answer_tokens,
        stats.local_time.as_secs_f64(),
        stats.score_time.as_secs_f64(),
        usage.cloud_time.as_secs_f64(),
        stats.tokens,
        stats.cloud,
        stats.fallback,
        usage.consults,
    )
}

/// A cloud that cannot be reached now is no reason not to run: its consults will fail, visibly.
fn cloud(arguments: &ArgMatches, model: &Model) -> Result<Option<Arc<dyn Consult>>> {
    let Some(url) = arguments.get_one::<String>("cloud") else {
        return Ok(None);
    };
    let cloud = Cloud::new(CloudOptions {
        url: url.clone(),
        kind: chosen(arguments, "kind", KINDS)?,
        model: get(arguments, "model")?,
        token: token(arguments)?,
        roots: path(arguments, "ca").cloned().map_or(Roots::System, Roots::PemFile),
    })?;
    match cloud.probe_vocabulary(&*model.tokens) {
        Ok(true) => eprintln!("cloud    same vocabulary: token ids are exchanged"),
        Ok(false) => eprintln!("cloud    another vocabulary: text is exchanged"),
        Err(error) => eprintln!("warning: {error}; text is exchanged where it can be reached"),
    }
    Ok(Some(Arc::new(cloud)))
}

fn token(arguments: &ArgMatches) -> Result<Option<String>> {
    let token = match path(arguments, "token-file") {
        Some(file) => {
            Some(std::fs::read_to_string(file).with_context(|| file.display().to_string())?)
        }
        None => std::env::var(TOKEN_VARIABLE).ok(),
    };
    Ok(token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()))
}

/// Everything that can be set about a session.
#[derive(Debug, Default)]
struct Settings {
    birth: SessionOptions,
    sampling: Sampling,
    gate: Gate,
    consult: ConsultOptions,
    budget: Budget,
    corrections: CorrectionOptions,
}

impl Settings {
    fn parse(arguments: &ArgMatches) -> Result<Settings> {
        let limit = |name| arguments.get_one::<u64>(name).copied();
        Ok(Settings {
            birth: SessionOptions {
                context: usize::try_from(get::<u64>(arguments, "context")?)?,
                stop_strings: arguments.get_many("stop").into_iter().flatten().cloned().collect(),
                seed: get(arguments, "seed")?,
                draft: get(arguments, "draft")?,
            },
            sampling: Sampling {
                temperature: get(arguments, "temperature")?,
                top_k: get(arguments, "top-k")?,
                top_p: get(arguments, "top-p")?,
                min_p: get(arguments, "min-p")?,
                repetition_penalty: get(arguments, "repetition-penalty")?,
                repetition_window: get(arguments, "repetition-window")?,
            },
            gate: Gate {
                mode: chosen(arguments, "mode", MODES)?,
                score: chosen(arguments, "score", SCORES)?,
                threshold: threshold(arguments)?,
            },
            consult: ConsultOptions {
                burst: get(arguments, "burst")?,
                deadline: Duration::from_millis(get(arguments, "deadline-ms")?),
                hand_back: arguments.get_flag("hand-back"),
                rescue: get(arguments, "rescue")?,
            },
            budget: Budget {
                calls: limit("budget-calls"),
                tokens: limit("budget-tokens"),
                bytes: limit("budget-bytes"),
                hold: hold(arguments)?,
            },
            corrections: CorrectionOptions {
                capacity: get(arguments, "correction-cache")?,
                suffix: get(arguments, "correction-suffix")?,
            },
        })
    }

    fn set(&self, session: &mut Session) -> hybrid::Result<()> {
        session.set_sampling(self.sampling)?;
        session.set_gate(self.gate)?;
        session.set_consult(self.consult)?;
        session.set_budget(self.budget)?;
        session.set_corrections(self.corrections)
    }
}

/// clap lets one of them through.
fn threshold(arguments: &ArgMatches) -> Result<Threshold> {
    let given = |name| arguments.get_one::<f32>(name).copied();
    if let Some(threshold) = given("threshold") {
        return Ok(Threshold::At(threshold));
    }
    if let Some(share) = given("share") {
        return Ok(Threshold::Share(share));
    }
    let Some(risk) = given("guarantee") else { return Ok(Threshold::Default) };
    let confidence = get(arguments, "confidence")?;
    Ok(Threshold::Guarantee(match confidence {
        0.0 => Guarantee::OnAverage { risk },
        _ => Guarantee::Confident { risk, confidence },
    }))
}

fn hold(arguments: &ArgMatches) -> Result<Option<Hold>> {
    if !arguments.contains_id("hold") {
        return Ok(None);
    }
    let limit = get(arguments, "hold-limit")?;
    let unit = match chosen(arguments, "hold", HOLDS)? {
        Held::Share => return Ok(Some(Hold::Share(limit as f32))),
        Held::Calls => Unit::Calls,
        Held::Bytes => Unit::Bytes,
        Held::Money => Unit::Money {
            prompt_token: get(arguments, "price-prompt-token")?,
            token: get(arguments, "price-token")?,
        },
    };
    Ok(Some(Hold::PerHour { limit, unit }))
}

/// An option that is one of a few names.
fn choice<T>(name: &'static str, of: &'static [(&'static str, T)], help: &'static str) -> Arg {
    let names: Vec<&str> = of.iter().map(|(name, _)| *name).collect();
    Arg::new(name).long(name).value_name("NAME").help(help).value_parser(names)
}

fn chosen<T: Copy>(arguments: &ArgMatches, name: &str, of: &[(&str, T)]) -> Result<T> {
    let given: String = get(arguments, name)?;
    let found = of.iter().find(|(name, _)| *name == given);
    found.map(|(_, value)| *value).with_context(|| format!("--{name}: no such choice: {given}"))
}

fn path<'a>(arguments: &'a ArgMatches, name: &str) -> Option<&'a PathBuf> {
    arguments.get_one(name)
}

/// An option that is required or has a default.
fn get<T: Clone + Send + Sync + 'static>(arguments: &ArgMatches, name: &str) -> Result<T> {
    arguments.get_one::<T>(name).cloned().with_context(|| format!("--{name} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hybrid::consult::Failure;
    use hybrid::policy::Reason;
    use hybrid::session::End;

    fn parse(line: &str) -> std::result::Result<ArgMatches, clap::Error> {
        command().try_get_matches_from(line.split(' '))
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let settings = Settings::parse(&parse("run b --prompt x").unwrap()).unwrap();
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
    }

    #[test]
    fn options() {
        let line = "run b --chat hi --mode hybrid --hand-back --rescue 2 --threshold -1 --score margin --burst 3 \
                    --deadline-ms 50 --budget-calls 1 --budget-bytes 9 --temperature 0.5 --top-k 4 \
                    --seed 7 --draft 7 --context 99 --stop A --stop B";
        let settings = Settings::parse(&parse(line).unwrap()).unwrap();
        let Settings { birth, sampling, gate, consult, budget, .. } = settings;
        assert_eq!((gate.mode, gate.score), (Mode::Hybrid, ScoreKind::Margin));
        assert_eq!((consult.hand_back, consult.rescue), (true, 2));
        assert_eq!((gate.threshold, consult.burst), (Threshold::At(-1.0), 3));
        assert_eq!(budget, Budget { calls: Some(1), bytes: Some(9), ..Budget::default() });
        assert_eq!((sampling.temperature, sampling.top_k), (0.5, 4));
        assert_eq!((birth.draft, birth.context, birth.stop_strings.len()), (7, 99, 2));
        assert_eq!(consult.deadline, Duration::from_millis(50));
        let by =
            |line: &str| threshold(&parse(&format!("run b --chat hi {line}")).unwrap()).unwrap();
        assert_eq!(by("--share 0.2"), Threshold::Share(0.2));
        let guarantee = Guarantee::Confident { risk: 0.1, confidence: 0.95 };
        assert_eq!(by("--guarantee 0.1"), Threshold::Guarantee(guarantee));
        let guarantee = Guarantee::OnAverage { risk: 0.1 };
        assert_eq!(by("--guarantee 0.1 --confidence 0"), Threshold::Guarantee(guarantee));
        assert!(parse("run b --chat hi --share 0.2 --threshold 0.5").is_err());
        let held = |line: &str| hold(&parse(&format!("run b --chat hi {line}")).unwrap());
        let money = Unit::Money { prompt_token: 1e-6, token: 0.0 };
        let line = "--hold money-per-hour --hold-limit 2 --price-prompt-token 1e-6";
        assert_eq!(held(line).unwrap(), Some(Hold::PerHour { limit: 2.0, unit: money }));
        let share = held("--hold share --hold-limit 0.5").unwrap();
        assert_eq!(share, Some(Hold::Share(0.5)));
        assert!(held("--hold share").is_err(), "no limit");
        let bad = ["run b", "run b --prompt x --chat y", "run b --prompt x --mode no"];
        for line in bad.into_iter().chain(["run b --prompt x --system s", "run --prompt x"]) {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn colours() {
        let step = |source| Step {
            token: 1,
            bytes: b"x".to_vec(),
            text: "x".into(),
            source,
            reason: Reason::Weak,
            score: 0.0,
            candidate: 1,
            failure: None::<Failure>,
            consulted: false,
            bytes_sent: 0,
            bytes_received: 0,
            prompt_tokens: 0,
            answer_tokens: 0,
            local_time: Duration::ZERO,
            cloud_time: Duration::ZERO,
            end: End::None,
            logprobs: Vec::new(),
        };
        let rows = [
            (Source::Local, true, "x"),
            (Source::Cloud, true, "\x1b[32mx\x1b[0m"),
            (Source::Fallback, true, "\x1b[33mx\x1b[0m"),
            (Source::Cloud, false, "x"),
        ];
        for (source, coloured, want) in rows {
            let mut out = Vec::new();
            write_step(&mut out, &step(source), coloured).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }
}

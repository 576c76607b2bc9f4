//! The command line of `hybrid run`, and what it says of a session.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use hybrid::controller::{Hold, Unit};
use hybrid::policy::{Budget, Mode};
use hybrid::reward::{Guarantee, Threshold};
use hybrid::sampler::Sampling;
use hybrid::session::{ConsultOptions, CorrectionOptions, Gate, Session, SessionOptions};
use hybrid_common::arguments::{SCORES, text};
use hybrid_common::cloud::{Named, TOKEN_VARIABLE, cloud_arguments};

/// Options of the gate and the consults, which mean nothing without a cloud.
const FOR_THE_CLOUD: &[&str] = &[
    "threshold",
    "share",
    "guarantee",
    "score",
    "hold",
    "burst",
    "hand-back",
    "rescue",
    "overlap",
    "warm",
    "corrections",
    "deadline-ms",
    "budget-consults",
    "budget-tokens",
    "budget-bytes",
];

const MODES: &[(&str, Mode)] =
    &[("local", Mode::LocalOnly), ("hybrid", Mode::Hybrid), ("cloud-first", Mode::CloudFirst)];

#[derive(Clone, Copy)]
enum Held {
    Share,
    Consults,
    Bytes,
    Money,
}

const HOLDS: &[(&str, Held)] = &[
    ("share", Held::Share),
    ("consults-per-hour", Held::Consults),
    ("bytes-per-hour", Held::Bytes),
    ("money-per-hour", Held::Money),
];

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
        .about("Generate text with a bundle, and with a cloud LLM if --cloud-url names one")
        .after_help(format!(
            "On a terminal, tokens of the cloud LLM are green. Yellow tokens are weak, but the \
             cloud could not be asked.\nThe access token for the cloud comes from --token-file or \
             the environment variable {TOKEN_VARIABLE}.\nCtrl-C stops and prints the summary. A \
             second Ctrl-C ends at once."
        ))
        .arg(
            Arg::new("BUNDLE")
                .help("Directory of the bundle")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(text("prompt", "TEXT", "Continue this text"))
        .arg(text("chat", "TEXT", "Answer this message, using the chat template of the bundle"))
        .group(ArgGroup::new("input").args(["prompt", "chat"]).required(true))
        .arg(text("system", "TEXT", "System message in front of it").conflicts_with("prompt"))
        .arg(small("max-tokens", "Generate at most N tokens").default_value("256"))
        .arg(number("context", "Tokens of context; 0: the limit of the model").default_value("0"))
        .arg(
            text("stop", "TEXT", "Stop before this text; can be given several times")
                .action(ArgAction::Append),
        )
        .arg(hybrid_common::arguments::threads())
        .next_help_heading("When to ask the cloud")
        .arg(
            choice("mode", MODES, "Who may write tokens")
                .default_value("hybrid")
                .requires_if("cloud-first", "cloud-url"),
        )
        .arg(real("threshold", "Ask about candidates that score under F [default: the bundle's]"))
        .arg(real("share", "Ask about this share of the tokens, 0 to 1"))
        .arg(real("guarantee", "Let at most this share of the tokens differ from the cloud's"))
        .group(ArgGroup::new("by").args(["threshold", "share", "guarantee"]))
        .arg(real("confidence", "Confidence of --guarantee; 0: on average").default_value("0.95"))
        .arg(choice("score", SCORES, "What scores the candidates").default_value("auto"))
        .arg(
            choice("hold", HOLDS, "Move the threshold while generating, to hold --hold-limit")
                .requires("hold-limit"),
        )
        .arg(double("hold-limit", "The share, or the amount per hour").requires("hold"))
        .arg(double("price-prompt-token", "Price of a token sent").default_value("0"))
        .arg(double("price-answer-token", "Price of a token received").default_value("0"))
        .arg(small("burst", "Take up to N tokens from one consult").default_value("1"))
        .arg(flag("hand-back", "Count a token of a burst as local if the SLM is sure of it too"))
        .arg(
            small("rescue", "Score up to N other tokens of the SLM before a consult")
                .default_value("0"),
        )
        .arg(
            small("overlap", "Let the SLM read on, N tokens at most, while the cloud is asked")
                .default_value("0"),
        )
        .arg(flag("warm", "Send the prompt to the cloud while the SLM reads it; billed once more"))
        .arg(small("corrections", "Remember the answers of up to N consults").default_value("0"))
        .arg(small("correction-suffix", "Preceding ids that must match").default_value("32"))
        .arg(file(
            "corrections-file",
            "Load corrections from this file if it exists; save them to it",
        ))
        .arg(number("deadline-ms", "Time limit of a consult, in ms").default_value("2000"))
        .arg(number("budget-consults", "Consult at most N times"))
        .arg(number("budget-tokens", "Accept at most N tokens in all answers of the cloud"))
        .arg(number("budget-bytes", "Send and receive at most N bytes"))
        .next_help_heading("The cloud")
        .args(cloud_arguments(Named::IfTheServerWantsIt))
        .next_help_heading("Sampling")
        .arg(real("temperature", "0: greedy").default_value("0"))
        .arg(small("top-k", "0: off").default_value("0"))
        .arg(real("top-p", "1: off").default_value("1"))
        .arg(real("min-p", "0: off").default_value("0"))
        .arg(real("repetition-penalty", "1: off").default_value("1"))
        .arg(small("repetition-window", "Number of last tokens to penalise").default_value("64"))
        .arg(number("seed", "Same seed, same text").default_value("0"))
        .next_help_heading("Speed")
        .arg(small("draft", "Tokens drafted from the context, 0 to 7; 0: off").default_value("0"))
}

/// The options given that have no effect because `--cloud-url` is missing.
pub fn without_effect(arguments: &ArgMatches) -> Vec<String> {
    if arguments.contains_id("cloud-url") {
        return Vec::new();
    }
    let gate = FOR_THE_CLOUD.iter().map(|name| (*name).to_owned());
    let cloud = cloud_arguments(Named::IfTheServerWantsIt).into_iter();
    let given = |name: &String| arguments.value_source(name) == Some(ValueSource::CommandLine);
    gate.chain(cloud.map(|arg| arg.get_id().to_string())).filter(given).collect()
}

/// Everything that can be set about a session.
#[derive(Debug, Default)]
pub struct Settings {
    pub birth: SessionOptions,
    sampling: Sampling,
    gate: Gate,
    consult: ConsultOptions,
    budget: Budget,
    corrections: CorrectionOptions,
}

impl Settings {
    pub fn parse(arguments: &ArgMatches) -> Result<Settings> {
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
                overlap: get(arguments, "overlap")?,
                warm: arguments.get_flag("warm"),
            },
            budget: Budget {
                consults: limit("budget-consults"),
                tokens: limit("budget-tokens"),
                bytes: limit("budget-bytes"),
                hold: hold(arguments)?,
            },
            corrections: CorrectionOptions {
                capacity: get(arguments, "corrections")?,
                suffix: get(arguments, "correction-suffix")?,
            },
        })
    }

    pub fn set(&self, session: &mut Session) -> hybrid::Result<()> {
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
        return Ok(Threshold::Value(threshold));
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
        Held::Share => return Ok(Some(Hold::Share(limit))),
        Held::Consults => Unit::Consults,
        Held::Bytes => Unit::Bytes,
        Held::Money => Unit::Money {
            prompt_token: get(arguments, "price-prompt-token")?,
            answer_token: get(arguments, "price-answer-token")?,
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

pub fn path<'a>(arguments: &'a ArgMatches, name: &str) -> Option<&'a PathBuf> {
    arguments.get_one(name)
}

/// An option that is required or has a default.
pub fn get<T: Clone + Send + Sync + 'static>(arguments: &ArgMatches, name: &str) -> Result<T> {
    arguments.get_one::<T>(name).cloned().with_context(|| format!("--{name} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hybrid::reward::ScoreKind;

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
        let line = "run b --chat hi --mode hybrid --hand-back --rescue 2 --threshold -1 --score \
                    margin --burst 3 --overlap 9 --deadline-ms 50 --budget-consults 1 \
                    --budget-bytes 9 --temperature 0.5 --top-k 4 --seed 7 --draft 7 --context 99 \
                    --stop A --stop B";
        let settings = Settings::parse(&parse(line).unwrap()).unwrap();
        let Settings { birth, sampling, gate, consult, budget, .. } = settings;
        assert_eq!((gate.mode, gate.score), (Mode::Hybrid, ScoreKind::Margin));
        assert_eq!((consult.hand_back, consult.rescue, consult.overlap), (true, 2, 9));
        assert_eq!((gate.threshold, consult.burst), (Threshold::Value(-1.0), 3));
        assert_eq!(budget, Budget { consults: Some(1), bytes: Some(9), ..Budget::default() });
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
        let money = Unit::Money { prompt_token: 1e-6, answer_token: 0.0 };
        let line = "--hold money-per-hour --hold-limit 2 --price-prompt-token 1e-6";
        assert_eq!(held(line).unwrap(), Some(Hold::PerHour { limit: 2.0, unit: money }));
        let share = held("--hold share --hold-limit 0.5").unwrap();
        assert_eq!(share, Some(Hold::Share(0.5)));
        let bad = ["run b", "run b --prompt x --chat y", "run b --prompt x --mode no"];
        for line in bad.into_iter().chain([
            "run b --prompt x --system s",
            "run --prompt x",
            "run b --prompt x --hold share",
        ]) {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_cloud_is_needed_for_what_it_does() {
        assert!(parse("run b --chat hi --mode cloud-first").is_err());
        assert!(parse("run b --chat hi --mode cloud-first --cloud-url https://x").is_ok());
        let useless =
            |line: &str| without_effect(&parse(&format!("run b --chat hi {line}")).unwrap());
        assert_eq!(useless("--burst 2 --seed 3 --share 0.1"), ["share", "burst"]);
        assert_eq!(useless("--pin x --server openai"), ["server", "pin"]);
        assert_eq!(useless("--burst 2 --cloud-url https://x"), [""; 0]);
        assert_eq!(useless("--seed 3"), [""; 0]);
    }
}

//! The command line of `hybrid-lab eval`.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use hybrid::reward::ScoreKind;

use hybrid_common::answers::case::Extras;
use hybrid_common::answers::llm::{LlmOptions, llm_arguments};
use hybrid_common::arguments::SCORES;
use hybrid_common::arguments::{path, text};

pub fn command() -> Command {
    let number = |name, help| text(name, "N", help).value_parser(value_parser!(usize));
    let count = |name, value, help| {
        text(name, value, help).value_parser(value_parser!(u32)).default_value("0")
    };
    let price = |name, help| text(name, "F", help).value_parser(value_parser!(f64));
    Command::new("eval")
        .about("Measure a bundle with a cloud LLM against the cloud LLM alone, on your prompts")
        .after_help(
            "Prompts of the split `validation` set the thresholds, prompts of `test` are measured. \
             Of the prompts without a split, every fifth one sets thresholds. eval caches answers, \
             so another gate or a restart asks the cloud LLM only for what is new.",
        )
        .arg(
            Arg::new("BUNDLE")
                .help("Directory of the bundle")
                .required(true)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            path("prompts", "FILE", "Prompts, one JSON object per line (docs/reward-head.md)")
                .required(true),
        )
        .arg(number(
            "sample",
            "Measure at most N prompts; a larger sample contains the smaller one",
        ))
        .arg(number("calibrate", "Set thresholds on at most N prompts"))
        .args(llm_arguments())
        .arg(path(
            "out",
            "FILE",
            "Write all figures and texts to this file, one JSON object per line",
        ))
        .next_help_heading("What to compare")
        .arg(
            text("gates", "NAMES", "Scores to compare, separated by commas")
                .default_value("head,max-probability,margin,entropy,random"),
        )
        .arg(
            text(
                "shares",
                "LIST",
                "Set thresholds for these shares of cloud tokens; '': only each model alone and \
                 the oracle",
            )
            .default_value("0.05,0.1,0.2,0.3"),
        )
        .arg(
            text("thresholds", "LIST", "Use these thresholds instead of shares")
                .conflicts_with("shares"),
        )
        .arg(
            text("bursts", "LIST", "Take up to this many tokens from one consult")
                .default_value("1"),
        )
        .arg(
            Arg::new("no-sessions")
                .long("no-sessions")
                .help("Run no sessions; only score along the cloud LLM's answers")
                .action(ArgAction::SetTrue),
        )
        .arg(
            Arg::new("live")
                .long("live")
                .help(
                    "Use no cached sessions: compute and ask everything, and measure bytes and \
                     seconds",
                )
                .action(ArgAction::SetTrue),
        )
        .next_help_heading("Options of the sessions")
        .arg(
            Arg::new("hand-back")
                .long("hand-back")
                .help("Count a token of a burst as local if the SLM is sure of it too")
                .action(ArgAction::SetTrue),
        )
        .arg(count("rescue", "K", "Score up to K other tokens of the SLM before a consult, 0 to 7"))
        .arg(count(
            "corrections",
            "N",
            "Remember answers, and use them where the N preceding ids match; 0: off",
        ))
        .next_help_heading("Prices, per million tokens")
        .arg(price("price-prompt-token", "Price of the tokens sent").default_value("0"))
        .arg(price("price-answer-token", "Price of the tokens received").default_value("0"))
}

/// The checked command line.
pub struct Options {
    pub bundle: PathBuf,
    pub prompts: PathBuf,
    pub sample: Option<usize>,
    pub calibrate: Option<usize>,
    pub llm: LlmOptions,
    pub out: Option<PathBuf>,
    pub gates: Vec<Gate>,
    pub points: Points,
    pub bursts: Vec<u32>,
    pub extras: Extras,
    pub sessions: bool,
    pub live: bool,
    pub prices: Prices,
}

/// A score by its name.
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    pub name: &'static str,
    pub kind: ScoreKind,
}

/// Where a gate is measured.
pub enum Points {
    Shares(Vec<f64>),
    Thresholds(Vec<f32>),
}

/// Per million tokens.
#[derive(Debug, Clone, Copy)]
pub struct Prices {
    pub prompt: f64,
    pub token: f64,
}

impl Options {
    pub fn parse(arguments: &ArgMatches) -> Result<Options> {
        let path = |name: &str| arguments.get_one::<PathBuf>(name).cloned();
        let number = |name: &str| arguments.get_one::<usize>(name).copied();
        let count = |name: &str| arguments.get_one::<u32>(name).copied().unwrap_or_default();
        let price = |name: &str| arguments.get_one::<f64>(name).copied().unwrap_or_default();
        let shares: Vec<f64> = list(arguments, "shares")?;
        ensure!(
            shares.iter().all(|share| (0.0..=1.0).contains(share)),
            "--shares: each must be in 0..=1"
        );
        let thresholds: Vec<f32> = list(arguments, "thresholds")?;
        Ok(Options {
            bundle: path("BUNDLE").expect("required by clap"),
            prompts: path("prompts").expect("required by clap"),
            sample: number("sample"),
            calibrate: number("calibrate"),
            llm: LlmOptions::parse(arguments)?,
            out: path("out"),
            gates: list::<String>(arguments, "gates")?
                .iter()
                .map(|name| gate(name))
                .collect::<Result<_>>()?,
            points: if thresholds.is_empty() {
                Points::Shares(shares)
            } else {
                Points::Thresholds(thresholds)
            },
            bursts: list(arguments, "bursts")?,
            extras: Extras {
                hand_back: arguments.get_flag("hand-back"),
                rescue: count("rescue"),
                corrections: count("corrections"),
            },
            sessions: !arguments.get_flag("no-sessions"),
            live: arguments.get_flag("live"),
            prices: Prices {
                prompt: price("price-prompt-token"),
                token: price("price-answer-token"),
            },
        })
    }
}

fn gate(name: &str) -> Result<Gate> {
    let known = SCORES.iter().find(|(known, _)| *known == name);
    let &(name, kind) = known.with_context(|| {
        let names: Vec<&str> = SCORES.iter().map(|(name, _)| *name).collect();
        format!("--gates: there is no score `{name}`; there are {}", names.join(", "))
    })?;
    Ok(Gate { name, kind })
}

fn list<T: FromStr>(arguments: &ArgMatches, name: &str) -> Result<Vec<T>> {
    let text = arguments.get_one::<String>(name).map_or("", String::as_str);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let item = |item: &str| item.trim().parse().ok();
    let items: Option<Vec<T>> = text.split(',').map(item).collect();
    items.with_context(|| format!("--{name}: not a list of numbers: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&command().try_get_matches_from(line.split(' '))?)
    }

    #[test]
    fn lists() {
        let options = parse(
            "eval b --prompts d --cloud-model m --cache c --gates margin,head --bursts 1,4 \
             --shares .1,1",
        )
        .unwrap();
        let names: Vec<&str> = options.gates.iter().map(|gate| gate.name).collect();
        assert_eq!((names, options.bursts), (vec!["margin", "head"], vec![1, 4]));
        assert!(matches!(options.points, Points::Shares(shares) if shares == [0.1, 1.0]));
        for (bad, text) in [
            ("--shares 1.1", "0..=1"),
            ("--shares a", "not a list"),
            ("--bursts 1,-1", "not a list"),
            ("--gates best", "no score `best`; there are auto, head"),
            ("--shares 0.1 --thresholds 0.5", "cannot be used with"),
        ] {
            let error = parse(&format!("eval b --prompts d --cloud-model m {bad}")).err().unwrap();
            assert!(format!("{error:#}").contains(text), "{error:#}");
        }
    }
}

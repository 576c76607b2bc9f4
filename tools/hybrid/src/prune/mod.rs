//! `hybrid prune`: makes smaller bundles of a model, without training it again.
//!
//! `moments` measures what the matrices read over a text, by way of `taps`; `rank` says what goes;
//! `cut` takes it out, `compensate` makes up for it and `encode` writes the matrices that changed.
//! `vocabulary` takes out tokens. The bundles are ordinary ones, whose layers differ in shape.

mod compensate;
mod cut;
mod encode;
mod moments;
mod rank;
mod report;
mod taps;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{ArgMatches, Command, value_parser};
use hybrid::bundle::{Bundle, Verify};
use hybrid::tokens::Tokens;
use hybrid_common::arguments::{path, text, threads};
use hybrid_common::cli::print;
use hybrid_common::interrupt;

use crate::pack::from_gguf::PackedSource;
use crate::pack::{self, Options, Source};
use moments::LayerMoments;
use rank::Ranking;
use report::Report;

pub fn command() -> Command {
    Command::new("prune")
        .about("Make smaller bundles of a model: without the parts that a text needs least")
        .after_help(
            "The last fifth of --text is not read by the ranking; the perplexity is measured on \
             it, unless --evaluate names another text. With several shares there are several \
             bundles: BUNDLE-10 for 0.1, and so on.",
        )
        .args(pack::model_arguments())
        .arg(path(
            "text",
            "FILE",
            "Text of the kind that the model is for (UTF-8): ranks its parts",
        ))
        .arg(
            text("share", "SHARES", "Weights of the layers that go, such as 0.2 or 0.1,0.2,0.3")
                .value_parser(value_parser!(f64))
                .value_delimiter(',')
                .requires("text"),
        )
        .arg(path("vocabulary", "FILE", "Drop tokens that this text never needs (UTF-8)"))
        .arg(path("evaluate", "FILE", "Text to measure the perplexity on (UTF-8)"))
        .arg(
            text("tokens", "N", "Tokens of the text that are read")
                .value_parser(value_parser!(u32).range(2..))
                .default_value("16384"),
        )
        .arg(
            text("whole", "N", "Layers at either end that lose nothing")
                .value_parser(value_parser!(u32))
                .default_value("1"),
        )
        .arg(threads())
        .group(
            clap::ArgGroup::new("what").args(["text", "vocabulary"]).required(true).multiple(true),
        )
}

struct Task {
    options: Options,
    shares: Vec<f64>,
    /// Tokens of the text that are read.
    tokens: usize,
    /// Layers at either end that lose nothing.
    whole: usize,
    threads: usize,
}

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let file = |name| arguments.get_one::<PathBuf>(name).map(PathBuf::as_path);
    let count = |name| *arguments.get_one::<u32>(name).expect("has a default") as usize;
    let model = file("MODEL").expect("required by clap");
    let output = file("output").expect("required by clap");
    let given = arguments.get_many("share").map(|shares| shares.copied().collect());
    let shares: Vec<f64> = given.unwrap_or(match file("text") {
        Some(_) => vec![0.2],
        None => vec![0.0],
    });
    for share in &shares {
        ensure!((0.0..1.0).contains(share), "--share is {share}, expected 0 to less than 1");
    }
    let task = Task {
        options: Options::of(arguments),
        shares,
        tokens: count("tokens"),
        whole: count("whole"),
        threads: *arguments.get_one("threads").expect("has a default"),
    };
    let (calibration, held_back) = match file("text").map(read).transpose()? {
        None => (None, None),
        Some(text) if file("evaluate").is_some() => (Some(text), None),
        Some(text) => {
            let (first, last) = split(&text);
            (Some(first.to_owned()), Some(last.to_owned()))
        }
    };
    let evaluation = file("evaluate").map(read).transpose()?.or(held_back);
    let corpus = file("vocabulary").map(read).transpose()?;
    interrupt::catch()?;
    let report = task
        .prune(model, output, calibration.as_deref(), corpus.as_deref(), evaluation)
        .with_context(|| format!("cannot prune {}", model.display()))?;
    print(&report)
}

fn read(path: &Path) -> Result<String> {
    let name = path.display();
    let text = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    String::from_utf8(text).with_context(|| format!("{name} is not UTF-8"))
}

/// What is ranked by, and the last fifth, from a line's begin.
fn split(text: &str) -> (&str, &str) {
    let at = text.floor_char_boundary(text.len() / 5 * 4);
    let line = text.get(at..).and_then(|rest| rest.find('\n')).map_or(0, |line| line + 1);
    text.split_at_checked(at + line).unwrap_or((text, ""))
}

impl Task {
    /// Makes the bundles and says what became of the model.
    fn prune(
        &self,
        model: &Path,
        output: &Path,
        calibration: Option<&str>,
        corpus: Option<&str>,
        evaluation: Option<String>,
    ) -> Result<String> {
        let mut source = pack::open_packed(model, self.options)?;
        let scratch = Scratch::beside(output)?;
        let options = Options { replace: true, ..self.options };
        pack::print_notes(&source.notes());
        pack::write(source.clone(), &scratch.before, options)?.put_into_place()?;
        let mut report = Report::new(evaluation, self.threads);
        report.add("before", &scratch.before);
        if let Some(corpus) = corpus {
            *source = vocabulary::cut(&source, corpus)?;
        }
        let ranked = match calibration {
            Some(text) if self.shares.iter().any(|share| *share > 0.0) => {
                Some(self.rank(&source, text, &scratch)?)
            }
            _ => None,
        };
        for share in &self.shares {
            let percent = format!("{}", (share * 1000.0).round() / 10.0);
            let output = match self.shares.len() {
                1 => output.to_owned(),
                _ => output.with_file_name(format!("{}-{percent}", pack::name(output))),
            };
            let pruned = match &ranked {
                Some((ranking, moments)) if *share > 0.0 => {
                    let keep = ranking.keep(&source.plan, *share)?;
                    let (plan, bytes) = cut::cut(&source.plan, &source.file, &keep, moments)?;
                    let name = format!(" ({percent} % pruned)");
                    source.changed(plan, bytes, source.tokenizer.clone(), &name)
                }
                _ => (*source).clone(),
            };
            pack::finish(pack::write(Box::new(pruned), &output, self.options)?, None)?;
            report.add(&format!("{percent} %"), &output);
        }
        report.table()
    }

    fn rank(
        &self,
        source: &PackedSource,
        text: &str,
        scratch: &Scratch,
    ) -> Result<(Ranking, Vec<LayerMoments>)> {
        let options = Options { replace: true, ..self.options };
        pack::write(Box::new(source.clone()), &scratch.whole, options)?.put_into_place()?;
        let bundle = Bundle::open(&scratch.whole, Verify::AllButWeights)?;
        let mut ids = Tokens::open(&bundle)?.encode(text, false)?;
        ids.truncate(self.tokens);
        ensure!(ids.len() > 1, "--text has no two tokens");
        let (plan, taps) = (&source.plan, scratch.taps.as_path());
        let moments = moments::measure(&bundle, plan, &ids, taps, self.threads)?;
        let values = |linear: &_| cut::values(linear, &source.file);
        Ok((Ranking::new(plan, &moments, self.whole, &values)?, moments))
    }
}

/// Bundles that are gone afterwards, in a folder of this run's own.
struct Scratch {
    folder: PathBuf,
    before: PathBuf,
    /// With the vocabulary that stays.
    whole: PathBuf,
    taps: PathBuf,
}

impl Scratch {
    fn beside(output: &Path) -> Result<Scratch> {
        let name = format!(".{}.prune-{}", pack::name(output), std::process::id());
        let folder = output.with_file_name(name);
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let place = |what| folder.join(what);
        let (before, whole, taps) = (place("before"), place("whole"), place("taps"));
        Ok(Scratch { folder, before, whole, taps })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is of no use to anybody; what went wrong is said elsewhere.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

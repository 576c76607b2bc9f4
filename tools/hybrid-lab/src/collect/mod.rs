//! `hybrid-lab collect`: reads answers with the SLM and notes, for every token, what the SLM says
//! (the features of a reward head) and what the cloud LLM would have said (its labels). Read
//! top-down: `answers`, `branch`.

mod answers;
pub mod arguments;
mod branch;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ArgMatches;
use hybrid::bundle::{FileRole, sha256};
use hybrid::consult::Consult;
use hybrid::reward::statistics;
use hybrid::session::{Model, ModelOptions};
use hybrid::tokens::Tokens;

use answers::{Answers, Ending};
pub use arguments::command;
use arguments::{Options, Writer};
use branch::Branch;
use hybrid_common::cli::print;
use hybrid_common::cloud::connect;
use hybrid_common::files::replace;
use hybrid_common::progress::Steps;
use hybrid_common::prompts::{self, Prompt, Split};
use hybrid_common::records::chosen::Chosen;
use hybrid_common::records::features::Features;
use hybrid_common::records::labels::Labels;
use hybrid_common::records::reader::Reader;
use hybrid_common::records::record::{self, About, Record};
use hybrid_common::records::text::Text;

/// An answer is cut here, in tokens.
const MAX_TOKENS: usize = 256;

pub fn run(arguments: &ArgMatches) -> Result<()> {
    let options = Options::parse(arguments)?;
    let open = |dir: &Path| {
        Model::open(dir, ModelOptions { threads: options.threads, ..ModelOptions::default() })
    };
    let model = open(&options.bundle)?;
    let teacher = options.teacher.as_deref().map(open).transpose()?;
    let prompts = read_prompts(&options, &model)?;
    let cloud = connect(&options.cloud, &model)?;
    let fingerprint = model.tokens.fingerprint();
    let foreign = teacher.as_ref().filter(|llm| llm.tokens.fingerprint() != fingerprint);
    let other_cloud = cloud.as_ref().filter(|cloud| !cloud.shares_vocabulary(&fingerprint));
    if foreign.is_some() || other_cloud.is_some() {
        check_text(&options)?;
    }
    ensure!(
        options.branches.is_none() || matches!(options.writer, Writer::Llm),
        "--branches leave the LLM's own answers: use --path llm"
    );
    for dir in [&options.out, &options.cache] {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let mut collector = Collector {
        answers: Answers {
            cloud: cloud.as_ref().map(|cloud| cloud as &dyn Consult),
            model: &options.cloud_model,
            tokens: &model.tokens,
            dir: &options.cache,
        },
        slm: Reader::new(&model.slm)?,
        llm: teacher.as_ref().map(|teacher| Reader::new(&teacher.slm)).transpose()?,
        model: &model,
        foreign: foreign.map(|llm| &*llm.tokens),
        labelled_by: teacher.as_ref().map_or_else(|| options.cloud_model.clone(), computed_by),
        options: &options,
    };
    let bar = Steps::new("answers", prompts.len() as u64);
    let (mut rows, mut branches) = (0, Vec::new());
    for prompt in &prompts {
        let mut read = || {
            let record = collector.collect(prompt)?;
            rows += record.tokens.len();
            if options.branches.is_some()
                && let Some(branch) = collector.branch(prompt, &record)?
            {
                serde_json::to_writer(&mut branches, &branch)?;
                branches.push(b'\n');
            }
            anyhow::Ok(())
        };
        read().with_context(|| format!("prompt {}", prompt.id))?;
        bar.add(1);
    }
    drop(bar);
    options.branches.iter().try_for_each(|file| replace(file, &branches))?;
    print(&format!("{}: {} answers, {rows} tokens\n", options.out.display(), prompts.len()))
}

/// Labels in bytes know one path, and one LLM that wrote it.
fn check_text(options: &Options) -> Result<()> {
    ensure!(
        matches!(options.writer, Writer::Llm),
        "the LLM's vocabulary is not the SLM's, so that it is known only along the LLM's own \
         answers what it says: use --path llm"
    );
    ensure!(
        options.branches.is_none(),
        "the LLM's vocabulary is not the SLM's, so that it cannot go on behind an SLM's token: \
         leave out --branches"
    );
    ensure!(
        options.cloud.is_none() || options.teacher.is_none(),
        "the LLM's vocabulary is not the SLM's: give either --cloud-url or --teacher"
    );
    Ok(())
}

/// The prompts of the file.
fn read_prompts(options: &Options, model: &Model) -> Result<Vec<Prompt>> {
    let template = model.chat_template.as_deref();
    let prompts = prompts::read(&options.prompts, template, Split::Train)?;
    prompts::select(prompts, &options.splits, options.limit)
}

/// Graph and weights: what a model says depends on nothing else.
fn computed_by(model: &Model) -> String {
    let files = &model.bundle.manifest().files;
    let hash = |role| files.get(&role).map_or("", |file| &file.sha256);
    [FileRole::Graph, FileRole::Weights].map(hash).join(" ")
}

struct Collector<'a> {
    options: &'a Options,
    model: &'a Model,
    /// The vocabulary of an LLM on this machine that has another one than the SLM.
    foreign: Option<&'a Tokens>,
    slm: Reader,
    llm: Option<Reader>,
    answers: Answers<'a>,
    labelled_by: String,
}

impl<'a> Collector<'a> {
    /// Makes the record of one prompt unless it is there.
    fn collect(&mut self, prompt: &Prompt) -> Result<Record> {
        let (ids, ending) = self.question(prompt)?;
        let file = self.file(prompt, &ids);
        if file.exists() {
            return self.complete(&file, &ids);
        }
        let text = self.text(prompt, &ids, &ending)?;
        let path = match &text {
            Some(text) => ending.trim(text.path(&self.model.tokens)?),
            None => self.path(prompt, &ids, &ending)?,
        };
        ensure!(!path.is_empty(), "its answer is empty");
        let features = Features::read(&mut self.slm, &ids, &path)?;
        let labels = match &text {
            Some(text) => Labels::of_text(text, &path, &features, &self.model.tokens),
            None => self.labels(&ids, &path, &features)?,
        };
        let chosen = Chosen::read(&mut self.slm, &ids, &path, &features, &labels.choices)?;
        let about = About::new(
            &prompt.id,
            prompt.split,
            &self.options.writer.name(),
            &self.model.bundle.manifest().model.source_sha256,
            &self.options.cloud_model,
        );
        let record = Record { about, tokens: path, features, labels, chosen: Some(chosen) };
        record.save(&file)?;
        Ok(record)
    }

    /// The prompt's tokens, and where an answer to it ends.
    fn question(&self, prompt: &Prompt) -> Result<(Vec<u32>, Ending<'a>)> {
        let ids = self.model.tokens.encode_prompt(&prompt.text, true)?;
        let room = self.slm.room(&ids);
        ensure!(
            !ids.is_empty() && room > 0,
            "it has {} tokens: the SLM's context has no room for it and an answer",
            ids.len()
        );
        let room = room.min(MAX_TOKENS);
        Ok((ids, Ending { tokens: &self.model.tokens, stop: prompt.stop, room }))
    }

    /// What the LLM writes behind the SLM's token at one of the record's disagreements, if it has
    /// any.
    fn branch<'p>(&mut self, prompt: &'p Prompt, record: &Record) -> Result<Option<Branch<'p>>> {
        let candidates = &record.features.candidates;
        let Some(at) = branch::place(&prompt.id, candidates, &record.labels.choices) else {
            return Ok(None);
        };
        let (ids, ending) = self.question(prompt)?;
        let begun = [&record.tokens[..at], &candidates[at..=at]].concat();
        let ids = self.answers.get(&prompt.id, &ids, &begun, &ending, self.llm.as_mut())?;
        Ok(Some(Branch::new(prompt, record, at, &ids, &self.model.tokens)))
    }

    /// Adds to a record of an earlier version what it lacks.
    fn complete(&mut self, file: &Path, ids: &[u32]) -> Result<Record> {
        let mut record = Record::load(file)?;
        let Record { tokens, features, labels, .. } = &record;
        if record.chosen.is_none() {
            let chosen = Chosen::read(&mut self.slm, ids, tokens, features, &labels.choices)?;
            record.chosen = Some(chosen);
            record.save(file)?;
        }
        Ok(record)
    }

    /// The record's file is named by all that it depends on, so that a folder can hold many kinds.
    fn file(&self, prompt: &Prompt, ids: &[u32]) -> PathBuf {
        let name = serde_json::json!([
            record::FORMAT,
            statistics::VERSION,
            computed_by(self.model),
            self.labelled_by,
            self.options.cloud_model,
            self.options.writer.name(),
            prompt.split,
            prompt.answer,
            ids,
        ]);
        self.options.out.join(format!("{}.safetensors", sha256(name.to_string().as_bytes())))
    }

    /// The LLM's answer where its vocabulary is another, to the bytes that a session sends for
    /// `ids`.
    fn text(&mut self, prompt: &Prompt, ids: &[u32], ending: &Ending) -> Result<Option<Text>> {
        if !matches!(self.options.writer, Writer::Llm) {
            return Ok(None);
        }
        let bytes = ids.iter().flat_map(|&id| self.model.tokens.bytes_with_special(id));
        let sent = String::from_utf8(bytes.copied().collect()).context("it is no text")?;
        match (self.foreign, &mut self.llm) {
            (Some(tokens), Some(llm)) => {
                let ids = tokens.encode_prompt(&sent, true)?;
                let room = llm.room(&ids).min(MAX_TOKENS);
                ensure!(room > 0, "the LLM's context has no room for it and an answer");
                let ending = Ending { tokens, stop: prompt.stop, room };
                let ids = self.answers.get(&prompt.id, &ids, &[], &ending, Some(llm))?;
                Ok(Some(Text::of(&ids, tokens)))
            }
            (_, Some(_)) => Ok(None),
            _ if self.answers.shares_vocabulary() => Ok(None),
            _ => self.answers.text(&prompt.id, &sent, ending),
        }
    }

    fn path(&mut self, prompt: &Prompt, ids: &[u32], ending: &Ending) -> Result<Vec<u32>> {
        Ok(match self.options.writer {
            Writer::Llm => self.answers.get(&prompt.id, ids, &[], ending, self.llm.as_mut())?,
            Writer::Slm(sampling, seed) => {
                self.slm.write(ids, (sampling, seed), |text| ending.is_reached(text))?
            }
            Writer::Answer => {
                let answer = prompt.answer.as_deref().context("it comes without an answer")?;
                let path = self.model.tokens.encode_continuation(answer)?;
                ending.trim(path.context("its answer cannot be written in this vocabulary")?)
            }
        })
    }

    /// Along its own answer an LLM in the cloud has told its choices; other paths need one that
    /// reads.
    fn labels(&mut self, ids: &[u32], path: &[u32], features: &Features) -> Result<Labels> {
        match (&mut self.llm, self.options.writer) {
            (Some(llm), _) => Labels::read(llm, ids, path, features, &self.model.tokens),
            (None, Writer::Llm) => {
                Ok(Labels::new(path.to_vec(), None, features, &self.model.tokens))
            }
            (None, _) => {
                bail!("only a --teacher can say what it would have said along others' answers")
            }
        }
    }
}

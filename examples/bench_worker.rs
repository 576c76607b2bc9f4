//! Our side of `scripts/bench`: opens a bundle and measures what it is told on stdin.
//!
//!     bench_worker BUNDLE CONTEXT THREADS [unhashed]
//!
//! It answers every line with seconds, and the start with those that opening took (`unhashed`:
//! without checking the weights' hash):
//!
//!     prefill N             N tokens into an empty context
//!     decode CONTEXT N      N tokens, one after the other, from CONTEXT tokens of context on
//!     session DRAFT TEMPERATURE N FILE
//!                           per token, N at most, of a session's answer to the text in
//!                           FILE, with DRAFT tokens drafted; it must be the same each time
//!
//! `scripts/tools/llama_worker.c` and `scripts/tools/onnx_worker.py` do the same on other runtimes,
//! but for sessions.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use hybrid::Cancel;
use hybrid::bundle::Verify;
use hybrid::policy::Mode;
use hybrid::sampler::Sampling;
use hybrid::session::{Gate, Model, ModelOptions, Session, SessionOptions};
use hybrid::slm::{Rows, SlmState};
use hybrid::tokens::Message;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (bundle, context, threads, verify) = match arguments.as_slice() {
        [bundle, context, threads] => (bundle, context, threads, Verify::All),
        [bundle, context, threads, how] if how == "unhashed" => {
            (bundle, context, threads, Verify::AllButWeights)
        }
        _ => bail!("usage: bench_worker BUNDLE CONTEXT THREADS [unhashed]"),
    };
    let start = Instant::now();
    let options = ModelOptions { threads: threads.parse()?, verify, ..ModelOptions::default() };
    let model = Model::open(Path::new(bundle), options)?;
    let context = context.parse()?;
    let state = model.slm.spawn(context)?;
    answer(start.elapsed().as_secs_f64())?;

    let mut worker = Worker { model: Arc::new(model), context, state, answers: HashMap::new() };
    for line in std::io::stdin().lines() {
        let line = line?;
        let seconds = match line.splitn(5, ' ').collect::<Vec<_>>().as_slice() {
            ["prefill", tokens] => worker.prefill(tokens.parse()?)?,
            ["decode", context, tokens] => worker.decode(context.parse()?, tokens.parse()?)?,
            ["session", draft, temperature, tokens, file] => {
                worker.session(draft.parse()?, temperature.parse()?, tokens.parse()?, file)?
            }
            _ => bail!("unknown command {line:?}"),
        };
        answer(seconds)?;
    }
    Ok(())
}

fn answer(seconds: f64) -> Result<()> {
    println!("{seconds}");
    Ok(std::io::stdout().flush()?)
}

struct Worker {
    model: Arc<Model>,
    context: usize,
    state: Box<dyn SlmState>,
    /// What sessions have written, by file.
    answers: HashMap<String, Vec<u32>>,
}

impl Worker {
    fn prefill(&mut self, tokens: usize) -> Result<f64> {
        self.state.rewind(self.state.len())?;
        let start = Instant::now();
        self.fill(tokens)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// The next measurement at this context needs no prefill.
    fn decode(&mut self, context: usize, tokens: usize) -> Result<f64> {
        self.state.rewind(self.state.len().saturating_sub(context - 1))?;
        // One token that does not count: the caches are the other runtime's.
        let mut logits = self.fill(context)?;
        let start = Instant::now();
        for _ in 0..tokens {
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            let best = best.context("no logits")? as u32;
            logits = self.state.feed(&[best], Rows::Last, &Cancel::new())?.logits;
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Seconds per token. The prompt does not count.
    fn session(&mut self, draft: u32, temperature: f32, most: usize, file: &str) -> Result<f64> {
        let options = SessionOptions { draft, context: self.context, ..SessionOptions::default() };
        let mut session = Session::new(self.model.clone(), None, options)?;
        session.set_gate(Gate { mode: Mode::LocalOnly, ..Gate::default() })?;
        session.set_sampling(Sampling { temperature, ..Sampling::default() })?;
        let content = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
        session.chat(&[Message { role: "user".into(), content }])?;
        let prompt = session.len();
        let start = Instant::now();
        session.run(most, &mut |_| true)?;
        let seconds = start.elapsed().as_secs_f64();
        let written = session.tokens()[prompt..].to_vec();
        let tokens = written.len() as f64;
        let before = self.answers.entry(file.to_owned()).or_insert_with(|| written.clone());
        ensure!(*before == written, "drafts of {draft} tokens change the answer to {file}");
        Ok(seconds / tokens)
    }

    /// Up to `context` tokens in all; the logits of the last. Which ids does not change the work,
    /// but all workers use the same.
    fn fill(&mut self, context: usize) -> Result<Vec<f32>> {
        let usable = self.model.bundle.manifest().tokens.usable as u32;
        let range = self.state.len() as u32..context as u32;
        let ids: Vec<u32> = range.map(|i| (i * 7919 + 13) % usable).collect();
        Ok(self.state.feed(&ids, Rows::Last, &Cancel::new())?.logits)
    }
}

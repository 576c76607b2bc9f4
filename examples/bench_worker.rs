//! Our side of `scripts/bench`: opens a bundle and measures what it is told on stdin.
//!
//!     bench_worker BUNDLE CONTEXT THREADS
//!
//! It answers every line with seconds, and the start with those that opening took:
//!
//!     prefill N             N tokens into an empty context
//!     decode CONTEXT N      N tokens, one after the other, from CONTEXT tokens of context on
//!
//! `scripts/tools/llama_worker.c` and `scripts/tools/onnx_worker.py` do the same on other runtimes.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hybrid::Cancel;
use hybrid::session::{Model, ModelOptions};
use hybrid::slm::{Rows, SlmState};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, context, threads] = arguments.as_slice() else {
        bail!("usage: bench_worker BUNDLE CONTEXT THREADS");
    };
    let start = Instant::now();
    let options = ModelOptions { threads: threads.parse()?, ..ModelOptions::default() };
    let model = Model::open(Path::new(bundle), options)?;
    let state = model.slm.spawn(context.parse()?)?;
    answer(start)?;

    let usable = model.bundle.manifest().tokens.usable as u32;
    let mut worker = Worker { state, usable };
    for line in std::io::stdin().lines() {
        let line = line?;
        let seconds = match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["prefill", tokens] => worker.prefill(tokens.parse()?)?,
            ["decode", context, tokens] => worker.decode(context.parse()?, tokens.parse()?)?,
            _ => bail!("unknown command {line:?}"),
        };
        answer(seconds)?;
    }
    Ok(())
}

fn answer(start: Instant) -> Result<()> {
    println!("{}", start.elapsed().as_secs_f64());
    Ok(std::io::stdout().flush()?)
}

struct Worker {
    state: Box<dyn SlmState>,
    usable: u32,
}

impl Worker {
    /// Returns when it began.
    fn prefill(&mut self, tokens: usize) -> Result<Instant> {
        self.state.rewind(self.state.len())?;
        let start = Instant::now();
        self.fill(tokens)?;
        Ok(start)
    }

    /// Returns when it began. The next measurement at this context needs no prefill.
    fn decode(&mut self, context: usize, tokens: usize) -> Result<Instant> {
        self.state.rewind(self.state.len().saturating_sub(context - 1))?;
        // One token that does not count: the caches are the other runtime's.
        let mut logits = self.fill(context)?;
        let start = Instant::now();
        for _ in 0..tokens {
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            let best = best.context("no logits")? as u32;
            logits = self.state.feed(&[best], Rows::Last, &Cancel::new())?.logits;
        }
        Ok(start)
    }

    /// Up to `context` tokens in all; the logits of the last. Which ids does not change the work, but all
    /// workers use the same.
    fn fill(&mut self, context: usize) -> Result<Vec<f32>> {
        let range = self.state.len() as u32..context as u32;
        let ids: Vec<u32> = range.map(|i| (i * 7919 + 13) % self.usable).collect();
        Ok(self.state.feed(&ids, Rows::Last, &Cancel::new())?.logits)
    }
}

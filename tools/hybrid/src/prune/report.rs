//! What became of a model: size, speed and perplexity of every bundle, as a table.

use std::path::{Path, PathBuf};

use anyhow::Result;
use hybrid::bundle::{Bundle, Verify};
use hybrid::slm::Slm;
use hybrid::tokens::Tokens;

use crate::bench::{self, Speed};
use crate::perplexity;

/// Speeds are measured so often, in turns, and the best counts: what else runs on the machine only
/// ever makes them worse.
const ROUNDS: usize = 3;
/// What is scored at most, in windows of 512 tokens.
const SCORED_TOKENS: usize = 16_384;
const WINDOW: usize = 512;

pub struct Report {
    /// The text that the perplexity is of.
    text: Option<String>,
    threads: usize,
    bundles: Vec<(String, PathBuf)>,
}

struct Row {
    name: String,
    bundle: Bundle,
    slm: Slm,
    speed: Speed,
    /// Of the text that the perplexity is of.
    tokens: usize,
}

impl Report {
    pub fn new(text: Option<String>, threads: usize) -> Report {
        Report { text, threads, bundles: Vec::new() }
    }

    pub fn add(&mut self, name: &str, dir: &Path) {
        self.bundles.push((name.to_owned(), dir.to_owned()));
    }

    /// In Markdown.
    pub fn table(&self) -> Result<String> {
        let open = |(name, dir): &(String, PathBuf)| -> Result<Row> {
            let bundle = Bundle::open(dir, Verify::AllButWeights)?;
            let slm = Slm::open(&bundle, self.threads)?;
            let tokens = match &self.text {
                Some(text) => Tokens::open(&bundle)?.encode(text, false)?.len(),
                None => 0,
            };
            Ok(Row { name: name.clone(), bundle, slm, speed: Speed::default(), tokens })
        };
        let mut rows: Vec<Row> = self.bundles.iter().map(open).collect::<Result<_>>()?;
        for _ in 0..ROUNDS {
            for row in &mut rows {
                let usable = row.bundle.manifest().tokens.usable as u32;
                let tokens = (row.slm.context_limit() / 2).saturating_sub(1).clamp(1, 64);
                let speed = bench::measure(&row.slm, usable, tokens, tokens)?;
                row.speed.prompt = row.speed.prompt.max(speed.prompt);
                row.speed.generation = row.speed.generation.max(speed.generation);
            }
        }
        let mut table = "| pruned | weights, MB | parameters, million | vocabulary | perplexity \
                         | prompt, tokens/s | generation, tokens/s |\n\
                         |---|---|---|---|---|---|---|\n"
            .to_owned();
        let first = rows.first().map_or(0, |row| row.tokens);
        for row in &rows {
            table += &self.line(row, first)?;
        }
        Ok(table)
    }

    /// `tokens`: those of the text before anything was cut, which the perplexity is given by. With
    /// a smaller vocabulary the text has more.
    fn line(&self, row: &Row, tokens: usize) -> Result<String> {
        let manifest = row.bundle.manifest();
        let window = WINDOW.min(row.slm.context_limit());
        let perplexity = match &self.text {
            None => "not measured".to_owned(),
            Some(text) => {
                let (bundle, slm) = (&row.bundle, &row.slm);
                let scored = perplexity::score_text(bundle, slm, text, Some(SCORED_TOKENS), window);
                let scored = scored?;
                let longer = row.tokens as f64 / tokens.max(1) as f64;
                let nll = scored.nll / scored.tokens.max(1) as f64 * longer;
                format!("{:.3}", nll.exp())
            }
        };
        Ok(format!(
            "| {} | {:.1} | {:.1} | {} | {perplexity} | {:.0} | {:.0} |\n",
            row.name,
            row.bundle.weights()?.len() as f64 / 1e6,
            manifest.model.parameters as f64 / 1e6,
            manifest.tokens.usable,
            row.speed.prompt,
            row.speed.generation
        ))
    }
}

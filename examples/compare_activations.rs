//! What 8-bit activations change: the logits of a quantised bundle beside those of a bundle with
//! the same weights as floats, which computes with float activations.
//!
//!     compare_activations BUNDLE FLOAT_BUNDLE PROMPTS.json
//!
//! PROMPTS.json is a list of texts. Per text: the cosine of both rows of logits at the first token,
//! at the worst of the others and at the last, and what share of the next token's probability
//! moves. Exit status 1: the median of all cosines is under `LIMIT`. Single ones are no measure:
//! docs/performance.md says why.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use hybrid::Cancel;
use hybrid::bundle::{Bundle, Verify};
use hybrid::slm::{Rows, Slm};
use hybrid::tokens::Tokens;

const LIMIT: f64 = 0.999;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, floats, prompts] = arguments.as_slice() else {
        bail!("usage: compare_activations BUNDLE FLOAT_BUNDLE PROMPTS.json");
    };
    let open = |dir: &String| Bundle::open(Path::new(dir), Verify::AllButWeights);
    let [bundle, floats] = [open(bundle)?, open(floats)?];
    let fingerprints = [&bundle, &floats].map(|b| b.manifest().tokens.fingerprint.clone());
    ensure!(fingerprints[0] == fingerprints[1], "the vocabularies differ");
    let tokens = Tokens::open(&bundle)?;
    let [slm, floats] = [Slm::open(&bundle, 0)?, Slm::open(&floats, 0)?];
    let prompts: Vec<String> = serde_json::from_slice(&std::fs::read(prompts)?)?;

    println!("cosine: first token  worst other  last token   moved  prompt");
    let mut all = Vec::new();
    for prompt in &prompts {
        let ids = tokens.encode_prompt(prompt, true)?;
        let [a, b] = [rows(&slm, &ids)?, rows(&floats, &ids)?];
        let cosines: Vec<f64> = a.iter().zip(&b).map(|(a, b)| cosine(a, b)).collect();
        let other = cosines.iter().skip(1).copied().fold(1f64, f64::min);
        let at = cosines.iter().position(|c| *c == other).unwrap_or(0);
        let last = ids.len() - 1;
        println!(
            "{:19.4} {:8.4} at {at:<3} {:8.4} {:7.1} %  {:?}",
            cosines[0],
            other,
            cosines[last],
            100.0 * moved(&a[last], &b[last]),
            prompt.chars().take(40).collect::<String>(),
        );
        all.extend(cosines);
    }
    all.sort_by(f64::total_cmp);
    let median = *all.get(all.len() / 2).context("no prompts")?;
    println!("median of {} cosines: {median:.5}, at least {LIMIT}", all.len());
    Ok(if median >= LIMIT { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The logits after every token.
fn rows(slm: &Slm, ids: &[u32]) -> Result<Vec<Vec<f64>>> {
    let output = slm.spawn(ids.len())?.feed(ids, Rows::All, &Cancel::new())?;
    let width = output.logits.len().checked_div(ids.len()).context("an empty prompt")?;
    let usable =
        |row: &[f32]| row.iter().filter(|x| x.is_finite()).map(|x| f64::from(*x)).collect();
    Ok(output.logits.chunks_exact(width).map(usable).collect())
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Half the sum of all differences of probabilities.
fn moved(a: &[f64], b: &[f64]) -> f64 {
    let [a, b] = [a, b].map(|logits| {
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logits.iter().map(|x| (x - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / sum).collect::<Vec<f64>>()
    });
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
}

//! Compares a bundle with what llama.cpp computed from the same GGUF file (`tests/data/llama-cpp`).
//!
//!     compare_llama BUNDLE REFERENCE.json [TEXT]
//!
//! A perplexity reference needs its text file; ours must be within 0.5 %. In a greedy reference our
//! most likely token must be llama.cpp's at every step on llama.cpp's path; a step counts as a tie
//! where the lead of its token is within `noise`: by so much llama.cpp differs from itself when it
//! computes the same tokens in one batch instead of one by one. Exit status 1: they differ.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use hybrid::Cancel;
use hybrid::session::{Model, ModelOptions};
use hybrid::slm::{Rows, perplexity};
use serde::Deserialize;
use sha2::{Digest, Sha256};

const LIMIT: f64 = 0.005;

#[derive(Deserialize)]
struct Reference {
    model: String,
    model_sha256: String,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Kind {
    Perplexity(Perplexity),
    Greedy(Greedy),
}

#[derive(Deserialize)]
struct Perplexity {
    text: String,
    text_sha256: String,
    tokens_sha256: String,
    window: usize,
    perplexity: f64,
}

#[derive(Deserialize)]
struct Greedy {
    noise: f32,
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    prompt: String,
    prompt_ids: Vec<u32>,
    ids: Vec<u32>,
    /// By how much the logit of each of `ids` led the second.
    gaps: Vec<f32>,
}

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, reference, text @ ..] = arguments.as_slice() else {
        bail!("usage: compare_llama BUNDLE REFERENCE.json [TEXT]");
    };
    let reference = std::fs::read(reference).with_context(|| reference.clone())?;
    let reference: Reference = serde_json::from_slice(&reference)?;
    let model = Model::open(Path::new(bundle), ModelOptions::default())?;
    ensure!(
        model.bundle.manifest().model.source_sha256 == reference.model_sha256,
        "{bundle} was not packed from the {} that the reference is about",
        reference.model
    );
    print!("{}: ", reference.model);
    let equal = match &reference.kind {
        Kind::Perplexity(reference) => {
            let text = text.first().context("a perplexity reference needs its text file")?;
            compare_perplexity(&model, reference, Path::new(text))?
        }
        Kind::Greedy(reference) => compare_greedy(&model, reference)?,
    };
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compare_perplexity(model: &Model, reference: &Perplexity, path: &Path) -> Result<bool> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    ensure!(
        sha256(text.as_bytes()) == reference.text_sha256,
        "{} is not the {} of the reference",
        path.display(),
        reference.text
    );
    let (bos, ids) = (bos(model), model.tokens.encode(&text, false)?);
    let windows = ids.chunks_exact(reference.window.saturating_sub(bos.len()).max(1));
    let ids: Vec<u32> = windows.flat_map(|window| [bos.as_slice(), window].concat()).collect();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    ensure!(sha256(&bytes) == reference.tokens_sha256, "llama.cpp has other tokens for the text");

    let scored = perplexity(&model.slm, &ids, reference.window, &Cancel::new(), |_| ())?;
    let ours = scored.value();
    let difference = ours / reference.perplexity - 1.0;
    println!(
        "perplexity over {} tokens: ours {ours:.4}, llama.cpp {:.4} ({:+.2} %, at most {} %)",
        scored.tokens,
        reference.perplexity,
        100.0 * difference,
        100.0 * LIMIT
    );
    Ok(difference.abs() <= LIMIT)
}

fn compare_greedy(model: &Model, reference: &Greedy) -> Result<bool> {
    let (mut steps, mut texts) = (0, 0);
    let (mut ties, mut wrong) = (Vec::new(), Vec::new());
    for prompt in &reference.prompts {
        let ids = [bos(model), model.tokens.encode(&prompt.prompt, true)?].concat();
        ensure!(ids == prompt.prompt_ids, "llama.cpp has other tokens for {:?}", prompt.prompt);
        let differ = differing_steps(model, prompt)?;
        steps += prompt.ids.len();
        texts += usize::from(differ.is_empty());
        for lead in differ.into_iter().map(|step| prompt.gaps[step]) {
            if lead <= reference.noise { ties.push(lead) } else { wrong.push(lead) }
        }
    }
    println!(
        "greedy: {texts} of {} texts identical; {} of {steps} steps equal, {} ties (llama.cpp's \
         own noise {}), {} wrong {wrong:?}",
        reference.prompts.len(),
        steps - ties.len() - wrong.len(),
        ties.len(),
        reference.noise,
        wrong.len(),
    );
    Ok(wrong.is_empty())
}

/// What the model wants to see before every text.
fn bos(model: &Model) -> Vec<u32> {
    let info = model.tokens.info();
    info.bos.filter(|_| info.add_bos).into_iter().collect()
}

/// Steps at which our most likely token is another, on llama.cpp's path, one token at a time.
fn differing_steps(model: &Model, prompt: &Prompt) -> Result<Vec<usize>> {
    let mut state = model.slm.spawn(0)?;
    let mut logits = state.feed(&prompt.prompt_ids, Rows::Last, &Cancel::new())?.logits;
    let mut differ = Vec::new();
    for (step, &id) in prompt.ids.iter().enumerate() {
        if most_likely(&logits) != id {
            differ.push(step);
        }
        logits = state.feed(&[id], Rows::Last, &Cancel::new())?.logits;
    }
    Ok(differ)
}

fn most_likely(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    best.map_or(u32::MAX, |id| id as u32)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Whether a bundle works: what a session does first is done once.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hybrid::Cancel;
use hybrid::bundle::{Bundle, Verify};
use hybrid::session::Model;
use hybrid::slm::Rows;
use hybrid::tokens::{ChatTemplate, Message};

/// What works only in part.
pub type Notes = Vec<String>;

/// As [`try_out`], without hashing the weights.
pub fn try_out_dir(dir: &Path) -> Result<Notes> {
    try_out(Bundle::open(dir, Verify::AllButWeights)?)
}

/// Loads tokenizer, chat template, model and reward head, and has the model read a short prompt.
pub fn try_out(bundle: Bundle) -> Result<Notes> {
    let model = Model::from_bundle(bundle, 0)?;
    let mut notes = Notes::new();
    let prompt = match model.chat_template.as_deref().map(render) {
        Some(Ok(prompt)) => prompt,
        Some(Err(error)) => {
            notes.push(format!("--chat will fail, --prompt works: {error}"));
            "Hi".to_owned()
        }
        None => "Hi".to_owned(),
    };
    let mut ids = model.tokens.encode_prompt(&prompt, true)?;
    ids.truncate(model.slm.context_limit());
    ensure!(!ids.is_empty(), "the tokenizer makes no token of {prompt:?}");
    let output = model
        .slm
        .spawn(ids.len())
        .and_then(|mut state| state.feed(&ids, Rows::Last, &Cancel::new()))
        .context("the model loads, but fails at its first token")?;
    let numbers = output.logits.iter().chain(&output.hidden);
    let best = output.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    ensure!(
        best.is_finite() && !numbers.copied().any(f32::is_nan),
        "the model loads, but computes no usable numbers: its weights are damaged"
    );
    Ok(notes)
}

fn render(template: &ChatTemplate) -> hybrid::Result<String> {
    template.render(&[Message { role: "user".into(), content: "Hi".into() }])
}

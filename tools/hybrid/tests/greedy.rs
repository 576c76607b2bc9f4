//! Greedy text of a session is llama.cpp's, on F32 weights: what the SLM's kernels, the sampler and
//! the session's feeding make together.
//!
//! The tie rule: a text may part from llama.cpp's only where the logit of llama.cpp's token led the
//! second one by no more than llama.cpp's own noise (the same tokens in one batch or one by one).

mod models;

use hybrid::session::SessionOptions;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
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

/// Tokens of each text; `scripts/compare-llama` compares all of them.
const TOKENS: usize = 24;

fn reference(name: &str) -> Reference {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/llama-cpp");
    serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap()
}

#[test]
fn greedy_text_is_llama_cpps() {
    let model = models::open("smollm2-f32");
    let reference = reference("greedy-smollm2-f32.json");
    let mut identical = 0;
    for prompt in &reference.prompts {
        let mut session = models::local(&model, SessionOptions::default());
        session.prompt(&prompt.prompt).unwrap();
        assert_eq!(session.tokens(), prompt.prompt_ids);
        let mut steps = models::steps(&mut session, TOKENS);
        // Ours ends with a stop token; llama.cpp's record goes on after it.
        let ours = models::ids(&steps);
        let parting = ours.iter().zip(&prompt.ids).position(|(ours, theirs)| ours != theirs);
        match parting {
            None => identical += 1,
            Some(step) => {
                let lead = prompt.gaps[step];
                assert!(lead <= reference.noise, "{:?}, step {step}: led by {lead}", prompt.prompt);
            }
        }
        let bytes: Vec<u8> =
            steps.iter_mut().flat_map(|step| std::mem::take(&mut step.bytes)).collect();
        assert_eq!(bytes, model.tokens.bytes_of(&ours), "the bytes are the tokens'");
    }
    let all = reference.prompts.len();
    assert!(identical * 10 >= all * 9, "only {identical} of {all} texts are identical");
}

//! Compares what two bundles of one model generate greedily.
//!
//!     compare_bundles BUNDLE OTHER PROMPTS.json [TOKENS]
//!
//! PROMPTS.json is a list of texts. Both get the first bundle's tokens; the best token must be the
//! same at every step, or the first bundle's lead over its second at most `TIE`. Exit status 1:
//! they differ.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use hybrid::Cancel;
use hybrid::bundle::{Bundle, Verify};
use hybrid::slm::{Rows, Slm, SlmState};
use hybrid::tokens::Tokens;

/// By so much logits may differ where one side keeps the cache as f16.
const TIE: f32 = 0.05;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, other, prompts, rest @ ..] = arguments.as_slice() else {
        bail!("usage: compare_bundles BUNDLE OTHER PROMPTS.json [TOKENS]");
    };
    let count: usize = rest.first().map_or(Ok(32), |text| text.parse())?;
    let open = |dir: &String| Bundle::open(Path::new(dir), Verify::AllButWeights);
    let [bundle, other] = [open(bundle)?, open(other)?];
    let fingerprints = [&bundle, &other].map(|b| b.manifest().tokens.fingerprint.clone());
    ensure!(fingerprints[0] == fingerprints[1], "the vocabularies differ");
    let tokens = Tokens::open(&bundle)?;
    let [slm, other] = [Slm::open(&bundle, 0)?, Slm::open(&other, 0)?];
    let prompts: Vec<String> = serde_json::from_slice(&std::fs::read(prompts)?)?;

    let (mut steps, mut ties, mut worst) = (0, 0, 0f32);
    let mut failed = false;
    for prompt in &prompts {
        let mut states = [slm.spawn(0)?, other.spawn(0)?];
        let mut next = tokens.encode_prompt(prompt, true)?;
        for _ in 0..count {
            let [a, b] = logits(&mut states, &next)?;
            let pairs = a.iter().zip(&b).filter(|(a, _)| a.is_finite());
            worst = pairs.map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
            let ([id, second], [found, _]) = (best_two(&a)?, best_two(&b)?);
            let lead = a[id as usize] - a[second as usize];
            steps += 1;
            if id != found && lead <= TIE {
                ties += 1;
            } else if id != found {
                println!("differ after {prompt:?}: {id} leads by {lead}, the other has {found}");
                failed = true;
            }
            if tokens.is_stop(id) {
                break;
            }
            next = vec![id];
        }
    }
    let verdict = if failed { "differ" } else { "equal" };
    println!(
        "{verdict}: {} prompts, {steps} steps, {ties} ties, logits within {worst}",
        prompts.len()
    );
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn logits(states: &mut [Box<dyn SlmState>; 2], ids: &[u32]) -> Result<[Vec<f32>; 2]> {
    let [a, b] = states;
    let cancel = Cancel::new();
    Ok([a.feed(ids, Rows::Last, &cancel)?.logits, b.feed(ids, Rows::Last, &cancel)?.logits])
}

fn best_two(logits: &[f32]) -> Result<[u32; 2]> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let key = |id: &u32| logits[*id as usize];
    order.select_nth_unstable_by(1, |a, b| key(b).total_cmp(&key(a)));
    let best: [u32; 2] = order[..2].try_into().context("a vocabulary of one token")?;
    Ok(best)
}

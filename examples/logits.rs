//! The logits of bundles, on every table of kernels that this CPU can run or on the best.
//!
//!     logits all|best IDS.json BUNDLE...
//!
//! IDS.json is a list of token ids. For each bundle and each table, the file BUNDLE.TABLE.logits
//! gets a row of little-endian f32 after each token. Fed at once, one by one, and again after a
//! rewind, the ids must give the same bits. Exit status 1: they do not.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use hybrid::Cancel;
use hybrid::bundle::{Bundle, Verify};
use hybrid::slm::kernels::Kernels;
use hybrid::slm::{Output, Rows, Slm, SlmState};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tables, ids, bundles @ ..] = arguments.as_slice() else {
        bail!("usage: logits all|best IDS.json BUNDLE...");
    };
    let tables = match tables.as_str() {
        "all" => usize::MAX,
        _ => 1,
    };
    let ids: Vec<u32> = serde_json::from_slice(&std::fs::read(ids)?)?;
    for dir in bundles {
        let bundle = Bundle::open(Path::new(dir), Verify::All)?;
        let mut slm = Slm::open(&bundle, 0)?;
        for kernels in Kernels::available().take(tables) {
            slm.set_kernels(kernels);
            let name = kernels.name();
            let logits = logits(&slm, &ids).with_context(|| format!("{dir} on {name}"))?;
            let file = std::fs::File::create(format!("{dir}.{name}.logits"))?;
            let mut file = std::io::BufWriter::new(file);
            for value in logits {
                file.write_all(&value.to_le_bytes())?;
            }
            file.flush()?;
        }
    }
    Ok(())
}

fn logits(slm: &Slm, ids: &[u32]) -> Result<Vec<f32>> {
    let mut state = slm.spawn(ids.len())?;
    let whole = feed(&mut *state, ids)?;
    state.rewind(ids.len() - ids.len() / 3)?;
    let kept = state.len();
    let tail = feed(&mut *state, &ids[kept..])?;
    ensure!(whole.logits.ends_with(&tail.logits), "other logits after a rewind");
    ensure!(whole.hidden.ends_with(&tail.hidden), "other hidden states after a rewind");
    let mut state = slm.spawn(ids.len())?;
    let mut single = Output::default();
    for id in ids {
        let Output { logits, hidden } = feed(&mut *state, &[*id])?;
        single.logits.extend(logits);
        single.hidden.extend(hidden);
    }
    ensure!(whole.logits == single.logits, "other logits one by one");
    ensure!(whole.hidden == single.hidden, "other hidden states one by one");
    Ok(whole.logits)
}

fn feed(state: &mut dyn SlmState, ids: &[u32]) -> Result<Output> {
    Ok(state.feed(ids, Rows::All, &Cancel::new())?)
}

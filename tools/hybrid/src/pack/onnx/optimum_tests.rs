//! Plain exports, made by optimum with scripts/tools/make_optimum_export.py, against what ONNX
//! Runtime answers on the same files.

use std::fs;
use std::path::Path;

use hybrid::Cancel;
use hybrid::bundle::{Bundle, GraphKind, Verify};
use hybrid::slm::{Rows, Slm};
use temp_dir::TempDir;

use super::super::pack;
use super::*;

/// Of the largest logit: both compute in f32.
const TOLERANCE: f32 = 1e-4;

#[derive(serde::Deserialize)]
struct Answer {
    prompt: Vec<u32>,
    /// Of the last two positions.
    logits: [Vec<f32>; 2],
}

#[test]
fn exports_of_optimum_compute_what_onnx_runtime_does() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/optimum-exports");
    let folders: Vec<_> =
        fs::read_dir(fixtures).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    assert!(folders.len() >= 4, "{folders:?}");
    for folder in folders {
        let kind = folder.display();
        let temp = TempDir::new().unwrap();
        for name in ["model.onnx", "config.json", "generation_config.json"] {
            fs::copy(folder.join(name), temp.child(name)).unwrap();
        }
        fs::write(temp.child("tokenizer.json"), tests::tokenizer().to_string()).unwrap();
        let out = temp.child("bundle");
        pack(temp.path(), &out, Options::new()).unwrap_or_else(|e| panic!("{kind}: {e:#}"));
        let packed = super::super::open_packed(temp.path(), Options::new());
        assert!(packed.err().unwrap().to_string().contains("a plain ONNX export"), "{kind}");
        let bundle = Bundle::open(&out, Verify::All).unwrap();
        assert_eq!(bundle.manifest().model.graph, GraphKind::Plain);
        assert_eq!((bundle.manifest().model.layers, bundle.manifest().model.context), (2, 64));
        let answer: Answer =
            serde_json::from_slice(&fs::read(folder.join("answer.json")).unwrap()).unwrap();
        let slm = Slm::open(&bundle, 0).unwrap();
        let mut state = slm.spawn(0).unwrap();
        // In two parts: the second one reads the cache.
        let (first, second) = answer.prompt.split_at(answer.prompt.len() / 2);
        state.feed(first, Rows::Last, &Cancel::new()).unwrap();
        let logits = state.feed(second, Rows::All, &Cancel::new()).unwrap().logits;
        let rows = logits.chunks(slm.vocabulary_size()).skip(second.len() - 2);
        for (found, expected) in rows.zip(&answer.logits) {
            let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            for (a, b) in found.iter().zip(expected).take(bundle.manifest().tokens.usable) {
                assert!((a - b).abs() < TOLERANCE * largest, "{kind}: {a} {b}");
            }
        }
    }
}

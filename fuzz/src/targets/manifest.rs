//! `bundle.json`: as it is, and under a right hash of its own.

use hybrid::bundle::{Bundle, Verify, seal};
use serde_json::json;

use crate::Target;
use crate::small::Files;

pub const TARGET: Target = Target {
    name: "manifest",
    run,
    seeds,
    words: &[
        "format_version",
        "\"model\"",
        "\"files\"",
        "\"graph\"",
        "\"weights\"",
        "\"tokenizer\"",
        "\"reward\"",
        "\"tokens\"",
        "chat_template",
        "calibration",
        "measured",
        "manifest_blake3",
        "null",
        "true",
        "1e999",
        "-1",
        "[[[[[[[[",
        "\\u0000",
        "../",
    ],
    longest: 64 << 10,
};

fn run(input: &[u8]) {
    let open = |json: &[u8]| {
        let files = Files::small().with_manifest(json);
        let _ = Bundle::from_memory(files, Verify::AllButWeights, &mut |_, _| true);
    };
    open(input);
    if let Some(sealed) = std::str::from_utf8(input).ok().and_then(|text| seal(text).ok()) {
        open(sealed.as_bytes());
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let plain = Files::small();
    let mut rich = plain.clone().with(hybrid::bundle::FileRole::Reward, "reward", b"head");
    rich.manifest["chat_template"] = "{{ messages }}".into();
    rich.manifest["reward"] = json!({
        "after": true, "cloud_model": "big", "provenance": "x", "default_threshold": 0.5,
        "calibration": [{"threshold": 0.25, "share": 0.1, "recall": 0.5, "risk": 0.05}],
        "measured": {"prompts": 2, "tokens": 100, "disagreements": 10, "design_effect": 2.0},
    });
    let sealed = seal(&plain.manifest.to_string()).unwrap();
    vec![
        plain.manifest.to_string().into_bytes(),
        rich.manifest.to_string().into_bytes(),
        sealed.into_bytes(),
    ]
}

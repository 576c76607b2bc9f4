//! A small valid manifest for tests.

use super::*;

pub(super) fn manifest() -> Manifest {
    let entry = |role: FileRole| {
        let name = role.file_name().to_owned();
        (role, FileEntry { name, bytes: 1, sha256: sha256(b"x"), blake3: blake3_of(b"x") })
    };
    Manifest {
        format_version: FORMAT_VERSION,
        model: ModelInfo {
            name: "example".into(),
            architecture: "llama".into(),
            graph: GraphKind::Packed,
            parameters: 1000,
            layers: 2,
            hidden_size: 64,
            heads: 6,
            kv_heads: 2,
            head_dim: 32,
            vocabulary: 300,
            context: 128,
            source: "example.gguf".into(),
            source_sha256: sha256(b""),
        },
        files: [FileRole::Graph, FileRole::Weights, FileRole::Tokenizer].map(entry).into(),
        tokens: TokenInfo {
            bos: None,
            add_bos: false,
            stop: vec![0, 2],
            usable: 299,
            fingerprint: sha256(b""),
        },
        chat_template: None,
        reward: None,
    }
}

pub(super) fn reward() -> RewardInfo {
    let point = |threshold, share, recall, risk| CalibrationPoint {
        threshold,
        share,
        recall,
        risk: Some(risk),
    };
    RewardInfo {
        after: true,
        cloud_model: "cloud".into(),
        provenance: "example".into(),
        default_threshold: 0.5,
        calibration: vec![point(0.25, 0.1, 0.5, 0.05), point(0.5, 0.2, 0.75, 0.025)],
        measured: Some(Measured {
            prompts: 20,
            tokens: 1000,
            disagreements: 100,
            design_effect: 2.0,
        }),
    }
}

//! Bundles from outside the crate: whatever happens to the files, opening is an error or right.

use std::fs;
use std::path::Path;

use hybrid::Error;
use hybrid::bundle::{
    Bundle, FORMAT_VERSION, FileRole, GraphKind, Manifest, ModelInfo, TokenInfo, Verify, Writer,
    fingerprint, sha256,
};
use proptest::prelude::*;
use temp_dir::TempDir;

const ROLES: [FileRole; 3] = [FileRole::Graph, FileRole::Weights, FileRole::Tokenizer];

fn manifest() -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        model: ModelInfo {
            name: "example".into(),
            architecture: "llama".into(),
            graph: GraphKind::Packed,
            parameters: 1,
            layers: 1,
            hidden_size: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 1,
            vocabulary: 2,
            context: 1,
            source: "example.gguf".into(),
            source_sha256: sha256(b""),
        },
        files: Default::default(),
        tokens: TokenInfo {
            bos: None,
            add_bos: false,
            stop: vec![1],
            usable: 2,
            fingerprint: fingerprint([b"a".as_slice(), b"b"].into_iter()),
        },
        chat_template: None,
        reward: None,
    }
}

fn content(role: FileRole) -> Vec<u8> {
    role.file_name().repeat(20).into_bytes()
}

fn write_bundle(dir: &Path) {
    let mut writer = Writer::create(dir, false).unwrap();
    for role in ROLES {
        writer.add_bytes(role, &content(role)).unwrap();
    }
    writer.finish(manifest()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// One byte changed, one cut off or one added, anywhere.
    #[test]
    fn any_damage_is_noticed(
        file in 0..4usize,
        at in any::<prop::sample::Index>(),
        kind in 0..3u8,
    ) {
        let temp = TempDir::new().unwrap();
        let dir = temp.child("bundle");
        write_bundle(&dir);
        let name = ["graph.onnx", "weights.bin", "tokenizer.json", "bundle.json"][file];
        let mut bytes = fs::read(dir.join(name)).unwrap();
        let at = at.index(bytes.len());
        match kind {
            0 => bytes[at] ^= 1,
            1 => bytes.truncate(at),
            _ => bytes.insert(at, b'x'),
        }
        fs::write(dir.join(name), bytes).unwrap();
        let error = Bundle::open(&dir, Verify::All).unwrap_err();
        let is_known = matches!(error, Error::Bundle(_) | Error::Unsupported(_));
        prop_assert!(is_known, "{error:?}");
    }

    #[test]
    fn any_text_as_a_manifest_is_an_error(text in "[\\[\\]{}\":,0-9a-z ]{0,60}") {
        prop_assert!(Manifest::parse(text.as_bytes()).is_err());
    }
}

#[test]
fn the_weights_outlive_the_bundle_and_its_directory() {
    let temp = TempDir::new().unwrap();
    let dir = temp.child("bundle");
    write_bundle(&dir);
    let weights = Bundle::open(&dir, Verify::AllButWeights).unwrap().weights().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(&weights[..], content(FileRole::Weights));
}

//! Models that are a little odd are packed, with a note; what is no model gets a hint.

use std::fs;

use hybrid::slm::kernels::Format;
use temp_dir::TempDir;

use super::testing::gguf::{File, Model, VOCABULARY, Value};
use super::tests::{Packed, pack_file, pack_with};
use super::*;
use hybrid::tokens::Tokens;

/// What the source says of a file, and the bundle made of it.
fn notes_and_bundle(file: &File, bits: Bits) -> (Vec<String>, Packed) {
    let temp = TempDir::new().unwrap();
    let model = temp.child("model.gguf");
    fs::write(&model, file.bytes()).unwrap();
    (
        open(&model, Options { bits, ..Options::new() }).unwrap().notes(),
        pack_with(file, bits).unwrap(),
    )
}

/// A matrix whose columns do not fill blocks keeps its type; all others get 4 bits.
#[test]
fn four_bits_leave_an_odd_matrix_alone() {
    let mut file = Model { kind: 1, ..Model::new("llama") }.file();
    for (name, shape) in
        [("ffn_up", [256, 100]), ("ffn_gate", [256, 100]), ("ffn_down", [100, 256])]
    {
        let tensor = file.tensor(&format!("blk.1.{name}.weight"));
        tensor.shape = shape.to_vec();
        tensor.data.truncate(2 * 256 * 100);
    }
    let (notes, packed) = notes_and_bundle(&file, Bits::Four);
    let note = "blk.1.ffn_down.weight stays F16: its 100 columns are not a multiple of 32";
    assert_eq!(notes, [note]);
    for entry in &packed.entries {
        let odd = entry.name == "blk.1.ffn_down.weight";
        assert_eq!(entry.format, if odd { Format::F16 } else { Format::Q4M }, "{}", entry.name);
    }
}

/// Adds tokens of a kind to the vocabulary, or takes some away; the matrices stay as they are.
fn change_vocabulary(file: &mut File, change: impl Fn(&mut Vec<String>, &mut Vec<i32>)) {
    let find = |file: &File, key| {
        file.pairs.iter().find(|(name, _)| name == key).map(|(_, v)| v.clone()).unwrap()
    };
    let (tokens, kinds) =
        (find(file, "tokenizer.ggml.tokens"), find(file, "tokenizer.ggml.token_type"));
    let (Value::Texts(mut tokens), Value::I32s(mut kinds)) = (tokens, kinds) else { panic!() };
    change(&mut tokens, &mut kinds);
    file.set("tokenizer.ggml.tokens", Value::Texts(tokens));
    file.set("tokenizer.ggml.token_type", Value::I32s(kinds));
}

/// A vocabulary may be a little longer or shorter than the output matrix.
#[test]
fn a_vocabulary_need_not_have_the_length_of_the_matrix() {
    // Kind 3 is a control token, 4 a user's own, 5 unused, 1 an ordinary one.
    let more = |kind: i32| {
        move |tokens: &mut Vec<String>, kinds: &mut Vec<i32>| {
            tokens.push("<image>".into());
            kinds.push(kind);
        }
    };
    let mut file = Model::new("llama").file();
    change_vocabulary(&mut file, more(3));
    let (notes, packed) = notes_and_bundle(&file, Bits::AsTheyAre);
    assert_eq!(notes, ["left out token \"<image>\": the model's output has no row for it"]);
    let manifest = packed.bundle.manifest();
    assert_eq!((manifest.model.vocabulary, manifest.tokens.usable), (VOCABULARY, 258));
    let tokens = Tokens::open(&packed.bundle).unwrap();
    let ids = tokens.encode("a <image> he", true).unwrap();
    assert_eq!(tokens.bytes_of(&ids), b"a <image> he", "it is ordinary text now");

    for (kind, said) in [(4, 1), (5, 0)] {
        let mut file = Model::new("llama").file();
        change_vocabulary(&mut file, more(kind));
        assert_eq!(notes_and_bundle(&file, Bits::AsTheyAre).0.len(), said, "kind {kind}");
    }

    // A row without a token: nothing that the model can write.
    let mut file = Model::new("llama").file();
    change_vocabulary(&mut file, |tokens, kinds| {
        tokens.pop();
        kinds.pop();
    });
    let (notes, packed) = notes_and_bundle(&file, Bits::AsTheyAre);
    let manifest = packed.bundle.manifest();
    assert_eq!((manifest.model.vocabulary, manifest.tokens.usable), (VOCABULARY, 258));
    assert_eq!(notes, [""; 0]);

    let mut file = Model::new("llama").file();
    change_vocabulary(&mut file, more(1));
    let error = format!("{:#}", pack_file(&file).err().unwrap());
    assert!(error.contains("token 259 (\"<image>\") is part of ordinary text"), "{error}");
    let mut file = Model::new("llama").file();
    change_vocabulary(&mut file, more(3));
    file.set("tokenizer.ggml.eos_token_id", Value::U32(259));
    let error = format!("{:#}", pack_file(&file).err().unwrap());
    assert!(error.contains("eos_token_id is 259, but the model can write only 258"), "{error}");
}

#[test]
fn what_is_no_model_says_so() {
    let temp = TempDir::new().unwrap();
    let error = |name: &str| {
        let error = pack(&temp.path().join(name), &temp.child("out"), Options::new());
        format!("{:#}", error.unwrap_err())
    };
    assert!(error("none").contains("No such file"), "{}", error("none"));
    let files = [
        ("text", "neither a GGUF file"),
        ("model.onnx", "is not an ONNX model"),
        ("model.safetensors", "convert_hf_to_gguf.py"),
        ("damaged.gguf", "download it again"),
    ];
    for (name, said) in files {
        fs::write(temp.path().join(name), "hello").unwrap();
        let error = error(name);
        assert!(error.contains(said), "{name}: {error}");
    }
    let directories = [
        ("config.json", "no model.onnx"),
        ("model-00001-of-2.safetensors", "convert_hf_to_gguf.py"),
        ("model_int8.onnx", "give that file itself: "),
        ("model.gguf", "give the GGUF file itself"),
        ("bundle.json", "it is a bundle already"),
    ];
    fs::create_dir(temp.path().join("more")).unwrap();
    for (name, said) in directories {
        fs::write(temp.path().join("more").join(name), "hello").unwrap();
        let error = error("more");
        assert!(error.contains(said), "{name}: {error}");
    }
}

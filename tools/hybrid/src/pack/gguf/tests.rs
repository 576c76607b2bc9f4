//! Good files, files with one thing wrong, and damaged ones.

use half::f16;
use hybrid::slm::kernels::RowBuffer;
use proptest::prelude::*;

use super::*;
use crate::pack::testing::gguf::{File, Model, TYPES, Value as Written};
use crate::pack::{reader, tokenizer};

/// All of the reader that sees untrusted bytes.
fn read(bytes: &[u8]) -> Result<()> {
    let gguf = Gguf::parse(bytes)?;
    let (plan, _) = reader::plan(&gguf, bytes, None)?;
    let mut row = RowBuffer::default();
    for matrix in plan.matrices() {
        matrix.tensor.decode_row(bytes, matrix.tensor.rows - 1, &mut row)?;
    }
    tokenizer::from_gguf(&gguf.metadata, plan.output.rows())?;
    Ok(())
}

/// Small, so that every prefix of it can be tried.
fn tiny() -> File {
    let mut file = File { version: 3, alignment: 32, pairs: vec![], tensors: vec![] };
    file.set("a", Written::U8(200));
    file.set("b", Written::Text("text".into()));
    file.set("c", Written::Texts(vec!["x".into(), "".into()]));
    file.set("d", Written::F32s(vec![0.5]));
    file.set("e", Written::I32s(vec![-1, 1 << 20]));
    file.set("f", Written::Bool(true));
    file.set("g", Written::F32(-2.5));
    for (name, shape, data) in [("x", vec![3], vec![1; 12]), ("y", vec![2, 3], vec![2; 24])] {
        let tensor = crate::pack::testing::gguf::Tensor { name: name.into(), shape, kind: 0, data };
        file.tensors.push(tensor);
    }
    file
}

#[test]
fn a_file_is_read_as_it_was_written() {
    for (version, alignment) in [(2, 32), (3, 32), (3, 64)] {
        let mut file = File { version, alignment, ..tiny() };
        if alignment != 32 {
            file.set("general.alignment", Written::U32(alignment as u32));
        }
        let bytes = file.bytes();
        let gguf = Gguf::parse(&bytes).unwrap();
        let get = |key| gguf.metadata.get(key).unwrap().clone();
        assert_eq!(get("a"), Value::Integer(200));
        assert_eq!(get("b"), Value::Text("text".into()));
        assert_eq!(get("c"), Value::Texts(vec!["x".into(), "".into()]));
        assert_eq!(get("d"), Value::Floats(vec![0.5]));
        assert_eq!(get("e"), Value::Integers(vec![-1, 1 << 20]));
        assert_eq!(get("f"), Value::Integer(1));
        assert_eq!(get("g"), Value::Float(-2.5));
        let (x, y) = (&gguf.tensors["x"], &gguf.tensors["y"]);
        assert_eq!((x.rows, x.cols, &bytes[x.data.clone()]), (1, 3, &[1; 12][..]));
        assert_eq!((y.rows, y.cols, &bytes[y.data.clone()]), (3, 2, &[2; 24][..]));
        assert_eq!(y.row(&bytes, 2).unwrap(), [2; 8]);
        assert_eq!(y.row(&bytes, 3), None);
    }
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = tiny().bytes();
    for length in 0..bytes.len() {
        let error = format!("{:#}", Gguf::parse(&bytes[..length]).unwrap_err());
        assert!(error.contains("truncated"), "{length} of {} bytes: {error}", bytes.len());
    }
    Gguf::parse(&bytes).unwrap();
}

/// Replaces the first occurrence of `from` behind `after`.
fn replace(bytes: &mut [u8], after: &[u8], from: &[u8], to: &[u8]) {
    let start = bytes.windows(after.len()).position(|w| w == after).unwrap() + after.len();
    let at = bytes[start..].windows(from.len()).position(|w| w == from).unwrap() + start;
    bytes[at..at + to.len()].copy_from_slice(to);
}

#[test]
fn what_is_wrong_is_named() {
    type Change = fn(&mut File);
    let cases: &[(Change, &str)] = &[
        (|f| f.version = 1, "GGUF version 1 is not supported"),
        (|f| f.version = 4, "GGUF version 4 is not supported"),
        (|f| f.version = 3 << 24, "big-endian"),
        (|f| f.set("split.count", Written::U32(2)), "merge them"),
        (|f| f.set("general.alignment", Written::U32(0)), "general.alignment is 0"),
        (|f| f.set("general.alignment", Written::U32(48)), "general.alignment is 48"),
        (|f| f.set("general.alignment", Written::F32(32.0)), "general.alignment is not an integer"),
        (|f| f.pairs.push(f.pairs[0].clone()), "metadata a is there twice"),
        (|f| f.tensor("y").name = "x".into(), "tensor x is there twice"),
        (|f| f.tensor("y").name = "n".repeat(300), "its name has 300 bytes"),
        (|f| f.tensor("y").kind = 31, "y: llama.cpp has dropped tensor type Q4_0_4_4; make"),
        (|f| f.tensor("y").kind = 999, "tensor type number 999 is unknown; make the file again"),
        (|f| f.tensor("y").kind = 2, "2 columns are not a multiple of 32, the block size of Q4_0"),
        (|f| f.tensor("y").shape = vec![], "0 dimensions"),
        (|f| f.tensor("y").shape = vec![1; 5], "5 dimensions"),
        (|f| f.tensor("y").shape = vec![1, 1, 2], "not a matrix"),
        (|f| f.tensor("y").shape = vec![0, 3], "out of range"),
        (|f| f.tensor("y").shape = vec![u64::MAX, 3], "out of range"),
        (|f| f.tensor("y").shape = vec![u32::MAX.into(); 2], "y: its data goes on after"),
        (|f| f.tensor("y").shape = vec![2, 4], "y: its data goes on after"),
        (|f| f.alignment = 4, "is not aligned to 32"),
    ];
    for (change, expected) in cases {
        let mut file = tiny();
        change(&mut file);
        let error = format!("{:#}", Gguf::parse(&file.bytes()).unwrap_err());
        assert!(error.contains(expected), "{expected:?} not in {error:?}");
    }
}

#[test]
fn huge_counts_and_lengths_are_errors() {
    let huge = u64::MAX.to_le_bytes();
    let good = tiny().bytes();
    // Behind what the number stands, and what it is now.
    let cases: &[(&[u8], u64)] = &[
        (b"GGUF\x03\0\0\0", 2),                   // tensors
        (b"GGUF\x03\0\0\0\x02\0\0\0\0\0\0\0", 7), // pairs
        (b"\x01\0\0\0\0\0\0\0b\x08\0\0\0", 4),    // length of a text
        (b"c\x09\0\0\0\x08\0\0\0", 2),            // elements of an array of texts
        (b"e\x09\0\0\0\x05\0\0\0", 2),            // elements of an array of integers
    ];
    for (after, number) in cases {
        let mut bytes = good.clone();
        replace(&mut bytes, after, &number.to_le_bytes(), &huge);
        assert!(Gguf::parse(&bytes).is_err(), "{after:?}");
    }
    let mut nested = good.clone();
    replace(&mut nested, b"e\x09\0\0\0", &5u32.to_le_bytes(), &9u32.to_le_bytes());
    assert!(format!("{:#}", Gguf::parse(&nested).unwrap_err()).contains("arrays of arrays"));
    let mut not_utf8 = good.clone();
    replace(&mut not_utf8, b"b\x08\0\0\0", b"text", b"te\xFFt");
    assert!(format!("{:#}", Gguf::parse(&not_utf8).unwrap_err()).contains("metadata b: a string"));
}

proptest! {
    #[test]
    fn damaged_models_never_panic(
        qwen in any::<bool>(),
        changes in prop::collection::vec((0..1usize << 16, any::<u8>()), 1..4),
        cut in prop::option::of(0.0..1.0f64),
    ) {
        thread_local!(static FILES: [Vec<u8>; 2] =
            ["llama", "qwen2"].map(|f| Model { kind: 12, ..Model::new(f) }.file().bytes()));
        let mut bytes = FILES.with(|files| files[usize::from(qwen)].clone());
        for (at, value) in changes {
            // The head is what matters; data bytes may be anything.
            let at = at % 8192;
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate((bytes.len() as f64 * cut) as usize);
        }
        // Either way is fine: changed bytes may still be a good model.
        let _ = read(&bytes);
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&noise);
        let header = b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0";
        let _ = read(&[header.as_slice(), &noise].concat());
    }
}

#[test]
fn blocks_mean_what_ggml_says() {
    #[derive(serde::Deserialize)]
    struct Recorded {
        r#type: String,
        bytes: String,
        values: Vec<f32>,
    }
    let recorded: Vec<Recorded> = crate::pack::testing::recorded("blocks.json");
    assert_eq!(recorded.len(), TYPES.len() - 1);
    assert_eq!(TensorType::supported().count(), TYPES.len());
    for Recorded { r#type, bytes, values } in recorded {
        let kind = TensorType::ALL.into_iter().find(|kind| kind.name() == r#type).unwrap();
        let hex = |at| u8::from_str_radix(&bytes[at..at + 2], 16).unwrap();
        let data: Vec<u8> = (0..bytes.len()).step_by(2).map(hex).collect();
        let found = decode(kind, values.len(), &data);
        let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        for (found, expected) in found.iter().zip(&values) {
            // Scales of the K types are rounded to f16.
            let tolerance = match kind.name() {
                // Rounded to 8 bits.
                "Q2_K" => largest / 200.0,
                "IQ4_XS" => largest / 1000.0,
                name if name.ends_with("_K") => largest / 1000.0,
                _ => 0.0,
            };
            assert!((found - expected).abs() <= tolerance, "{type}: {found} not {expected}");
        }
    }
}

/// The values of one row, by the formula of the kernels' formats.
fn decode(kind: TensorType, cols: usize, data: &[u8]) -> Vec<f32> {
    let mut file = tiny();
    *file.tensor("y") = crate::pack::testing::gguf::Tensor {
        name: "y".into(),
        shape: vec![cols as u64],
        kind: kind.id(),
        data: data.to_vec(),
    };
    let bytes = file.bytes();
    let gguf = Gguf::parse(&bytes).unwrap();
    let mut row = RowBuffer::default();
    gguf.tensors["y"].decode_row(&bytes, 0, &mut row).unwrap();
    let format = kind.format();
    if !format.is_quantised() {
        return row.values;
    }
    let width = 32 / format.scales_per_block();
    let value = |(col, code): (usize, &u8)| {
        let code = format.value(*code) as f32;
        let min = row.mins.get(col / 32).copied().map_or(0.0, f16::to_f32);
        row.scales[col / width].to_f32() * code + min
    };
    assert_eq!(format.has_mins(), !row.mins.is_empty());
    row.codes.iter().enumerate().map(value).collect()
}

#[test]
fn values_that_must_be_floats_are() {
    let bytes = Model { kind: 2, ..Model::new("llama") }.file().bytes();
    let gguf = Gguf::parse(&bytes).unwrap();
    let error = gguf.tensors["output.weight"].floats(&bytes).unwrap_err().to_string();
    assert!(error.contains("type Q4_0, expected F32, F16 or BF16"), "{error}");
    assert_eq!(gguf.tensors["output_norm.weight"].floats(&bytes).unwrap().len(), 256);
}

/// A type that cannot be packed is an error when a matrix of it is needed, and says what to do; a
/// model of an unknown architecture is refused for that.
#[test]
fn refused_types_are_named_after_the_architecture() {
    let mut file = Model { kind: 0, ..Model::new("llama") }.file();
    file.tensor("blk.1.ffn_up.weight").kind = 16;
    let bytes = file.bytes();
    let gguf = Gguf::parse(&bytes).unwrap();
    let tensor = &gguf.tensors["blk.1.ffn_up.weight"];
    let error = tensor.decode_row(&bytes, 0, &mut RowBuffer::default()).unwrap_err().to_string();
    assert!(error.contains("type IQ2_XXS is not supported; make the file again"), "{error}");
    assert!(error.contains("llama-quantize") && error.contains("Q5_K"), "{error}");
    file.set("general.architecture", Written::Text("mamba".into()));
    let bytes = file.bytes();
    let error = reader::plan(&Gguf::parse(&bytes).unwrap(), &bytes, None).unwrap_err().to_string();
    assert!(error.contains("mamba"), "{error}");
}

/// Every type, with rows that are no whole blocks, and with fewer and more rows than there are.
#[test]
fn lying_shapes_are_errors_in_every_type() {
    for kind in TensorType::ALL {
        let (values, size) = kind.block();
        let with = |cols: u64, rows: u64, bytes: usize| {
            let mut file = tiny();
            let tensor = file.tensor("y");
            (tensor.kind, tensor.shape) = (kind.id(), vec![cols, rows]);
            tensor.data = vec![0; bytes];
            let bytes = file.bytes();
            Gguf::parse(&bytes).map(|gguf| {
                let (tensor, mut row) = (&gguf.tensors["y"], RowBuffer::default());
                (tensor.decode_row(&bytes, rows as usize - 1, &mut row).is_ok(), row)
            })
        };
        let (name, cols) = (kind.name(), 2 * values as u64);
        let supported = kind.check().is_ok();
        let (good, row) = with(cols, 3, 6 * size).unwrap();
        assert_eq!(good, supported, "{name}");
        let decoded = row.values.len().max(row.codes.len());
        assert_eq!(decoded as u64, if supported { cols } else { 0 }, "{name}");
        let mut lies = vec![
            (cols, 4, 6 * size, "goes on after"),
            (cols, 3, 6 * size - 1, "goes on after"),
            (cols, u64::from(u32::MAX), 6 * size, "goes on after"),
            (u64::from(u32::MAX) / cols * cols, u64::from(u32::MAX), 6 * size, "goes on after"),
            (u64::MAX - u64::MAX % cols, 3, 6 * size, "out of range"),
            (0, 3, 6 * size, "out of range"),
        ];
        if values > 1 {
            lies.push((cols + 1, 3, 6 * size, "are not a multiple of"));
            lies.push((cols - values as u64 / 2, 3, 6 * size, "are not a multiple of"));
        }
        for (cols, rows, bytes, expected) in lies {
            let error = format!("{:#}", with(cols, rows, bytes).unwrap_err());
            assert!(error.contains(expected), "{name} {cols} x {rows}: {error}");
        }
    }
}

/// Values that an f16 cannot hold are errors, not infinities.
#[test]
fn what_no_f16_holds_is_an_error() {
    let bf16 = |value: f32| half::bf16::from_f32(value).to_le_bytes().to_vec();
    let mxfp4 = |exponent: u8| [vec![exponent], vec![0x17; 16]].concat();
    let cases = [
        ("BF16", bf16(65280.0), true),
        ("BF16", bf16(1e-30), true),
        ("BF16", bf16(-65536.0), false),
        ("MXFP4", mxfp4(143), true),
        ("MXFP4", mxfp4(0), true),
        ("MXFP4", mxfp4(144), false),
        ("MXFP4", mxfp4(255), false),
    ];
    for (name, data, good) in cases {
        let kind = TensorType::ALL.into_iter().find(|kind| kind.name() == name).unwrap();
        let mut file = tiny();
        let tensor = file.tensor("y");
        (tensor.kind, tensor.shape) = (kind.id(), vec![kind.block().0 as u64]);
        tensor.data = data;
        let bytes = file.bytes();
        let gguf = Gguf::parse(&bytes).unwrap();
        let found = gguf.tensors["y"].decode_row(&bytes, 0, &mut RowBuffer::default());
        assert_eq!(found.is_ok(), good, "{name}: {found:?}");
        if let Err(error) = found {
            assert!(error.to_string().contains("no f16 holds; make the file as Q8_0"), "{error}");
        }
    }
}

//! Writes GGUF files, good and bad ones, and small models in them.

use half::{bf16, f16};

/// A metadata value, with the type it gets in the file.
#[derive(Debug, Clone)]
pub enum Value {
    U8(u8),
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Texts(Vec<String>),
}

#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    /// Columns first, as in the file.
    pub shape: Vec<u64>,
    pub kind: u32,
    pub data: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct File {
    pub version: u32,
    pub alignment: usize,
    pub pairs: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
}

impl File {
    pub fn set(&mut self, key: &str, value: Value) {
        self.remove(key);
        self.pairs.push((key.to_owned(), value));
    }

    pub fn remove(&mut self, key: &str) {
        self.pairs.retain(|(name, _)| name != key);
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor of this name")
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            text(&mut out, key);
            value.write(&mut out);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().for_each(|size| out.extend(size.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset = (offset + tensor.data.len()).next_multiple_of(self.alignment);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&tensor.data);
        }
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        let mut kind = |number: u32| out.extend(number.to_le_bytes());
        match self {
            Value::U8(_) => kind(0),
            Value::U32(_) => kind(4),
            Value::F32(_) => kind(6),
            Value::Bool(_) => kind(7),
            Value::Text(_) => kind(8),
            Value::I32s(_) => [9, 5].into_iter().for_each(kind),
            Value::F32s(_) => [9, 6].into_iter().for_each(kind),
            Value::Texts(_) => [9, 8].into_iter().for_each(kind),
        }
        match self {
            Value::U8(value) => out.push(*value),
            Value::U32(value) => out.extend(value.to_le_bytes()),
            Value::F32(value) => out.extend(value.to_le_bytes()),
            Value::Bool(value) => out.push(u8::from(*value)),
            Value::Text(value) => text(out, value),
            Value::I32s(values) => {
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| out.extend(value.to_le_bytes()));
            }
            Value::F32s(values) => {
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| out.extend(value.to_le_bytes()));
            }
            Value::Texts(values) => {
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| text(out, value));
            }
        }
    }
}

/// The types a packer reads: number, values per block, bytes per block, where its f16 scales are.
pub const TYPES: [(u32, usize, usize, &[usize]); 19] = [
    (0, 1, 4, &[]),
    (1, 1, 2, &[]),
    (2, 32, 18, &[0]),
    (3, 32, 20, &[0, 2]),
    (6, 32, 22, &[0]),
    (7, 32, 24, &[0, 2]),
    (8, 32, 34, &[0]),
    (10, 256, 84, &[80, 82]),
    (11, 256, 110, &[108]),
    (12, 256, 144, &[0, 2]),
    (13, 256, 176, &[0, 2]),
    (14, 256, 210, &[208]),
    (20, 32, 18, &[0]),
    (23, 256, 136, &[0]),
    (BF16, 1, 2, &[]),
    (34, 256, 54, &[52]),
    (35, 256, 66, &[64]),
    (MXFP4, 32, 17, &[]),
    (41, 128, 18, &[0]),
];
const BF16: u32 = 30;
const MXFP4: u32 = 39;

/// A model of random weights, small enough to be packed in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    pub architecture: &'static str,
    /// Number of the type of every matrix; norms and biases are F32.
    pub kind: u32,
    pub tied: bool,
    pub biases: bool,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

pub const HIDDEN: usize = 256;
pub const LAYERS: usize = 2;
/// End of text, every byte, one merge, and one padding id.
pub const VOCABULARY: usize = 259;

impl Model {
    pub fn new(architecture: &'static str) -> Model {
        Model {
            architecture,
            kind: 0,
            tied: false,
            biases: architecture == "qwen2",
            heads: 4,
            kv_heads: 2,
            head_dim: 64,
        }
    }

    pub fn file(self) -> File {
        let mut file = File { version: 3, alignment: 32, pairs: Vec::new(), tensors: Vec::new() };
        self.metadata(&mut file);
        vocabulary(&mut file);
        let mut random = Random(1);
        let mut add = |name: String, rows: usize, cols: usize, kind: u32| {
            let mut shape = vec![cols as u64];
            if rows > 1 {
                shape.push(rows as u64);
            }
            let data = random.tensor(rows * cols, kind);
            file.tensors.push(Tensor { name, shape, kind, data });
        };
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        add("token_embd.weight".into(), VOCABULARY, HIDDEN, self.kind);
        add("output_norm.weight".into(), 1, HIDDEN, 0);
        if !self.tied {
            add("output.weight".into(), VOCABULARY, HIDDEN, self.kind);
        }
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            add(name("attn_norm.weight"), 1, HIDDEN, 0);
            add(name("ffn_norm.weight"), 1, HIDDEN, 0);
            for (part, rows) in [("q", q), ("k", kv), ("v", kv)] {
                add(name(&format!("attn_{part}.weight")), rows, HIDDEN, self.kind);
                if self.biases {
                    add(name(&format!("attn_{part}.bias")), 1, rows, 0);
                }
            }
            add(name("attn_output.weight"), HIDDEN, q, self.kind);
            add(name("ffn_gate.weight"), 2 * HIDDEN, HIDDEN, self.kind);
            add(name("ffn_up.weight"), 2 * HIDDEN, HIDDEN, self.kind);
            add(name("ffn_down.weight"), HIDDEN, 2 * HIDDEN, self.kind);
        }
        file
    }

    fn metadata(self, file: &mut File) {
        file.set("general.architecture", Value::Text(self.architecture.into()));
        file.set("general.name", Value::Text("synthetic".into()));
        let sizes = [
            ("block_count", LAYERS),
            ("context_length", 64),
            ("embedding_length", HIDDEN),
            ("feed_forward_length", 2 * HIDDEN),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
        ];
        for (key, size) in sizes {
            file.set(&format!("{}.{key}", self.architecture), Value::U32(size as u32));
        }
        let epsilon = format!("{}.attention.layer_norm_rms_epsilon", self.architecture);
        file.set(&epsilon, Value::F32(1e-5));
        file.set(&format!("{}.rope.freq_base", self.architecture), Value::F32(10_000.0));
    }
}

fn vocabulary(file: &mut File) {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = (0..=255).filter(|b| !printable(b)).count() as u32;
    let alphabet = (0..=255).filter(printable).map(u32::from).chain(256..256 + others);
    let mut tokens = vec!["<|endoftext|>".to_owned()];
    tokens.extend(alphabet.filter_map(char::from_u32).map(String::from));
    tokens.push("he".into());
    tokens.push("[PAD258]".into());
    let mut kinds = vec![1; tokens.len()];
    kinds[0] = 3;
    kinds[258] = 5;
    file.set("tokenizer.ggml.model", Value::Text("gpt2".into()));
    file.set("tokenizer.ggml.pre", Value::Text("gpt-2".into()));
    file.set("tokenizer.ggml.tokens", Value::Texts(tokens));
    file.set("tokenizer.ggml.token_type", Value::I32s(kinds));
    file.set("tokenizer.ggml.merges", Value::Texts(vec!["h e".into()]));
    file.set("tokenizer.ggml.eos_token_id", Value::U32(0));
    file.set("tokenizer.ggml.add_bos_token", Value::Bool(false));
}

/// xorshift: the same files on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// -0.1 to 0.1
    fn small(&mut self) -> f32 {
        (self.next() % 2001) as f32 / 10_000.0 - 0.1
    }

    fn tensor(&mut self, values: usize, kind: u32) -> Vec<u8> {
        let (_, block, bytes, scales) =
            TYPES.into_iter().find(|t| t.0 == kind).expect("a known type");
        let mut data = Vec::new();
        for _ in 0..values / block {
            let start = data.len();
            match kind {
                0 => data.extend(self.small().to_le_bytes()),
                1 => data.extend(f16::from_f32(self.small()).to_le_bytes()),
                BF16 => data.extend(bf16::from_f32(self.small()).to_le_bytes()),
                _ => data.extend((0..bytes).map(|_| self.next() as u8)),
            }
            if kind == MXFP4 {
                // An exponent around 128.
                data[start] = 118 + (self.next() % 4) as u8;
            }
            for at in scales {
                let scale = f16::from_f32(self.small() / 64.0);
                data[start + at..start + at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        data
    }
}

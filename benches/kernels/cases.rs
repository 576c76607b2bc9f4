//! Kernels set up to be run again and again, with the sizes of a small model. Also compiled into
//! `kernels/examples/kernels-bench.rs`, which counts their instructions.

use std::hint::black_box;

use half::f16;
use hybrid_kernels::aligned::Aligned;
use hybrid_kernels::{
    Activation, Activations, AttentionRule, AttentionScratch, AttentionShape, Cache, Format,
    Kernels, KvCache, Matrix, Pool, Rope, RowBuffer, pack_matrix,
};

/// Features and columns of the matrix, and the width of everything else.
const WIDTH: usize = 576;

/// One kernel with its operands.
pub struct Case {
    /// What one run computes: multiply-adds, or values.
    pub work: usize,
    pub run: Box<dyn FnMut()>,
}

/// `name`: `FORMAT-ROWS` (a matmul with so many rows of activations), `attention-CONTEXT`,
/// `quantise`, `norm`, `swiglu` or `exp`.
pub fn case(kernels: &'static Kernels, name: &str) -> Case {
    match name.split_once('-') {
        Some(("attention", context)) => attention(kernels, context.parse().expect("a number")),
        Some((format, rows)) => matmul(kernels, format, rows.parse().expect("a number")),
        None => elementwise(kernels, name),
    }
}

fn floats(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

fn matmul(kernels: &'static Kernels, format: &str, rows: usize) -> Case {
    let format = Format::ALL.into_iter().find(|f| f.name() == format).expect("a format");
    let bytes = weights(format);
    let (mut activations, alone) = (Activations::new(), Pool::default());
    kernels.quantise(&floats(rows * WIDTH), WIDTH, &mut activations, &alone).unwrap();
    activations.keep_floats(&floats(rows * WIDTH)).unwrap();
    let mut out = vec![0.0; rows * WIDTH];
    let run = move || {
        let matrix = Matrix::new(format, WIDTH, WIDTH, &bytes).unwrap();
        let activations = black_box(&activations);
        kernels.matmul(&matrix, activations, None, &mut out, WIDTH, &alone).unwrap();
        black_box(&out);
    };
    Case { work: rows * WIDTH * WIDTH, run: Box::new(run) }
}

fn weights(format: Format) -> Aligned<u8> {
    let mut fill = |row: usize, buffer: &mut RowBuffer| {
        let scales = WIDTH / 32 * format.scales_per_block();
        match format.is_quantised() {
            true => {
                let code = |col: usize| ((row * 7 + col * 13) % (1 << format.code_bits())) as u8;
                buffer.codes = (0..WIDTH).map(code).collect();
                buffer.scales = vec![f16::from_f32(0.01); scales];
                buffer.mins = vec![f16::from_f32(0.1); if format.has_mins() { scales } else { 0 }];
            }
            false => buffer.values = floats(WIDTH),
        }
        Ok::<_, hybrid_kernels::Error>(())
    };
    let mut bytes = Vec::new();
    pack_matrix(format, WIDTH, WIDTH, &mut fill, &mut bytes).unwrap();
    Aligned::from_slice(&bytes)
}

/// One token after `context` others; 9 query and 3 key/value heads of 64 dimensions.
fn attention(kernels: &'static Kernels, context: usize) -> Case {
    let shape = AttentionShape::new(9, 3, 64).unwrap();
    let rope = Rope::new(64, 10_000.0, None).unwrap();
    let rule = AttentionRule::new(shape, rope.into()).unwrap();
    let mut cache = KvCache::new(shape, context + 1).unwrap();
    let (mut scratch, alone) = (AttentionScratch::default(), Pool::default());
    let (qkv, mut out) = (floats(shape.qkv_width()), vec![0.0; shape.out_width()]);
    let fill = floats(context * shape.qkv_width());
    let mut filled = vec![0.0; context * shape.out_width()];
    kernels.attention(&rule, &fill, &mut cache, &mut scratch, &mut filled, &alone).unwrap();
    let run = move || {
        kernels.attention(&rule, &qkv, &mut cache, &mut scratch, &mut out, &alone).unwrap();
        cache.ring_mut().truncate(context);
        black_box(&out);
    };
    Case { work: 2 * shape.out_width() * (context + 1), run: Box::new(run) }
}

fn elementwise(kernels: &'static Kernels, name: &str) -> Case {
    let (x, gamma) = (floats(2 * WIDTH), floats(WIDTH));
    let (mut out, mut sum) = (vec![0.0; WIDTH], vec![0.0; WIDTH]);
    let (mut activations, alone) = (Activations::new(), Pool::default());
    let name = name.to_owned();
    let run = move || {
        let x = black_box(&x);
        let one = &x[..WIDTH];
        match name.as_str() {
            "quantise" => kernels.quantise(one, WIDTH, &mut activations, &alone),
            "norm" => kernels.skip_rms_norm(one, one, &gamma, 1e-5, &mut out, &mut sum),
            "swiglu" => kernels.activate(Activation::Silu, x, WIDTH, &mut out, &alone),
            "exp" => {
                black_box(kernels.exp_sums(one, 1.0));
                Ok(())
            }
            _ => panic!("there is no kernel {name}"),
        }
        .unwrap();
        black_box((&out, &sum, &activations));
    };
    Case { work: WIDTH, run: Box::new(run) }
}

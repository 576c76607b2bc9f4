//! One kernel, run again and again, for counting its instructions from outside.
//!
//!     kernels-bench                         the tables of this CPU, best first
//!     kernels-bench TABLE KERNEL REPEATS    prints what one run computes: multiply-adds or values
//!
//! KERNEL: `FORMAT-ROWS` (a matmul with so many activation rows), `attention-CONTEXT`, `quantise`, `norm`, `swiglu` or
//! `exp`. The sizes are those of a small model; setting up costs the same for any number of repeats.

use std::hint::black_box;

use half::f16;
use hybrid_kernels::aligned::Aligned;
use hybrid_kernels::{
    Activations, AttentionScratch, AttentionShape, Format, Kernels, KvCache, Matrix, Pool, Rope,
    RowBuffer, pack_matrix,
};

/// Features and columns of the matrix, and the width of everything else.
const WIDTH: usize = 576;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [table, kernel, repeats] = args.as_slice() else {
        let names: Vec<_> = Kernels::available().map(Kernels::name).collect();
        println!("{}", names.join(" "));
        return;
    };
    let kernels = Kernels::by_name(table).expect("a table of this CPU");
    let repeats = repeats.parse().expect("a number");
    let work = match kernel.split_once('-') {
        Some(("attention", context)) => attention(kernels, context.parse().unwrap(), repeats),
        Some((format, rows)) => matmul(kernels, format, rows.parse().unwrap(), repeats),
        None => elementwise(kernels, kernel, repeats),
    };
    println!("{work}");
}

fn floats(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect()
}

fn matmul(kernels: &Kernels, format: &str, rows: usize, repeats: usize) -> usize {
    let format = Format::ALL.into_iter().find(|f| f.name() == format).expect("a format");
    let bytes = weights(format);
    let matrix = Matrix::new(format, WIDTH, WIDTH, &bytes).unwrap();
    let (mut activations, alone) = (Activations::new(), Pool::default());
    kernels.quantise(&floats(rows * WIDTH), WIDTH, &mut activations, &alone).unwrap();
    let mut out = vec![0.0; rows * WIDTH];
    for _ in 0..repeats {
        let activations = black_box(&activations);
        kernels.matmul(&matrix, activations, None, &mut out, WIDTH, &alone).unwrap();
        black_box(&out);
    }
    rows * WIDTH * WIDTH
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
        Ok(())
    };
    let mut bytes = Vec::new();
    pack_matrix(format, WIDTH, WIDTH, &mut fill, &mut bytes).unwrap();
    Aligned::from_slice(&bytes)
}

/// One token after `context` others; 9 query and 3 key/value heads of 64 dimensions.
fn attention(kernels: &Kernels, context: usize, repeats: usize) -> usize {
    let shape = AttentionShape::new(9, 3, 64).unwrap();
    let rope = Rope::new(64, 10_000.0, None).unwrap();
    let mut cache = KvCache::new(shape, context + 1).unwrap();
    let (mut scratch, alone) = (AttentionScratch::default(), Pool::default());
    let (qkv, mut out) = (floats(shape.qkv_width()), vec![0.0; shape.out_width()]);
    let fill = floats(context * shape.qkv_width());
    let mut filled = vec![0.0; context * shape.out_width()];
    kernels.attention(&rope, &fill, &mut cache, &mut scratch, &mut filled, &alone).unwrap();
    for _ in 0..repeats {
        kernels.attention(&rope, &qkv, &mut cache, &mut scratch, &mut out, &alone).unwrap();
        cache.truncate(context);
        black_box(&out);
    }
    2 * shape.out_width() * (context + 1)
}

fn elementwise(kernels: &Kernels, kernel: &str, repeats: usize) -> usize {
    let (x, gamma) = (floats(2 * WIDTH), floats(WIDTH));
    let (mut out, mut sum) = (vec![0.0; WIDTH], vec![0.0; WIDTH]);
    let (mut activations, alone) = (Activations::new(), Pool::default());
    for _ in 0..repeats {
        let x = black_box(&x);
        let one = &x[..WIDTH];
        match kernel {
            "quantise" => kernels.quantise(one, WIDTH, &mut activations, &alone),
            "norm" => kernels.skip_rms_norm(one, one, &gamma, 1e-5, &mut out, &mut sum),
            "swiglu" => kernels.swiglu(x, WIDTH, &mut out, &alone),
            "exp" => {
                black_box(kernels.exp_sums(one, 1.0));
                Ok(())
            }
            _ => panic!("there is no kernel {kernel}"),
        }
        .unwrap();
        black_box((&out, &sum, &activations));
    }
    WIDTH
}

//! Every table of kernels against plain f64 arithmetic.

use proptest::prelude::*;

use super::activations::Activations;
use super::aligned::Aligned;
use super::pick::PORTABLE;
use super::testing::{Random, cols, matrix_rows, pack, random_rows, row_values};
use super::*;

/// Activations of very different sizes, among them zeros.
fn random_activations(rows: usize, cols: usize, random: &mut Random) -> Vec<f32> {
    let mut x = Vec::with_capacity(rows * cols);
    while x.len() < rows * cols {
        let scale = [0.0, 1e-6, 1.0, 300.0][random.below(4) as usize];
        x.extend((0..17).map(|_| random.signed() * scale));
    }
    x.truncate(rows * cols);
    x
}

/// What the kernels multiply with: the 8-bit form for quantised weights, else the floats.
fn effective(acts: &Activations, quantised: bool) -> Vec<Vec<f64>> {
    let cols = acts.cols();
    if !quantised {
        let rows = acts.values().chunks(cols);
        return rows.map(|x| x.iter().map(|&x| f64::from(x)).collect()).collect();
    }
    let mut rows = vec![Vec::new(); acts.rows()];
    for panel in acts.panels() {
        for (at, block) in panel.blocks.iter().enumerate() {
            let values = block.codes.iter().map(|&c| f64::from(c) * f64::from(block.scale));
            rows[panel.first + at % panel.rows].extend(values);
        }
    }
    rows.iter_mut().for_each(|row| row.truncate(cols));
    rows
}

fn check_matmul(format: Format, rows: &[RowBuffer], m: usize, with_bias: bool, seed: u64) {
    let mut random = Random(seed);
    let (cols, n) = (cols(rows), rows.len());
    let bytes = pack(format, rows);
    let matrix = Matrix::new(format, n, cols, &bytes).unwrap();
    let weights: Vec<Vec<f64>> = rows.iter().map(|row| row_values(format, row)).collect();
    let x = random_activations(m, cols, &mut random);
    let bias: Vec<f32> = (0..n).map(|_| random.signed()).collect();
    let stride = n + 3;
    for kernels in Kernels::available() {
        let mut acts = Activations::new();
        kernels.quantise(&x, cols, &mut acts, &Pool::default()).unwrap();
        acts.keep_floats(&x).unwrap();
        let mut out = vec![7.0; m * stride];
        let bias = with_bias.then_some(bias.as_slice());
        kernels.matmul(&matrix, &acts, bias, &mut out, stride, &Pool::default()).unwrap();
        for (r, x) in effective(&acts, format.is_quantised()).iter().enumerate() {
            for (i, w) in weights.iter().enumerate() {
                let products = || w.iter().zip(x).map(|(w, x)| w * x);
                let want = products().sum::<f64>() + bias.map_or(0.0, |b| f64::from(b[i]));
                // Rounding grows with the size of the terms; codes around a zero point and mins
                // are summed apart, so the terms are larger than the products.
                let size: f64 = rows[i].scales.iter().map(|s| s.to_f64().abs()).fold(0.0, f64::max)
                    * f64::from(format.zero_point())
                    * x.iter().map(|x| x.abs()).sum::<f64>()
                    + products().map(f64::abs).sum::<f64>()
                    + rows[i].mins.iter().map(|m| m.to_f64().abs()).fold(0.0, f64::max)
                        * x.iter().map(|x| x.abs()).sum::<f64>();
                let got = f64::from(out[r * stride + i]);
                assert!(
                    (got - want).abs() <= 2e-6 * size + 1e-6,
                    "{} {format:?} {n} x {cols}, row {r} of {m}, {i}: {got} instead of {want}",
                    kernels.name()
                );
            }
            assert_eq!(&out[r * stride + n..][..3], [7.0; 3], "wrote beyond its columns");
        }
    }
}

/// What every function of a table makes of random values that begin `shift` floats after a cache
/// line.
fn every_result(
    kernels: &Kernels,
    format: Format,
    weights: &[RowBuffer],
    m: usize,
    shift: usize,
    seed: u64,
) -> [Vec<f32>; 5] {
    let mut random = Random(seed);
    let cols = cols(weights);
    let mut floats = |n: usize| {
        let mut values = Aligned::<f32>::zeroed(shift + n);
        values[shift..].iter_mut().for_each(|x| *x = random.signed());
        values
    };
    let (x, y, gamma) = (floats(m * cols), floats(m * cols), floats(cols));
    let (x, y, gamma) = (&x[shift..], &y[shift..], &gamma[shift..]);
    let mut buffers = [m * weights.len(), m * cols, m * cols, m * cols / 2, m * cols].map(floats);
    let mut outs = buffers.each_mut().map(|buffer| &mut buffer[shift..]);

    let bytes = pack(format, weights);
    let matrix = Matrix::new(format, weights.len(), cols, &bytes).unwrap();
    let mut acts = Activations::new();
    kernels.quantise(x, cols, &mut acts, &Pool::default()).unwrap();
    acts.keep_floats(x).unwrap();
    kernels.matmul(&matrix, &acts, None, outs[0], weights.len(), &Pool::default()).unwrap();
    let [_, norm, sum, gated, attended] = &mut outs;
    kernels.skip_rms_norm(x, y, gamma, 1e-5, norm, sum).unwrap();
    kernels.activate(Activation::Silu, x, cols / 2, gated, &Pool::default()).unwrap();
    let shape = AttentionShape::new(2, 1, cols / 4).unwrap();
    let mut cache = KvCache::new(shape, m).unwrap();
    let rope = Rope::new(8, 1e4, None).unwrap().into();
    let rule = AttentionRule::new(shape, rope).unwrap();
    let mut scratch = AttentionScratch::default();
    let attended = &mut attended[..m * shape.out_width()];
    let pool = Pool::default();
    kernels.attention(&rule, x, &mut cache, &mut scratch, attended, &pool).unwrap();
    outs.map(|out| out.to_vec())
}

proptest! {
    #[test]
    fn matmul_equals_f64(
        (format, rows) in matrix_rows(40, 5),
        m in 1usize..35,
        with_bias: bool,
        seed: u64,
    ) {
        check_matmul(format, &rows, m, with_bias, seed);
    }

    /// Wide enough for tables that read several tiles side by side.
    #[test]
    fn single_rows_equal_f64((format, rows) in matrix_rows(200, 3), seed: u64) {
        check_matmul(format, &rows, 1, true, seed);
    }

    #[test]
    fn float_matmul_takes_any_width(
        half: bool, n in 1usize..20, cols in 1usize..70, m in 1usize..10, seed: u64,
    ) {
        let format = if half { Format::F16 } else { Format::F32 };
        check_matmul(format, &random_rows(format, n, cols, seed), m, true, seed ^ 1);
    }

    #[test]
    fn activations_are_within_half_a_step(m in 1usize..40, cols in 1usize..200, seed: u64) {
        let x = random_activations(m, cols, &mut Random(seed));
        for kernels in Kernels::available() {
            let mut acts = Activations::new();
            kernels.quantise(&x, cols, &mut acts, &Pool::default()).unwrap();
            acts.keep_floats(&x).unwrap();
            let seen = effective(&acts, true);
            for (x, seen) in x.chunks(cols).zip(&seen) {
                for (x, seen) in x.chunks(32).zip(seen.chunks(32)) {
                    let largest = x.iter().fold(0f32, |a, x| a.max(x.abs()));
                    let step = f64::from(largest) / 127.0;
                    for (x, seen) in x.iter().zip(seen) {
                        prop_assert!((f64::from(*x) - seen).abs() <= 0.5001 * step);
                    }
                }
            }
            for block in acts.panels().flat_map(|panel| panel.blocks) {
                let sum = |part: &[i8]| part.iter().map(|&c| i16::from(c)).sum::<i16>();
                let (low, all) = (sum(&block.codes[..16]), sum(&block.codes));
                prop_assert_eq!((block.negated_low, block.negated), (-low, -all));
                prop_assert_eq!(block.offset, block.scale * f32::from(all));
                let start = f32::from_bits(block.start as u32) - f32::from_bits(0x4B40_0000);
                prop_assert_eq!(start, -8.0 * f32::from(all));
                prop_assert!(block.codes.iter().all(|&c| c > -128));
            }
        }
    }

    #[test]
    fn alignment_of_floats_does_not_matter(
        (format, rows) in matrix_rows(20, 3),
        m in 1usize..6,
        shift in 1usize..16,
        seed: u64,
    ) {
        for kernels in Kernels::available() {
            let aligned = every_result(kernels, format, &rows, m, 0, seed);
            prop_assert_eq!(every_result(kernels, format, &rows, m, shift, seed), aligned);
        }
    }

    #[test]
    fn tables_quantise_alike(m in 1usize..20, cols in 1usize..200, seed: u64) {
        let x = random_activations(m, cols, &mut Random(seed));
        let codes = |kernels: &Kernels| {
            let mut acts = Activations::new();
            kernels.quantise(&x, cols, &mut acts, &Pool::default()).unwrap();
            acts.keep_floats(&x).unwrap();
            acts.panels().flat_map(|panel| panel.blocks).flat_map(|block| block.codes).collect()
        };
        let reference: Vec<i8> = codes(&PORTABLE);
        for kernels in Kernels::available() {
            prop_assert_eq!(&codes(kernels), &reference);
        }
    }
}

/// All codes at both ends, against activations at both ends: nothing may saturate.
#[test]
fn extremes_do_not_saturate() {
    let formats = Format::ALL.into_iter().filter(|f| f.is_quantised());
    for format in formats {
        let top = ((1u32 << format.code_bits()) - 1) as u8;
        for (code, sign) in [(0, 1.0), (0, -1.0), (top, 1.0), (top, -1.0)] {
            let mut rows = random_rows(format, 16, 256, 1);
            rows.iter_mut().for_each(|row| row.codes.fill(code));
            let bytes = pack(format, &rows);
            let matrix = Matrix::new(format, 16, 256, &bytes).unwrap();
            for (kernels, m) in Kernels::available().flat_map(|k| [(k, 1), (k, 16)]) {
                let mut acts = Activations::new();
                kernels
                    .quantise(&vec![127.0 * sign; 256 * m], 256, &mut acts, &Pool::default())
                    .unwrap();
                let mut out = vec![0.0; 16 * m];
                kernels.matmul(&matrix, &acts, None, &mut out, 16, &Pool::default()).unwrap();
                for (out, row) in out.iter().zip(rows.iter().cycle()) {
                    let sum: f64 = row_values(format, row).iter().sum();
                    let want = sum * 127.0 * f64::from(sign);
                    let error = (f64::from(*out) - want).abs();
                    assert!(error <= 0.05 + want.abs() * 1e-5, "{format:?} {code} {out} {want}");
                }
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (n, cols) = (300, 1024);
    let mut random = Random(2);
    for format in Format::ALL {
        let bytes = pack(format, &random_rows(format, n, cols, 5));
        let matrix = Matrix::new(format, n, cols, &bytes).unwrap();
        let x = random_activations(35, cols, &mut random);
        for (threads, rows) in [(2, 1), (3, 1), (4, 2), (5, 35)] {
            let pool = Pool::new(threads).unwrap();
            for kernels in Kernels::available() {
                let x = &x[..rows * cols];
                let run = |pool: &Pool| {
                    let mut acts = Activations::new();
                    kernels.quantise(x, cols, &mut acts, pool).unwrap();
                    acts.keep_floats(x).unwrap();
                    let (mut out, mut gated) = (vec![0.0; rows * n], vec![0.0; x.len() / 2]);
                    kernels.matmul(&matrix, &acts, None, &mut out, n, pool).unwrap();
                    kernels.activate(Activation::Silu, x, cols / 2, &mut gated, pool).unwrap();
                    [out, gated]
                };
                assert_eq!(run(&pool), run(&Pool::default()), "{format:?} {threads}");
            }
        }
    }
}

/// A token's results don't depend on those it is computed with: a draft is as good as one by one.
#[test]
fn rows_alone_or_together_have_the_same_bits() {
    let (n, cols, most) = (80, 320, 35);
    let x = random_activations(most, cols, &mut Random(3));
    for format in Format::ALL {
        let bytes = pack(format, &random_rows(format, n, cols, 5));
        let matrix = Matrix::new(format, n, cols, &bytes).unwrap();
        for kernels in Kernels::available() {
            let run = |x: &[f32]| {
                let (mut acts, pool) = (Activations::new(), Pool::default());
                kernels.quantise(x, cols, &mut acts, &pool).unwrap();
                acts.keep_floats(x).unwrap();
                let mut out = vec![0.0; x.len() / cols * n];
                kernels.matmul(&matrix, &acts, None, &mut out, n, &pool).unwrap();
                out
            };
            let alone: Vec<f32> = x.chunks(cols).flat_map(run).collect();
            for rows in [2, 3, 5, 13, most] {
                let (x, alone) = (&x[..rows * cols], &alone[..rows * n]);
                assert!(run(x) == alone, "{format:?} {} {rows}", kernels.name());
            }
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_errors() {
    let bytes = pack(Format::Q4, &random_rows(Format::Q4, 20, 64, 5));
    let matrix = Matrix::new(Format::Q4, 20, 64, &bytes).unwrap();
    let kernels = Kernels::best();
    let mut acts = Activations::new();
    assert!(kernels.quantise(&[], 64, &mut acts, &Pool::default()).is_err());
    assert!(kernels.quantise(&[0.0; 65], 64, &mut acts, &Pool::default()).is_err());
    kernels.quantise(&[0.0; 128], 64, &mut acts, &Pool::default()).unwrap();
    assert!(acts.keep_floats(&[0.0; 64]).is_err());
    let bytes_of_floats = pack(Format::F32, &random_rows(Format::F32, 20, 64, 5));
    let floats = Matrix::new(Format::F32, 20, 64, &bytes_of_floats).unwrap();
    let multiply = |acts: &Activations| {
        kernels.matmul(&floats, acts, None, &mut [0.0; 40], 20, &Pool::default())
    };
    assert!(multiply(&acts).is_err(), "the floats were not kept");
    acts.keep_floats(&[0.0; 128]).unwrap();
    assert!(multiply(&acts).is_ok());
    let run = |bias: Option<&[f32]>, len: usize, stride: usize| {
        kernels.matmul(&matrix, &acts, bias, &mut vec![0.0; len], stride, &Pool::default()).is_ok()
    };
    assert!(run(None, 40, 20) && run(Some(&[0.0; 20]), 41, 21));
    assert!(!run(None, 39, 20) && !run(None, 40, 19) && !run(None, 40, usize::MAX));
    assert!(!run(Some(&[0.0; 19]), 40, 20));
    kernels.quantise(&[0.0; 96], 96, &mut acts, &Pool::default()).unwrap();
    assert!(kernels.matmul(&matrix, &acts, None, &mut [0.0; 40], 20, &Pool::default()).is_err());
    assert!(kernels.rms_norm(&[1.0; 6], &[1.0; 4], 1e-5, &mut [0.0; 6]).is_err());
    assert!(kernels.rms_norm(&[1.0; 4], &[], 1e-5, &mut [0.0; 4]).is_err());
    let activate = |inputs: usize, width: usize, outputs: usize| {
        let (x, mut out) = (vec![1.0; inputs], vec![0.0; outputs]);
        kernels.activate(Activation::Silu, &x, width, &mut out, &Pool::default()).is_ok()
    };
    assert!(activate(8, 4, 4) && activate(4, 4, 4));
    assert!(!activate(9, 4, 4) && !activate(8, 4, 5) && !activate(3, 4, 4) && !activate(6, 4, 4));
}

#[test]
fn tables_are_found_by_name() {
    let best = Kernels::best().name();
    assert_eq!(Kernels::available().next().map(Kernels::name), Some(best));
    for kernels in Kernels::available() {
        assert_eq!(Kernels::by_name(kernels.name()).unwrap().name(), kernels.name());
    }
    let chosen = std::env::var("HYBRID_TEST_TABLES");
    assert!(Kernels::names(" ").ends_with(chosen.as_deref().unwrap_or("portable")));
    let error = Kernels::by_name("abacus").unwrap_err().to_string();
    assert!(error.contains("abacus") && error.contains(&Kernels::names(", ")), "{error}");
}

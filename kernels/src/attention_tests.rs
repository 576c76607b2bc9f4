//! Every table's attention, norms and activations against plain f64 arithmetic.

use std::sync::Arc;

use proptest::prelude::*;

use super::testing::Random;
use super::*;

#[derive(Clone)]
struct Case {
    shape: AttentionShape,
    rule: AttentionRule,
    base: f64,
    /// As in the rule.
    scales: Vec<f64>,
    window: usize,
    soft_cap: Option<f64>,
    /// Row-major `[token][queries | keys | values]`.
    qkv: Vec<f32>,
}

/// A case's queries and keys in f64, turned: `[token][head]`, key/value heads last.
type Turned = Vec<Vec<Vec<f64>>>;

impl Case {
    fn new(shape: AttentionShape, rope_dim: usize, tokens: usize, seed: u64) -> Case {
        let base = 10_000.0;
        let rope = Arc::new(Rope::new(rope_dim, base, None).unwrap());
        let rule = AttentionRule::new(shape, rope).unwrap();
        let mut random = Random(seed);
        let qkv = (0..tokens * shape.qkv_width()).map(|_| 3.0 * random.signed()).collect();
        let scales = vec![1.0 / (shape.head_dim() as f64).sqrt(); shape.head_dim()];
        Case { shape, rule, base: f64::from(base), scales, window: usize::MAX, soft_cap: None, qkv }
    }

    fn windowed(self, window: usize) -> Case {
        Case { rule: self.rule.with_window(window).unwrap(), window, ..self }
    }

    fn capped(self, cap: f32) -> Case {
        let rule = self.rule.with_soft_cap(cap).unwrap();
        Case { rule, soft_cap: Some(f64::from(cap)), ..self }
    }

    fn scaled(self, scales: &[f32]) -> Case {
        let scale_of = |i: usize| f64::from(scales[i % scales.len()]);
        let all = (0..self.shape.head_dim()).map(scale_of).collect();
        Case { rule: self.rule.with_scales(scales).unwrap(), scales: all, ..self }
    }

    fn tokens(&self) -> usize {
        self.qkv.len() / self.shape.qkv_width()
    }

    fn all_turned(&self) -> Turned {
        let heads = self.shape.heads() + self.shape.kv_heads();
        let token = |token| (0..heads).map(|head| self.turned(token, head)).collect();
        (0..self.tokens()).map(token).collect()
    }

    /// One head of one token.
    fn turned(&self, token: usize, head: usize) -> Vec<f64> {
        let dim = self.shape.head_dim();
        let at = token * self.shape.qkv_width() + head * dim;
        let x: Vec<f64> = self.qkv[at..at + dim].iter().map(|&x| f64::from(x)).collect();
        let mut out = x.clone();
        let pairs = self.rule.rope().dims() / 2;
        for i in 0..pairs {
            let turn = token as f64 * self.base.powf(-(i as f64) / pairs as f64);
            out[i] = x[i] * turn.cos() - x[i + pairs] * turn.sin();
            out[i + pairs] = x[i + pairs] * turn.cos() + x[i] * turn.sin();
        }
        out
    }

    /// What head `head` of `token` attends to, with keys and values rounded to f16 as cached.
    fn expected(&self, turned: &Turned, token: usize, head: usize) -> Vec<f64> {
        let shape = self.shape;
        let half = |x: f64| half::f16::from_f64(x).to_f64();
        let query = &turned[token][head];
        let kv_head = head / (shape.heads() / shape.kv_heads());
        let score = |position: usize| {
            let key = &turned[position][shape.heads() + kv_head];
            let products = query.iter().zip(key).zip(&self.scales);
            let dot: f64 = products.map(|((q, k), scale)| q * half(*k) * scale).sum();
            self.soft_cap.map_or(dot, |cap| cap * (dot / cap).tanh()).exp()
        };
        let first = (token + 1).saturating_sub(self.window);
        let weights: Vec<f64> = (first..=token).map(score).collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; shape.head_dim()];
        for (position, weight) in (first..).zip(&weights) {
            let head = shape.heads() + shape.kv_heads() + kv_head;
            let at = position * shape.qkv_width() + head * shape.head_dim();
            for (out, value) in out.iter_mut().zip(&self.qkv[at..]) {
                *out += weight / total * half(f64::from(*value));
            }
        }
        out
    }

    /// Feeds the tokens in pieces of the given sizes (repeated) and returns all outputs.
    fn run(&self, kernels: &Kernels, pieces: &[usize], cache: &mut KvCache) -> Vec<f32> {
        self.run_on(&Pool::default(), kernels, pieces, cache)
    }

    fn run_on(
        &self,
        pool: &Pool,
        kernels: &Kernels,
        pieces: &[usize],
        cache: &mut KvCache,
    ) -> Vec<f32> {
        let mut scratch = AttentionScratch::default();
        let mut outputs = Vec::new();
        let mut pieces = pieces.iter().cycle();
        let mut left = self.qkv.as_slice();
        while !left.is_empty() {
            let width = self.shape.qkv_width();
            let tokens = (left.len() / width).min(*pieces.next().unwrap());
            let mut out = vec![f32::NAN; tokens * self.shape.out_width()];
            let (piece, rest) = left.split_at(tokens * width);
            kernels.attention(&self.rule, piece, cache, &mut scratch, &mut out, pool).unwrap();
            outputs.extend(out);
            left = rest;
        }
        outputs
    }
}

fn check_attention(case: &Case, pieces: &[usize]) {
    let (tokens, heads, dim) = (case.tokens(), case.shape.heads(), case.shape.head_dim());
    let turned = case.all_turned();
    let all: Vec<f64> =
        (0..tokens * heads).flat_map(|i| case.expected(&turned, i / heads, i % heads)).collect();
    for kernels in Kernels::available() {
        let mut cache = KvCache::new(case.shape, tokens).unwrap();
        let out = case.run(kernels, pieces, &mut cache);
        assert_eq!((cache.len(), out.len()), (tokens, tokens * heads * dim));
        for (i, (got, want)) in out.iter().zip(&all).enumerate() {
            // A turned key in f32 and in f64 may round to neighbouring f16 values.
            assert!(
                (f64::from(*got) - want).abs() < 4e-3,
                "{} token {} head {} dim {}: {got} {want}",
                kernels.name(),
                i / dim / heads,
                i / dim % heads,
                i % dim
            );
        }
    }
}

proptest! {
    // Fewer when the environment says so, as under QEMU.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(48)))]

    #[test]
    fn attention_equals_f64(
        kv_heads in 1usize..3,
        group in 1usize..10,
        dim in prop_oneof![Just(64usize), 1usize..80],
        tokens in 1usize..40,
        pieces in prop::collection::vec(1usize..12, 1..4),
        seed: u64,
    ) {
        let shape = AttentionShape::new(kv_heads * group, kv_heads, dim.max(2)).unwrap();
        let rope_dim = (shape.head_dim() / 2 * 2).min(2 + seed as usize % 80 * 2);
        check_attention(&Case::new(shape, rope_dim, tokens, seed), &pieces);
    }

    #[test]
    fn windows_caps_and_scales_equal_f64(
        group in 1usize..5,
        window in 1usize..50,
        cap in prop_oneof![Just(None), (0.5f32..60.0).prop_map(Some)],
        tokens in 1usize..60,
        pieces in prop::collection::vec(1usize..20, 1..4),
        seed: u64,
    ) {
        let shape = AttentionShape::new(group, 1, 24).unwrap();
        let mut random = Random(seed);
        let scales: Vec<f32> = (0..24).map(|_| 0.3 * random.signed()).collect();
        let scales = if seed.is_multiple_of(2) { &scales[..] } else { &[0.2] };
        let case = Case::new(shape, 0, tokens, seed).windowed(window).scaled(scales);
        check_attention(&cap.map_or(case.clone(), |cap| case.capped(cap)), &pieces);
    }

    #[test]
    fn norms_equal_f64(rows in 1usize..4, width in 1usize..100, seed: u64) {
        let mut random = Random(seed);
        let mut values = |n: usize| (0..n).map(|_| 20.0 * random.signed()).collect::<Vec<f32>>();
        let (x, skip, gamma) = (values(rows * width), values(rows * width), values(width));
        for kernels in Kernels::available() {
            let (mut out, mut sum) = (vec![0.0; rows * width], vec![0.0; rows * width]);
            kernels.skip_rms_norm(&x, &skip, &gamma, 1e-5, &mut out, &mut sum).unwrap();
            let mut plain = vec![0.0; rows * width];
            kernels.rms_norm(&sum, &gamma, 1e-5, &mut plain).unwrap();
            prop_assert_eq!(&out, &plain);
            for i in 0..rows * width {
                prop_assert_eq!(sum[i], x[i] + skip[i]);
                let row = &sum[i / width * width..][..width];
                let mean = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / width as f64;
                let want = f64::from(sum[i]) / (mean + 1e-5).sqrt() * f64::from(gamma[i % width]);
                prop_assert!((f64::from(out[i]) - want).abs() <= 1e-6 * want.abs() + 1e-9);
            }
        }
    }

    #[test]
    fn activations_and_exponentials_equal_f64(rows in 1usize..4, width in 1usize..70, seed: u64) {
        let mut random = Random(seed);
        let x: Vec<f32> = (0..2 * rows * width).map(|_| 30.0 * random.signed()).collect();
        for kernels in Kernels::available() {
            for (f, exact, error) in ACTIVATIONS {
                let mut out = vec![0.0; rows * width];
                kernels.activate(f, &x, width, &mut out, &Pool::default()).unwrap();
                for i in 0..rows * width {
                    let at = i / width * 2 * width + i % width;
                    let want = exact(x[at].into()) * f64::from(x[at + width]);
                    prop_assert!((f64::from(out[i]) - want).abs() <= error * want.abs() + 1e-30);
                }
                let mut out = vec![0.0; 2 * rows * width];
                kernels.activate(f, &x, width, &mut out, &Pool::default()).unwrap();
                for (x, out) in x.iter().zip(out) {
                    let want = exact((*x).into());
                    prop_assert!((f64::from(out) - want).abs() <= error * want.abs() + 1e-30);
                }
            }
            let mut logits = x.clone();
            logits[0] = f32::NEG_INFINITY;
            logits.push(f32::NAN);
            let top = x[1..].iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let (sum, weighted) = kernels.exp_sums(&logits, top);
            let d = || x[1..].iter().map(|x| f64::from(*x) - f64::from(top));
            let total: f64 = d().map(f64::exp).sum();
            let product: f64 = d().map(|d| d * d.exp()).sum();
            prop_assert!((sum - total).abs() <= 1e-5 * total);
            prop_assert!((weighted - product).abs() <= 1e-5 * product.abs() + 1e-30);
        }
    }
}

type Bend = fn(f64) -> f64;

/// What the kernels bend values with in f64, and the relative error allowed: that of an exponent
/// grows with it.
const ACTIVATIONS: [(Activation, Bend, f64); 3] = [
    (Activation::Silu, |x| x / (1.0 + (-x).exp()), 1e-6),
    (
        Activation::Gelu,
        |x| {
            let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            x / (1.0 + (-2.0 * y).exp())
        },
        3e-5,
    ),
    (Activation::ReluSquared, |x| x.max(0.0).powi(2), 1e-6),
];

#[test]
fn long_contexts_cross_chunks_and_digits() {
    let shape = AttentionShape::new(7, 1, 64).unwrap();
    let case = Case::new(shape, 64, 600, 3);
    check_attention(&case, &[200, 1, 1, 70, 1, 236, 5]);
    for window in [1, 127, 128, 300] {
        check_attention(&case.clone().windowed(window), &[200, 1, 1, 70, 1, 236, 5]);
    }
}

/// Over a context of several spans, which threads share when there are few tokens; nor does it
/// matter how many tokens are fed at once.
#[test]
fn threads_and_pieces_do_not_change_a_bit() {
    let shape = AttentionShape::new(3, 1, 32).unwrap();
    let everything = Case::new(shape, 32, 1200, 5);
    for case in [everything.clone(), everything.windowed(150).capped(20.0)] {
        for kernels in Kernels::available() {
            let run = |pool: &Pool, pieces: &[usize]| {
                let mut cache = KvCache::new(shape, 1200).unwrap();
                case.run_on(pool, kernels, pieces, &mut cache)
            };
            let alone = run(&Pool::default(), &[128]);
            assert!(run(&Pool::default(), &[500, 1, 9, 1, 2]) == alone, "{}", kernels.name());
            for threads in [2, 3, 7] {
                let pool = Pool::new(threads).unwrap();
                for pieces in [&[128][..], &[500, 1, 9, 1, 2]] {
                    assert!(run(&pool, pieces) == alone, "{} {threads}", kernels.name());
                }
            }
        }
    }
}

#[test]
fn silu_is_finite_and_right_at_the_ends() {
    for kernels in Kernels::available() {
        let gates = [-1e30, -1e4, -90.0, -0.0, 90.0, 1e4, f32::MAX];
        let mut row = gates.to_vec();
        row.extend([1.0; 7]);
        let mut out = [f32::NAN; 7];
        kernels.activate(Activation::Silu, &row, 7, &mut out, &Pool::default()).unwrap();
        assert!(out[..3].iter().all(|x| x.abs() < 1e-8), "{out:?}");
        assert_eq!(out[3..], [-0.0, 90.0, 1e4, f32::MAX]);
        row[2] = f32::NAN;
        kernels.activate(Activation::Silu, &row, 7, &mut out, &Pool::default()).unwrap();
        assert!(out[2].is_nan());
    }
}

#[test]
fn a_rewound_a_copied_and_a_kept_cache_continue_alike() {
    let shape = AttentionShape::new(6, 2, 32).unwrap();
    let case = Case::new(shape, 32, 50, 9);
    for kernels in Kernels::available() {
        let mut cache = KvCache::new(shape, 60).unwrap();
        let first = case.run(kernels, &[50], &mut cache);
        cache.ring_mut().truncate(33);
        let mut copy = cache.clone();
        assert_eq!((copy.len(), copy.ring().capacity()), (33, 60));
        let mut bytes = Vec::new();
        cache.write(33, &mut |row| bytes.extend_from_slice(row));
        let mut kept_outside = KvCache::new(shape, 77).unwrap();
        kept_outside.read(33, &bytes).unwrap();
        let rest = Case { qkv: case.qkv[33 * shape.qkv_width()..].to_vec(), ..case.clone() };
        for cache in [&mut cache, &mut copy, &mut kept_outside] {
            let again = rest.run(kernels, &[17], cache);
            assert_eq!(again[16 * shape.out_width()..], first[49 * shape.out_width()..]);
        }
    }
}

/// The cache of a window gives the bits of one that has everything: also fed as much at once as it
/// takes, after it was rewound as far as it can, copied, and kept outside.
#[test]
fn a_cache_of_a_window_gives_the_bits_of_a_whole_one() {
    let shape = AttentionShape::new(2, 1, 16).unwrap();
    // Few and small: QEMU runs this too.
    let tokens = 1000;
    for window in [1, 2, 129, 600, 5000] {
        let case = Case::new(shape, 16, tokens, 11).windowed(window);
        let kernels = Kernels::best();
        let whole = case.run(kernels, &[128], &mut KvCache::new(shape, tokens).unwrap());
        let cache = || KvCache::with_window(shape, tokens, window).unwrap();
        for pieces in [&[128][..], &[1, 200, 3], &[KvCache::SLACK]] {
            assert!(case.run(kernels, pieces, &mut cache()) == whole, "window {window}");
        }
        let mut rewound = cache();
        case.run(kernels, &[128], &mut rewound);
        let len = rewound.ring().reach(0).max(tokens - 600);
        assert!(len <= tokens - KvCache::SLACK, "window {window}: {len}");
        rewound.ring_mut().truncate(len);
        let mut copy = rewound.clone();
        let mut bytes = Vec::new();
        rewound.write(len, &mut |row| bytes.extend_from_slice(row));
        assert_eq!(bytes.len(), 2 * 2 * 16 * len.min(window - 1));
        let mut kept_outside = KvCache::with_window(shape, tokens + 999, window).unwrap();
        kept_outside.read(len, &bytes).unwrap();
        let rest = Case { qkv: case.qkv[len * shape.qkv_width()..].to_vec(), ..case.clone() };
        for cache in [&mut rewound, &mut copy, &mut kept_outside] {
            let again = rest.run(kernels, &[1, 128, 70], cache);
            assert!(again == whole[len * shape.out_width()..], "window {window}");
        }
    }
}

#[test]
fn a_full_cache_and_wrong_sizes_change_nothing() {
    let shape = AttentionShape::new(2, 1, 16).unwrap();
    let case = Case::new(shape, 16, 5, 1);
    let kernels = Kernels::best();
    let mut cache = KvCache::new(shape, 5).unwrap();
    case.run(kernels, &[5], &mut cache);
    let mut out = [0.0; 32];
    let mut attempt = |qkv: &[f32], rule: &AttentionRule| {
        let scratch = &mut AttentionScratch::default();
        kernels.attention(rule, qkv, &mut cache, scratch, &mut out, &Pool::default())
    };
    let full = attempt(&[0.0; 64], &case.rule);
    assert!(matches!(full, Err(Error::Full { used: 5, needed: 1, limit: 5 })));
    assert!(attempt(&[0.0; 65], &case.rule).is_err());
    let wider = Case::new(AttentionShape::new(2, 1, 32).unwrap(), 16, 1, 1);
    assert!(attempt(&[0.0; 64], &wider.rule).is_err());
    let rope = Arc::new(Rope::new(32, 1e4, None).unwrap());
    assert!(AttentionRule::new(shape, rope).is_err());
    assert!(case.rule.clone().with_scales(&[1.0; 15]).is_err());
    assert!(case.rule.clone().with_scales(&[f32::NAN]).is_err());
    assert!(case.rule.clone().with_window(0).is_err());
    assert!(case.rule.clone().with_soft_cap(-1.0).is_err());
    assert!(matches!(cache.read(6, &[]), Err(Error::Full { needed: 6, .. })));
    assert!(cache.read(2, &vec![0; cache.bytes(2) + 1]).is_err());
    assert_eq!(cache.len(), 5);
    let mut windowed = KvCache::with_window(shape, 5000, 10).unwrap();
    let scratch = &mut AttentionScratch::default();
    let (qkv, mut out) = ([0.0; 64 * 500], [0.0; 32 * 500]);
    let pool = Pool::default();
    let error = kernels.attention(&case.rule, &qkv, &mut windowed, scratch, &mut out, &pool);
    assert!(error.unwrap_err().to_string().contains("500 tokens at once"));
    assert!(windowed.is_empty());
    assert!(KvCache::new(shape, 0).is_err());
    assert!(KvCache::new(shape, Rope::POSITIONS + 1).is_err());
    assert!(AttentionShape::new(7, 2, 64).is_err());
    assert!(AttentionShape::new(0, 0, 64).is_err());
}

#[test]
fn values_beyond_f16_saturate() {
    let shape = AttentionShape::new(1, 1, 16).unwrap();
    let rule = Case::new(shape, 16, 0, 0).rule;
    for kernels in Kernels::available() {
        let mut cache = KvCache::new(shape, 1).unwrap();
        let mut out = [0.0; 16];
        let scratch = &mut AttentionScratch::default();
        kernels
            .attention(&rule, &[1e6; 48], &mut cache, scratch, &mut out, &Pool::default())
            .unwrap();
        assert_eq!(out, [65504.0; 16]);
    }
}

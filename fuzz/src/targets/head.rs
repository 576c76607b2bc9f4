//! A reward head: loaded and run.

use hybrid::reward::{HIDDEN, HIDDEN_AFTER, Head, STATS, statistics};

use crate::{Target, onnx};

pub const TARGET: Target = Target {
    name: "head",
    run,
    seeds,
    words: &[
        "hidden",
        "hidden_after",
        "stats",
        "reward",
        "MatMul",
        "Gemm",
        "Add",
        "Sigmoid",
        "Relu",
        "Gather",
        "Concat",
        "Slice",
        "Reshape",
        "Squeeze",
        "Transpose",
        "Cast",
        "Constant",
        "LayerNormalization",
        "Softmax",
        "Erf",
        "Pow",
        "Where",
        "axis",
        "axes",
        "to",
        "transB",
        "value",
    ],
    longest: 32 << 10,
};

const HIDDEN_SIZE: usize = 24;

fn run(input: &[u8]) {
    let Ok(mut head) = Head::load(input, HIDDEN_SIZE) else { return };
    for value in [0.0, -1.0, 1e30] {
        let hidden = [value; HIDDEN_SIZE];
        let score = head.run(&hidden, Some(&hidden), &[value; statistics::COUNT]);
        assert!(score.is_err() || (0.0..=1.0).contains(&score.unwrap()));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let [hidden, after, stats] =
        [(HIDDEN, HIDDEN_SIZE), (HIDDEN_AFTER, HIDDEN_SIZE), (STATS, statistics::COUNT)];
    [&[hidden, stats][..], &[hidden, after, stats], &[stats]].map(onnx::head).to_vec()
}

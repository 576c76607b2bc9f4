//! What a decoder-only transformer is made of, whatever file it came from: a reader fills this in,
//! `graph` writes it as ONNX and `weights` writes its matrices.

use super::gguf::Tensor;

/// A whole model.
#[derive(Debug, Clone)]
pub struct Plan {
    pub embedding: Matrix,
    /// Multiplies the embedding.
    pub embedding_scale: Option<f32>,
    pub layers: Vec<Layer>,
    /// Multiplies what attention and feed-forward networks add to the residual.
    pub residual_scale: Option<f32>,
    pub final_norm: Norm,
    /// The matrix of a tied model is the embedding's.
    pub output: Linear,
    /// Multiplies the logits...
    pub logit_scale: Option<f32>,
    /// ... which then become `cap · tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
    /// Of every norm.
    pub epsilon: f32,
}

/// Attention or a convolution, and a feed-forward network, both added to the residual. Layers may
/// differ in shape, and pruned models have layers without one of them.
#[derive(Debug, Clone)]
pub struct Layer {
    pub attention: Option<Attention>,
    /// In the place of attention.
    pub conv: Option<ShortConv>,
    pub ffn: Option<FeedForward>,
    /// Both read the layer's input and are added together; else one reads the other's sum.
    pub parallel: bool,
}

/// What of a layer looks at other tokens.
#[derive(Clone, Copy)]
pub enum Mixer<'a> {
    Attention(&'a Attention),
    Conv(&'a ShortConv),
}

#[derive(Debug, Clone)]
pub struct Attention {
    pub norm: Option<Norm>,
    /// Queries, keys and values.
    pub qkv: Linear,
    /// Limits the values of `qkv` to −clamp..=clamp.
    pub clamp: Option<f32>,
    pub head_norm: Option<HeadNorm>,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub rope: Rope,
    /// Multiply turned queries: one for all dimensions of a head, or one for each.
    pub scales: Vec<f32>,
    /// How many positions a token sees at most, its own included.
    pub window: Option<usize>,
    /// Scores become `cap · tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    pub output: Linear,
    /// Of what is added to the residual.
    pub post_norm: Option<Norm>,
}

/// A gated convolution over the last tokens, channel by channel.
#[derive(Debug, Clone)]
pub struct ShortConv {
    pub norm: Option<Norm>,
    /// What is multiplied before the convolution, what its result is multiplied with, and what it
    /// is over: as many rows each as there are channels.
    pub input: Linear,
    /// `[tap][channel]`, the oldest token's tap first.
    pub kernel: Vec<f32>,
    pub taps: usize,
    pub output: Linear,
}

#[derive(Debug, Clone)]
pub struct FeedForward {
    /// None: it reads the residual; or, where the layer is parallel, what attention reads.
    pub norm: Option<Norm>,
    /// Gate and up, or up alone.
    pub input: Linear,
    pub activation: Activation,
    pub gated: bool,
    pub down: Linear,
    /// Of what is added to the residual.
    pub post_norm: Option<Norm>,
}

#[derive(Debug, Clone)]
pub struct Norm {
    pub gamma: Vec<f32>,
    pub bias: Option<Vec<f32>>,
    /// The mean is taken away first: a LayerNorm, else an RMS norm.
    pub centred: bool,
}

/// RMS norms of queries and keys before they are turned, over groups as long as these.
#[derive(Debug, Clone)]
pub struct HeadNorm {
    pub queries: Vec<f32>,
    pub keys: Vec<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Silu,
    /// By the approximation with tanh.
    Gelu,
    ReluSquared,
}

/// Matrices with the same columns, one below the other, and a bias over all rows.
#[derive(Debug, Clone)]
pub struct Linear {
    pub matrices: Vec<Matrix>,
    pub bias: Option<Vec<f32>>,
}

#[derive(Debug, Clone)]
pub struct Matrix {
    pub name: String,
    pub tensor: Tensor,
    pub order: RowOrder,
}

/// How the rows of a source matrix must be reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    AsIs,
    /// In each head of the first `rows` rows the source turns the neighbours 2i and 2i + 1 of the
    /// first `rope_dim` rows; our attention turns i and i + rope_dim / 2.
    Deinterleave {
        head_dim: usize,
        rope_dim: usize,
        rows: usize,
    },
}

/// Rotary position embedding.
#[derive(Debug, Clone)]
pub struct Rope {
    /// Values of each head that are turned, an even number; 0 for none.
    pub dim: usize,
    pub base: f32,
    /// Divisors of the `dim / 2` frequencies.
    pub factors: Option<Vec<f32>>,
    /// What is turned becomes longer by this factor.
    pub length: f32,
}

impl Plan {
    /// Every matrix once, in the order in which they are used.
    pub fn matrices(&self) -> Vec<&Matrix> {
        let mut all = vec![&self.embedding];
        for matrix in self.layers.iter().flat_map(Layer::matrices).chain(&self.output.matrices) {
            if matrix.name != self.embedding.name {
                all.push(matrix);
            }
        }
        all
    }

    /// Weights of the matrices and their biases.
    pub fn parameters(&self) -> u64 {
        let matrices = self.matrices();
        let weights = matrices.iter().map(|m| m.tensor.rows as u64 * m.tensor.cols as u64);
        let linears = self.layers.iter().flat_map(Layer::linears).chain([&self.output]);
        let biases = linears.filter_map(|linear| linear.bias.as_ref());
        weights.sum::<u64>() + biases.map(|bias| bias.len() as u64).sum::<u64>()
    }
}

impl Layer {
    pub fn mixer(&self) -> Option<Mixer<'_>> {
        let attention = self.attention.as_ref().map(Mixer::Attention);
        self.conv.as_ref().map(Mixer::Conv).or(attention)
    }

    /// Every product of the layer.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let mixer = self.mixer().into_iter().flat_map(|mixer| [mixer.input(), mixer.output()]);
        let ffn = self.ffn.iter().flat_map(|part| [&part.input, &part.down]);
        mixer.chain(ffn)
    }

    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let attention = self.attention.iter_mut().flat_map(|p| [&mut p.qkv, &mut p.output]);
        let conv = self.conv.iter_mut().flat_map(|part| [&mut part.input, &mut part.output]);
        let ffn = self.ffn.iter_mut().flat_map(|part| [&mut part.input, &mut part.down]);
        attention.chain(conv).chain(ffn)
    }

    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.linears().flat_map(|linear| &linear.matrices)
    }
}

impl<'a> Mixer<'a> {
    pub fn norm(self) -> Option<&'a Norm> {
        match self {
            Mixer::Attention(attention) => attention.norm.as_ref(),
            Mixer::Conv(conv) => conv.norm.as_ref(),
        }
    }

    pub fn input(self) -> &'a Linear {
        match self {
            Mixer::Attention(attention) => &attention.qkv,
            Mixer::Conv(conv) => &conv.input,
        }
    }

    pub fn output(self) -> &'a Linear {
        match self {
            Mixer::Attention(attention) => &attention.output,
            Mixer::Conv(conv) => &conv.output,
        }
    }

    pub fn post_norm(self) -> Option<&'a Norm> {
        match self {
            Mixer::Attention(attention) => attention.post_norm.as_ref(),
            Mixer::Conv(_) => None,
        }
    }
}

impl Attention {
    /// Heads that read the same keys.
    pub fn queries(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Whether its heads do not depend on each other: a norm over all of them would.
    pub fn can_lose_heads(&self) -> bool {
        self.head_norm.as_ref().is_none_or(|norm| {
            [&norm.queries, &norm.keys].iter().all(|gamma| gamma.len() == self.head_dim)
        })
    }
}

impl FeedForward {
    /// Channels between its matrices.
    pub fn width(&self) -> usize {
        if self.gated { self.input.rows() / 2 } else { self.input.rows() }
    }
}

impl Linear {
    pub fn columns(&self) -> usize {
        self.matrices.first().map_or(0, |matrix| matrix.tensor.cols)
    }

    pub fn rows(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.tensor.rows).sum()
    }
}

impl Activation {
    /// As the graph has it.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Silu => "silu",
            Activation::Gelu => "gelu",
            Activation::ReluSquared => "relu2",
        }
    }
}

impl Rope {
    /// For layers that do without.
    pub const NONE: Rope = Rope { dim: 0, base: 1.0, factors: None, length: 1.0 };
}

impl RowOrder {
    /// The source's row for row `row` of the result.
    pub fn source_row(self, row: usize) -> usize {
        let RowOrder::Deinterleave { head_dim, rope_dim, rows } = self else { return row };
        let (head, within) = (row / head_dim, row % head_dim);
        if row >= rows || within >= rope_dim {
            return row;
        }
        let (half, pair) = (within / (rope_dim / 2), within % (rope_dim / 2));
        head * head_dim + 2 * pair + half
    }

    /// One value for each row, put into the result's order.
    pub fn sorted(self, values: &[f32]) -> Vec<f32> {
        (0..values.len()).filter_map(|row| values.get(self.source_row(row)).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deinterleaving_puts_partners_half_a_head_apart() {
        let rows = |head_dim, rope_dim, rows, count| -> Vec<usize> {
            let order = RowOrder::Deinterleave { head_dim, rope_dim, rows };
            (0..count).map(|row| order.source_row(row)).collect()
        };
        assert_eq!(rows(4, 4, 8, 8), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(rows(4, 4, 4, 8), [0, 2, 1, 3, 4, 5, 6, 7]);
        assert_eq!(rows(6, 4, 12, 12), [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]);
        assert_eq!(RowOrder::AsIs.source_row(5), 5);
        let order = RowOrder::Deinterleave { head_dim: 4, rope_dim: 4, rows: 4 };
        assert_eq!(order.sorted(&[1.0, 2.0, 3.0, 4.0]), [1.0, 3.0, 2.0, 4.0]);
    }
}

//! What a decoder-only transformer is made of, whatever file it came from: a model family fills
//! this in, `graph` writes it as ONNX and `weights` writes its matrices.

use super::gguf::Tensor;

/// A whole model.
#[derive(Debug)]
pub struct Plan {
    pub embedding: Matrix,
    pub layers: Vec<Layer>,
    pub final_norm: Vec<f32>,
    /// The matrix of a tied model is the embedding's.
    pub output: Linear,
    /// Of every RMS norm.
    pub epsilon: f32,
    pub rope: Rope,
}

/// Attention and feed-forward network, each behind a norm and a residual sum. Layers may differ in
/// shape.
#[derive(Debug)]
pub struct Layer {
    pub attention_norm: Vec<f32>,
    /// Queries, keys and values.
    pub qkv: Linear,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub attention_output: Linear,
    pub ffn_norm: Vec<f32>,
    pub gate_up: Linear,
    pub down: Linear,
}

/// Matrices with the same columns, one below the other, and a bias over all rows.
#[derive(Debug)]
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
    /// The source rotates the neighbours 2i and 2i + 1 of the first `rope_dim` rows of each head;
    /// our attention rotates i and i + rope_dim / 2.
    Deinterleave {
        head_dim: usize,
        rope_dim: usize,
    },
}

/// Rotary position embedding.
#[derive(Debug)]
pub struct Rope {
    /// Values of each head that are rotated, an even number.
    pub dim: usize,
    pub base: f32,
    /// Divisors of the `dim / 2` frequencies.
    pub factors: Option<Vec<f32>>,
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
}

impl Layer {
    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let linears = [&self.qkv, &self.attention_output, &self.gate_up, &self.down];
        linears.into_iter().flat_map(|linear| &linear.matrices)
    }
}

impl Linear {
    pub fn rows(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.tensor.rows).sum()
    }
}

impl RowOrder {
    /// The source's row for row `row` of the result.
    pub fn source_row(self, row: usize) -> usize {
        let RowOrder::Deinterleave { head_dim, rope_dim } = self else { return row };
        let (head, within) = (row / head_dim, row % head_dim);
        if within >= rope_dim {
            return row;
        }
        let (half, pair) = (within / (rope_dim / 2), within % (rope_dim / 2));
        head * head_dim + 2 * pair + half
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deinterleaving_puts_partners_half_a_head_apart() {
        let rows = |head_dim, rope_dim, count| -> Vec<usize> {
            let order = RowOrder::Deinterleave { head_dim, rope_dim };
            (0..count).map(|row| order.source_row(row)).collect()
        };
        assert_eq!(rows(4, 4, 8), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(rows(6, 4, 12), [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]);
        assert_eq!(RowOrder::AsIs.source_row(5), 5);
    }
}

//! A plan with less in it: rows are copied as they are, matrices that lose columns are fitted to
//! what is left and written anew.

use anyhow::{Context, Result, ensure};
use hybrid::slm::kernels::format::BLOCK;
use hybrid_common::interrupt;
use ndarray::Array2;

use super::compensate;
use super::encode::encode;
use super::moments::{LayerMoments, Moments};
use super::rank::Keep;
use crate::pack::gguf::{Tensor, TensorType};
use crate::pack::plan::{Attention, FeedForward, Linear, Matrix, Plan, RowOrder};
use crate::pack::requantise;

/// The plan without what is not in `keep`, and the bytes that its tensors are in. `file`: those of
/// `plan`.
pub fn cut(
    plan: &Plan,
    file: &[u8],
    keep: &[Keep],
    moments: &[LayerMoments],
) -> Result<(Plan, Vec<u8>)> {
    let mut image = Image { file, bytes: Vec::new() };
    let mut plan = plan.clone();
    for ((layer, keep), moments) in plan.layers.iter_mut().zip(keep).zip(moments) {
        interrupt::check()?;
        if let Some(attention) = &mut layer.attention {
            image.attention(attention, &keep.groups, moments.attention.as_ref())?;
        }
        if let Some(conv) = &mut layer.conv {
            image.copy(&mut conv.input)?;
            image.copy(&mut conv.output)?;
        }
        if let Some(ffn) = &mut layer.ffn {
            image.ffn(ffn, &keep.channels, moments.ffn.as_ref())?;
        }
    }
    image.ends(&mut plan, None)?;
    Ok((plan, image.bytes))
}

/// The plan with these tokens only, in this order, and the bytes that its tensors are in.
pub fn cut_vocabulary(plan: &Plan, file: &[u8], tokens: &[usize]) -> Result<(Plan, Vec<u8>)> {
    let mut image = Image { file, bytes: Vec::new() };
    let mut plan = plan.clone();
    for linear in plan.layers.iter_mut().flat_map(|layer| layer.linears_mut()) {
        image.copy(linear)?;
    }
    image.ends(&mut plan, Some(tokens))?;
    Ok((plan, image.bytes))
}

/// The values of a product's matrices, one below the other.
pub fn values(linear: &Linear, file: &[u8]) -> Result<Array2<f32>> {
    let columns = linear.columns();
    let mut all = Vec::new();
    for matrix in &linear.matrices {
        ensure!(matrix.order == RowOrder::AsIs, "{} is in another order", matrix.name);
        for row in 0..matrix.tensor.rows {
            all.extend(requantise::values(matrix, file, row)?);
        }
    }
    Ok(Array2::from_shape_vec((linear.rows(), columns), all)?)
}

/// New tensors on their way into `bytes`.
struct Image<'a> {
    file: &'a [u8],
    bytes: Vec<u8>,
}

impl Image<'_> {
    fn attention(
        &mut self,
        part: &mut Attention,
        groups: &[usize],
        moments: Option<&Moments>,
    ) -> Result<()> {
        if groups.len() == part.kv_heads {
            self.copy(&mut part.qkv)?;
            return self.copy(&mut part.output);
        }
        let (dim, queries) = (part.head_dim, part.queries());
        let heads = |first: usize, of_each: usize| {
            let of = move |group: &usize| group * of_each * dim..(group + 1) * of_each * dim;
            groups.iter().flat_map(of).map(move |row| first + row)
        };
        let (keys, values) = (part.heads * dim, (part.heads + part.kv_heads) * dim);
        let rows: Vec<usize> =
            heads(0, queries).chain(heads(keys, 1)).chain(heads(values, 1)).collect();
        self.rows(&mut part.qkv, &rows)?;
        let columns: Vec<usize> = heads(0, queries).collect();
        self.columns(&mut part.output, &columns, moments.context("attention was not measured")?)?;
        (part.heads, part.kv_heads) = (groups.len() * queries, groups.len());
        Ok(())
    }

    fn ffn(
        &mut self,
        part: &mut FeedForward,
        channels: &[usize],
        moments: Option<&Moments>,
    ) -> Result<()> {
        let width = part.width();
        if channels.len() == width {
            self.copy(&mut part.input)?;
            return self.copy(&mut part.down);
        }
        let ups = channels.iter().map(|channel| channel + width).filter(|_| part.gated);
        let rows: Vec<usize> = channels.iter().copied().chain(ups).collect();
        self.rows(&mut part.input, &rows)?;
        self.columns(&mut part.down, channels, moments.context("the network was not measured")?)
    }

    /// Embedding and output.
    fn ends(&mut self, plan: &mut Plan, tokens: Option<&[usize]>) -> Result<()> {
        let tied = plan.output.matrices.iter().any(|matrix| matrix.name == plan.embedding.name);
        let all: Vec<usize>;
        let tokens = match tokens {
            Some(tokens) => tokens,
            None => {
                all = (0..plan.output.rows()).collect();
                &all
            }
        };
        let mut embedding = Linear { matrices: vec![plan.embedding.clone()], bias: None };
        self.rows(&mut embedding, tokens)?;
        plan.embedding = embedding.matrices.pop().context("an embedding")?;
        if tied {
            let bias = plan.output.bias.take();
            plan.output.matrices = vec![plan.embedding.clone()];
            plan.output.bias =
                bias.map(|bias| tokens.iter().filter_map(|id| bias.get(*id)).copied().collect());
            return Ok(());
        }
        self.rows(&mut plan.output, tokens)
    }

    fn copy(&mut self, linear: &mut Linear) -> Result<()> {
        let all: Vec<usize> = (0..linear.rows()).collect();
        self.rows(linear, &all)
    }

    /// Keeps these rows, ascending and of whole heads where they have another order.
    fn rows(&mut self, linear: &mut Linear, rows: &[usize]) -> Result<()> {
        let mut from = 0;
        for matrix in &mut linear.matrices {
            let to = from + matrix.tensor.rows;
            let own = rows.iter().filter(|row| (from..to).contains(row)).map(|row| row - from);
            self.matrix_rows(matrix, &own.collect::<Vec<_>>())?;
            from = to;
        }
        if let Some(bias) = &mut linear.bias {
            *bias = rows.iter().filter_map(|row| bias.get(*row)).copied().collect();
        }
        Ok(())
    }

    fn matrix_rows(&mut self, matrix: &mut Matrix, rows: &[usize]) -> Result<()> {
        let tensor = &matrix.tensor;
        let start = self.bytes.len();
        for row in rows {
            let row = tensor.row(self.file, *row);
            self.bytes.extend(row.with_context(|| format!("{} is too short", matrix.name))?);
        }
        if let RowOrder::Deinterleave { rows: turned, .. } = &mut matrix.order {
            *turned = rows.iter().filter(|row| **row < *turned).count();
        }
        matrix.tensor = Tensor::new(tensor.kind, rows.len(), tensor.cols, start..self.bytes.len());
        Ok(())
    }

    /// Keeps these columns, ascending, and lets them and a bias stand for the others.
    fn columns(&mut self, linear: &mut Linear, keep: &[usize], moments: &Moments) -> Result<()> {
        let whole = values(linear, self.file)?;
        let (left, added) = compensate::without(&whole, keep, moments)?;
        let mut rows = left.rows().into_iter();
        for matrix in &mut linear.matrices {
            let (tensor, start) = (&matrix.tensor, self.bytes.len());
            let kind = kind_for(tensor.kind, keep.len());
            for row in rows.by_ref().take(tensor.rows) {
                encode(&row.to_vec(), kind, &mut self.bytes)?;
            }
            matrix.tensor = Tensor::new(kind, tensor.rows, keep.len(), start..self.bytes.len());
        }
        let bias = linear.bias.take().unwrap_or_else(|| vec![0.0; whole.nrows()]);
        let bias = bias.iter().zip(&added).map(|(bias, added)| bias + *added as f32);
        linear.bias = Some(bias.collect::<Vec<_>>()).filter(|bias| bias.iter().any(|b| *b != 0.0));
        Ok(())
    }
}

/// The type of a matrix that is written anew: as many bits as before, or more.
fn kind_for(kind: TensorType, columns: usize) -> TensorType {
    match kind.format().code_bits() {
        _ if kind == TensorType::F32 => TensorType::F32,
        _ if kind.is_float() || !columns.is_multiple_of(BLOCK) => TensorType::F16,
        ..=4 => TensorType::Q4_1,
        5 => TensorType::Q5_1,
        _ => TensorType::Q8_0,
    }
}

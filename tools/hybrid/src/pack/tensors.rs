//! What a [`Reader`] takes from a file: numbers by their key, tensors by their name.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use super::family::{Family, NormKind};
use super::gguf::{Gguf, Metadata, Tensor, required};
use super::plan::{Linear, Matrix, Norm, RowOrder};

/// A file that is read by its family's row.
pub struct Reader<'a> {
    pub family: &'static Family,
    pub(super) gguf: &'a Gguf,
    pub(super) file: &'a [u8],
    /// Tensors that went into the plan.
    pub(super) used: BTreeSet<String>,
}

impl Reader<'_> {
    /// Matrices of `cols` columns with (name, rows, order), and their biases where the file has
    /// any.
    pub(super) fn linear(
        &mut self,
        parts: &[(String, Option<usize>, RowOrder)],
        cols: usize,
    ) -> Result<Linear> {
        let (mut matrices, mut bias, mut has_bias) = (Vec::new(), Vec::new(), false);
        for (name, rows, order) in parts {
            let matrix = Matrix { order: *order, ..self.matrix(name, cols)? };
            let found = matrix.tensor.rows;
            if let Some(rows) = *rows {
                ensure!(found == rows, "{name}.weight has {found} rows, expected {rows}");
            }
            matrices.push(matrix);
            let bias_name = format!("{name}.bias");
            if self.has(&bias_name) {
                has_bias = true;
                bias.extend(order.sorted(&self.vector(&bias_name, found)?));
            } else {
                bias.resize(bias.len() + found, 0.0);
            }
        }
        Ok(Linear { matrices, bias: has_bias.then_some(bias) })
    }

    pub(super) fn matrix(&mut self, name: &str, cols: usize) -> Result<Matrix> {
        let name = format!("{name}.weight");
        let tensor = self.tensor(&name)?;
        ensure!(tensor.cols == cols, "{name} has {} columns, expected {cols}", tensor.cols);
        Ok(Matrix { name, tensor, order: RowOrder::AsIs })
    }

    /// The norm of a layer at a place, if the family has one there.
    pub(super) fn placed_norm(
        &mut self,
        place: Option<&str>,
        layer: usize,
        width: usize,
    ) -> Result<Option<Norm>> {
        place.map(|place| self.norm(&format!("blk.{layer}.{place}"), width)).transpose()
    }

    pub(super) fn norm(&mut self, name: &str, width: usize) -> Result<Norm> {
        let kind = self.family.norm;
        let gamma = match kind {
            NormKind::Bare => vec![1.0; width],
            NormKind::Rms | NormKind::Layer => self.vector(&format!("{name}.weight"), width)?,
        };
        let bias_name = format!("{name}.bias");
        let bias = match kind == NormKind::Layer && self.has(&bias_name) {
            true => Some(self.vector(&bias_name, width)?),
            false => None,
        };
        Ok(Norm { gamma, bias, centred: kind != NormKind::Rms })
    }

    /// What the norm of heads multiplies with: of one head, or of all of them one after the other.
    pub(super) fn head_gamma(
        &mut self,
        name: &str,
        head_dim: usize,
        width: usize,
        order: RowOrder,
    ) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        let (rows, length) = (tensor.rows, tensor.cols);
        ensure!(
            rows == 1 && (length == head_dim || length == width),
            "{name} has {rows} x {length} values, expected {head_dim} or {width}"
        );
        Ok(order.sorted(&self.vector(name, length)?))
    }

    pub(super) fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>> {
        self.rows(name, 1, length)
    }

    /// The values of a tensor that is not quantised, row after row.
    pub(super) fn rows(&mut self, name: &str, rows: usize, length: usize) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        ensure!(
            (tensor.rows, tensor.cols) == (rows, length),
            "{name} has {} x {} values, expected {rows} x {length}",
            tensor.rows,
            tensor.cols
        );
        tensor.floats(self.file).with_context(|| name.to_owned())
    }

    fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let tensor = self.gguf.tensors.get(name);
        let tensor = tensor.with_context(|| format!("tensor {name} is missing"))?;
        self.used.insert(name.to_owned());
        Ok(tensor.clone())
    }

    pub(super) fn has(&self, tensor: &str) -> bool {
        self.gguf.tensors.contains_key(tensor)
    }

    pub(super) fn metadata(&self) -> &Metadata {
        &self.gguf.metadata
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.family.name)
    }

    pub(super) fn required_size(&self, name: &str) -> Result<usize> {
        let key = self.key(name);
        required(&key, self.metadata().size(&key))
    }

    pub(super) fn size(&self, name: &str) -> Result<Option<usize>> {
        self.metadata().size(&self.key(name))
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i128>> {
        self.metadata().integer(&self.key(name))
    }

    pub(super) fn float(&self, name: &str) -> Result<Option<f32>> {
        self.metadata().float(&self.key(name))
    }

    /// A number above 0; 0 means that there is none.
    pub(super) fn positive(&self, name: &str) -> Result<Option<f32>> {
        let value = self.float(name)?.filter(|value| *value != 0.0);
        if let Some(value) = value {
            ensure!(value > 0.0, "{} is {value}, expected a positive number", self.key(name));
        }
        Ok(value)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.metadata().flag(&self.key(name))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>> {
        self.metadata().text(&self.key(name))
    }
}

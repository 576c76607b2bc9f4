//! What the matrices that are cut read: means and covariances over a text, computed by the library
//! on the packed model itself.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hybrid::bundle::Bundle;
use hybrid::slm::{Rows, Slm, SlmState};
use hybrid::tokens::Tokens;
use hybrid_common::interrupt;
use hybrid_common::progress::Steps;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::taps::{Tap, tapped};
use crate::pack::plan::Plan;
use crate::pack::proto::at;
use crate::perplexity::with_bos;

/// Of a layer; `None` for a part that it does not have.
#[derive(Debug, Clone, Default)]
pub struct LayerMoments {
    /// Of what attention's output matrix reads.
    pub attention: Option<Moments>,
    /// Of what the feed-forward network's last matrix reads.
    pub ffn: Option<Moments>,
    /// Mean square of the residual that the layer reads.
    pub residual: f64,
}

#[derive(Debug, Clone)]
pub struct Moments {
    pub mean: Array1<f64>,
    pub covariance: Array2<f32>,
}

/// Tokens in a window; each window starts anew.
const WINDOW: usize = 512;
/// Tokens whose rows are in memory at once.
const PIECE: usize = 128;
/// Columns of the taps of one pass over the text.
const MAX_COLUMNS: usize = 1 << 16;

/// The moments of every layer of `bundle` over `ids`. `scratch`: where a bundle may be written.
pub fn measure(
    bundle: &Bundle,
    plan: &Plan,
    ids: &[u32],
    scratch: &Path,
    threads: usize,
) -> Result<Vec<LayerMoments>> {
    let hidden = plan.embedding.tensor.cols;
    let mut layers = vec![LayerMoments::default(); plan.layers.len()];
    let mut all = Vec::new();
    for (index, layer) in plan.layers.iter().enumerate() {
        if let Some(attention) = &layer.attention {
            let width = attention.heads * attention.head_dim;
            all.push((index, Part::Attention, Tap { name: at("attended", index), width }));
        }
        if let Some(ffn) = &layer.ffn {
            let width = ffn.down.matrices.first().map_or(0, |matrix| matrix.tensor.cols);
            all.push((index, Part::Ffn, Tap { name: at("activated", index), width }));
        }
        let read = if index == 0 || layer.attention.is_some() { "residual" } else { "middle" };
        all.push((index, Part::Residual, Tap { name: at(read, index), width: hidden }));
    }
    let passes = passes(all);
    let tokens = Tokens::open(bundle)?;
    let bos = tokens.info().bos.filter(|_| tokens.info().add_bos);
    let bar = Steps::new("measuring", (passes.len() * ids.len()) as u64);
    for pass in passes {
        let taps: Vec<Tap> = pass.iter().map(|(_, _, tap)| tap.clone()).collect();
        let tapped = tapped(bundle, &taps, scratch)?;
        let slm = Slm::open(&tapped, threads)?;
        let mut sums: Vec<Sums> = pass.iter().map(|(_, part, tap)| Sums::new(*part, tap)).collect();
        let window = WINDOW.min(slm.context_limit());
        let ids = with_bos(&tokens, ids, window);
        let mut state = slm.spawn(window)?;
        for ids in ids.chunks(window) {
            state.rewind(state.len())?;
            for ids in ids.chunks(PIECE) {
                // A bos attracts attention and is like no other token: it is read, not counted.
                let skip = usize::from(state.is_empty() && bos == ids.first().copied());
                read(&mut *state, ids, skip, &mut sums)?;
                bar.add(ids.len() as u64);
            }
        }
        for ((index, ..), sums) in pass.iter().zip(sums) {
            sums.put(layers.get_mut(*index).context("a layer")?)?;
        }
    }
    Ok(layers)
}

type Tapped = (usize, Part, Tap);

/// As many taps in one pass as fit.
fn passes(all: Vec<Tapped>) -> Vec<Vec<Tapped>> {
    let (mut passes, mut columns): (Vec<Vec<Tapped>>, usize) = (Vec::new(), 0);
    for tapped in all {
        let width = tapped.2.width;
        match passes.last_mut() {
            Some(pass) if columns + width <= MAX_COLUMNS => pass.push(tapped),
            _ => {
                passes.push(vec![tapped]);
                columns = 0;
            }
        }
        columns += width;
    }
    passes
}

fn read(state: &mut dyn SlmState, ids: &[u32], skip: usize, sums: &mut [Sums]) -> Result<()> {
    let output = state.feed(ids, Rows::All, &interrupt::cancel())?;
    let columns = output.hidden.len() / ids.len();
    let rows = ArrayView2::from_shape((ids.len(), columns), &output.hidden)?;
    let mut from = 0;
    for sums in sums {
        let to = from + sums.sum.len();
        sums.add(rows.slice(s![skip.., from..to]));
        from = to;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Attention,
    Ffn,
    Residual,
}

struct Sums {
    part: Part,
    rows: usize,
    sum: Array1<f64>,
    /// Of the products of every two columns; for the residual of its own squares alone.
    products: Array2<f32>,
    squares: f64,
}

impl Sums {
    fn new(part: Part, tap: &Tap) -> Sums {
        let side = if part == Part::Residual { 0 } else { tap.width };
        let products = Array2::zeros((side, side));
        Sums { part, rows: 0, sum: Array1::zeros(tap.width), products, squares: 0.0 }
    }

    fn add(&mut self, rows: ArrayView2<f32>) {
        self.rows += rows.nrows();
        if self.part == Part::Residual {
            self.squares += rows.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
            return;
        }
        self.sum += &rows.mapv(f64::from).sum_axis(Axis(0));
        general_mat_mul(1.0, &rows.t(), &rows, 1.0, &mut self.products);
    }

    fn put(self, layer: &mut LayerMoments) -> Result<()> {
        let Sums { part, rows, sum, mut products, squares } = self;
        ensure!(rows > 1, "the text has too few tokens");
        let count = rows as f64;
        if part == Part::Residual {
            layer.residual = squares / (count * sum.len() as f64);
            return Ok(());
        }
        let mean = sum / count;
        for (row, &of_row) in products.rows_mut().into_iter().zip(&mean) {
            for (value, &of_column) in row.into_iter().zip(&mean) {
                *value = (f64::from(*value) / count - of_row * of_column) as f32;
            }
        }
        let moments = Some(Moments { mean, covariance: products });
        match part {
            Part::Attention => layer.attention = moments,
            _ => layer.ffn = moments,
        }
        Ok(())
    }
}

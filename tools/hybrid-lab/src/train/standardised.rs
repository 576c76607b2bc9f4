//! Features scaled to mean 0 and variance 1 over the training rows.

use ndarray::{Array2, ArrayView2, Axis, Slice};

use super::loss::Labels;
use hybrid_common::heads::dataset::Dataset;

pub struct Standardised {
    /// `[rows, width]`, all columns.
    pub rows: Array2<f32>,
    /// `[pairs, width]`: the cloud LLM's tokens, scaled like the rows.
    pub chosen: Array2<f32>,
    pub labels: Labels,
    pub scaling: Scaling,
    hidden_size: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    pub centre: Vec<f32>,
    /// One over the standard deviation; 0 for a column that never changes.
    pub scale: Vec<f32>,
}

impl Standardised {
    pub fn new(data: &Dataset) -> Standardised {
        let scaling = Scaling::of(data);
        Standardised {
            rows: scaling.apply(&data.columns),
            chosen: scaling.apply(&data.pairs.columns),
            labels: Labels::of(data),
            scaling,
            hidden_size: data.hidden_size,
        }
    }

    /// The columns that a head reads, of rows and of the cloud LLM's tokens.
    pub fn columns(&self, after: bool) -> (ArrayView2<'_, f32>, ArrayView2<'_, f32>) {
        let width = Dataset::new(self.hidden_size).width(after);
        let first = Slice::from(..width);
        (self.rows.slice_axis(Axis(1), first), self.chosen.slice_axis(Axis(1), first))
    }
}

impl Scaling {
    fn of(data: &Dataset) -> Scaling {
        let width = data.width(true);
        let n = data.rows().max(1) as f64;
        let mut mean = vec![0.0; width];
        for row in 0..data.rows() {
            mean.iter_mut().zip(data.row(row)).for_each(|(m, &x)| *m += f64::from(x) / n);
        }
        let centre: Vec<f32> = mean.into_iter().map(|m| m as f32).collect();
        let mut variance = vec![0.0; width];
        for row in 0..data.rows() {
            let columns = variance.iter_mut().zip(&centre).zip(data.row(row));
            columns.for_each(|((v, c), x)| *v += f64::from(x - c).powi(2) / n);
        }
        let scale =
            variance.iter().map(|v| if *v > 1e-12 { 1.0 / v.sqrt() as f32 } else { 0.0 }).collect();
        Scaling { centre, scale }
    }

    /// Scales rows of as many columns.
    pub fn apply(&self, columns: &[f32]) -> Array2<f32> {
        let width = self.centre.len();
        let scaled = columns.chunks_exact(width).flat_map(|row| {
            let columns = row.iter().zip(&self.centre).zip(&self.scale);
            columns.map(|((x, c), s)| (x - c) * s)
        });
        let scaled: Vec<f32> = scaled.collect();
        Array2::from_shape_vec((scaled.len() / width, width), scaled).expect("whole rows")
    }
}

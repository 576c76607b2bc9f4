//! Which channels and heads go: those whose absence changes the residual least for each weight that
//! it saves.
//!
//! A part that goes leaves its mean behind as a bias, so what is lost is its variance, as its
//! output matrix makes it. One layer is compared with another by what its output is added to: the
//! same error counts for less in a larger residual. So a layer that matters less gives more.

use anyhow::{Context, Result};
use ndarray::{Array2, Axis, s};

use super::moments::{LayerMoments, Moments};
use crate::pack::plan::{Attention, FeedForward, Layer, Norm, Plan};

/// What stays of a layer, ascending. Parts that the layer does not have are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Channels of the feed-forward network.
    pub channels: Vec<usize>,
    /// Keys' heads, each with the queries that read it.
    pub groups: Vec<usize>,
}

impl Keep {
    pub fn all(layer: &Layer) -> Keep {
        Keep {
            channels: (0..layer.ffn.as_ref().map_or(0, FeedForward::width)).collect(),
            groups: (0..layer.attention.as_ref().map_or(0, |part| part.kv_heads)).collect(),
        }
    }
}

/// The most of a layer's channels or heads that go.
const MOST: f64 = 0.6;
/// Channels that go together, so that quantised rows stay whole blocks.
const UNIT: usize = 32;

/// Channels or a head that go together.
struct Candidate {
    layer: usize,
    part: Going,
    /// Weights that it saves.
    weights: usize,
    /// What is lost for each weight.
    price: f64,
}

enum Going {
    Channels(Vec<usize>),
    Group(usize),
}

/// What each channel and head of the layers between the first `ends` and the last costs.
pub struct Ranking {
    candidates: Vec<Candidate>,
    /// Weights of all layers.
    total: usize,
}

impl Ranking {
    /// `matrix`: the values of a layer's output matrix, attention's or the feed-forward network's.
    pub fn new(
        plan: &Plan,
        moments: &[LayerMoments],
        ends: usize,
        matrix: &dyn Fn(&crate::pack::plan::Linear) -> Result<Array2<f32>>,
    ) -> Result<Ranking> {
        let mut ranking = Ranking { candidates: Vec::new(), total: 0 };
        let last = plan.layers.len().saturating_sub(ends);
        for (index, (layer, moments)) in plan.layers.iter().zip(moments).enumerate() {
            let matrices = layer.linears().flat_map(|linear| &linear.matrices);
            ranking.total += matrices.map(|m| m.tensor.rows * m.tensor.cols).sum::<usize>();
            if !(ends..last).contains(&index) {
                continue;
            }
            let residual = moments.residual.max(f64::MIN_POSITIVE);
            if let Some((part, moments)) = layer.attention.as_ref().zip(moments.attention.as_ref())
                && part.can_lose_heads()
            {
                let output = matrix(&part.output)?;
                let scale = scale(&output, moments, part.post_norm.as_ref()) / residual;
                ranking.add_groups(index, part, &output, moments, scale);
            }
            if let Some((part, moments)) = layer.ffn.as_ref().zip(moments.ffn.as_ref()) {
                let down = matrix(&part.down)?;
                let scale = scale(&down, moments, part.post_norm.as_ref()) / residual;
                ranking.add_channels(index, part, &down, moments, scale);
            }
        }
        ranking.candidates.sort_by(|a, b| a.price.total_cmp(&b.price));
        Ok(ranking)
    }

    fn add_groups(
        &mut self,
        layer: usize,
        attention: &Attention,
        output: &Array2<f32>,
        moments: &Moments,
        scale: f64,
    ) {
        let (queries, columns) = (attention.queries(), attention.queries() * attention.head_dim);
        let (hidden, read) = (output.nrows(), attention.qkv.columns());
        let weights = (queries + 2) * attention.head_dim * read + columns * hidden;
        let mut groups = Vec::new();
        for group in 0..attention.kv_heads {
            let own = group * columns..(group + 1) * columns;
            let output = output.slice(s![.., own.clone()]);
            let among = moments.covariance.slice(s![own.clone(), own]);
            let lost = (&output.dot(&among) * &output).mapv(f64::from).sum();
            let price = scale * lost.max(0.0) / hidden as f64 / weights as f64;
            groups.push(Candidate { layer, part: Going::Group(group), weights, price });
        }
        groups.sort_by(|a, b| a.price.total_cmp(&b.price));
        groups.truncate(most(attention.kv_heads));
        self.candidates.extend(groups);
    }

    fn add_channels(
        &mut self,
        layer: usize,
        ffn: &FeedForward,
        down: &Array2<f32>,
        moments: &Moments,
        scale: f64,
    ) {
        let (hidden, width) = (down.nrows(), ffn.width());
        let squares = down.mapv(|weight| f64::from(weight).powi(2)).sum_axis(Axis(0));
        let variances = moments.covariance.diag().mapv(|v| f64::from(v).max(0.0));
        let mut ranked: Vec<(usize, f64)> =
            (squares * variances / hidden as f64).into_iter().enumerate().collect();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        let unit = if width.is_multiple_of(UNIT) { UNIT } else { 1 };
        let of_each = hidden + ffn.input.columns() * if ffn.gated { 2 } else { 1 };
        for channels in ranked.chunks(unit).take(most(width / unit)) {
            let weights = of_each * channels.len();
            let lost: f64 = channels.iter().map(|(_, lost)| lost).sum();
            let price = scale * lost / weights as f64;
            let part = Going::Channels(channels.iter().map(|(channel, _)| *channel).collect());
            self.candidates.push(Candidate { layer, part, weights, price });
        }
    }

    /// What stays of every layer when `share` of the weights of all layers goes, to the nearest
    /// that can be had.
    ///
    /// Errors: so much cannot go.
    pub fn keep(&self, plan: &Plan, share: f64) -> Result<Vec<Keep>> {
        let mut keep: Vec<Keep> = plan.layers.iter().map(Keep::all).collect();
        let wanted = share * self.total as f64;
        let mut gone = 0.0;
        for candidate in &self.candidates {
            let weights = candidate.weights as f64;
            if gone + weights / 2.0 > wanted {
                continue;
            }
            let keep = keep.get_mut(candidate.layer).context("a layer")?;
            match &candidate.part {
                Going::Channels(channels) => keep.channels.retain(|c| !channels.contains(c)),
                Going::Group(group) => keep.groups.retain(|g| g != group),
            }
            gone += weights;
        }
        let most: usize = self.candidates.iter().map(|candidate| candidate.weights).sum();
        anyhow::ensure!(
            wanted <= most as f64,
            "a share of {share} is too much: the layers that are not kept whole can give {:.2} of \
             all layers' weights",
            most as f64 / self.total.max(1) as f64
        );
        Ok(keep)
    }
}

/// How many of `count` parts may go.
fn most(count: usize) -> usize {
    ((count as f64 * MOST) as usize).min(count.saturating_sub(1))
}

/// What multiplies a change of a part's output on its way to the residual, squared: a norm behind
/// it divides by the size of the whole.
fn scale(output: &Array2<f32>, moments: &Moments, norm: Option<&Norm>) -> f64 {
    let Some(norm) = norm else { return 1.0 };
    let mean = output.mapv(f64::from).dot(&moments.mean);
    let varying = (&output.dot(&moments.covariance) * output).mapv(f64::from).sum();
    let size = (mean.dot(&mean) + varying) / output.nrows() as f64;
    let gamma = norm.gamma.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    gamma / norm.gamma.len() as f64 / size.max(f64::MIN_POSITIVE)
}

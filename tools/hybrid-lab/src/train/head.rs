//! A fitted head of any kind: its scores, its scaling, its file.

use hybrid::reward::statistics;
use rayon::prelude::*;

use super::net::Net;
use super::onnx;
use super::standardised::Scaling;
use hybrid_common::heads::dataset::Dataset;
use hybrid_common::heads::linear::Linear;
use hybrid_common::heads::platt::sigmoid;

/// Rows whose scores are computed at a time.
const CHUNK: usize = 256;

#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    Linear(Linear),
    Net(Net),
}

impl Head {
    /// The log-odds of agreement, of one row's raw features.
    pub fn log_odds(&self, features: &[f32]) -> f64 {
        match self {
            Head::Linear(linear) => linear.log_odds(features),
            Head::Net(net) => net.log_odds(features),
        }
    }

    pub fn log_odds_of_rows(&self, data: &Dataset) -> Vec<f64> {
        let net = match self {
            Head::Linear(linear) => return linear.log_odds_of_rows(data),
            Head::Net(net) => net,
        };
        let rows: Vec<usize> = (0..data.rows()).collect();
        let of_chunk = |rows: &[usize]| {
            let columns: Vec<&[f32]> =
                rows.iter().map(|&row| &data.row(row)[..net.width()]).collect();
            net.log_odds_of(net.scaling.apply(&columns.concat()).view())
        };
        rows.par_chunks(CHUNK).map(of_chunk).collect::<Vec<Vec<f64>>>().concat()
    }

    /// The probabilities of agreement.
    pub fn probabilities(&self, data: &Dataset) -> Vec<f64> {
        self.log_odds_of_rows(data).into_iter().map(sigmoid).collect()
    }

    /// The same with the log-odds scaled and moved.
    pub fn then(&self, scale: f64, shift: f64) -> Head {
        match self {
            Head::Linear(linear) => Head::Linear(linear.then(scale, shift)),
            Head::Net(net) => Head::Net(net.then(scale, shift, &[0.0; statistics::COUNT])),
        }
    }

    /// The same with so much of each statistic, standardised like the head's features, added.
    pub fn and(&self, of_stats: &[f64; statistics::COUNT], scaling: &Scaling) -> Head {
        match self {
            Head::Linear(linear) => {
                let mut linear = linear.clone();
                let columns = linear.weights.iter_mut().zip(of_stats).zip(&scaling.scale);
                columns.for_each(|((weight, more), &scale)| *weight += more * f64::from(scale));
                Head::Linear(linear)
            }
            Head::Net(net) => Head::Net(net.then(1.0, 0.0, of_stats)),
        }
    }

    /// `reward.onnx`
    pub fn write(&self, hidden_size: usize) -> Vec<u8> {
        match self {
            Head::Linear(linear) => linear.write(hidden_size),
            Head::Net(net) => onnx::write_net(net, hidden_size),
        }
    }
}

//! The kinds of heads, and how one of each is fitted.

use anyhow::{Context, Result};

use super::descent::{self, Validation};
use super::head::Head;
use super::linear::{Examples, Line, Path, penalty};
use super::loss::Loss;
use super::net::Shape;
use super::sparse;
use super::standardised::Standardised;
use hybrid_common::heads::dataset::Dataset;
use hybrid_common::heads::platt::loss_when_scaled;

/// Penalties tried, on features of variance 1.
const PENALTIES: [f64; 6] = [3.0, 1.0, 0.3, 0.1, 0.03, 0.01];
const SEED: u64 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A weighted sum of all features.
    Linear,
    /// One of few features.
    Sparse,
    /// A weighted sum, and what a network adds to it.
    Net(&'static str, Shape),
}

impl Kind {
    pub const ALL: [Kind; 4] = [
        Kind::Linear,
        Kind::Sparse,
        Kind::Net("mlp64", Shape { units: 64, blocks: 0 }),
        Kind::Net("residual", Shape { units: 64, blocks: 2 }),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Linear => "linear",
            Kind::Sparse => "sparse",
            Kind::Net(name, _) => name,
        }
    }
}

/// One fitted head, its log-odds not scaled yet.
pub struct Trial {
    /// The kind's name, or `stack`.
    pub kind: &'static str,
    /// The kind, also of the head in a stack.
    pub base: Kind,
    pub fitted_to: Loss,
    pub after: bool,
    /// What else was chosen by validation.
    pub setting: String,
    pub head: Head,
    /// Mean negative log-likelihood on the validation prompts, scaled.
    pub loss: f64,
}

/// What every fit reads. Rows of the validation prompts are standardised by the training rows.
pub struct Fold<'a> {
    pub train: Standardised,
    pub validation: &'a Dataset,
    unseen: Validation<'a>,
}

impl<'a> Fold<'a> {
    pub fn new(train: &Dataset, validation: &'a Dataset) -> Fold<'a> {
        let train = Standardised::new(train);
        let rows = train.scaling.apply(&validation.columns);
        let unseen = Validation { rows, agrees: &validation.agrees };
        Fold { train, validation, unseen }
    }

    /// The best line: of equal ones the first, which has the stronger penalty.
    pub fn line(&self, loss: Loss, after: bool) -> Result<Line> {
        let width = self.validation.width(after);
        let mut path = Path::new(Examples::of(&self.train, loss, after));
        let mut best: Option<Line> = None;
        for l2 in PENALTIES {
            let fitted = path.fit(penalty(l2, width))?;
            let reached = self.judge(&Head::Linear(fitted.raw(&self.train.scaling)));
            log::info!("linear {}, after {after}, L2 {l2}: {reached:.5}", loss.name());
            if best.as_ref().is_none_or(|best| reached < best.reached) {
                best = Some(Line { loss, after, fitted, l2, reached });
            }
        }
        best.context("no penalty was tried")
    }

    /// The best head of a kind that is fitted to the line's loss and reads what it reads.
    pub fn fit(&self, kind: Kind, line: &Line) -> Result<Trial> {
        let trial = |head, setting, loss| Trial {
            kind: kind.name(),
            base: kind,
            fitted_to: line.loss,
            after: line.after,
            setting,
            head,
            loss,
        };
        match kind {
            Kind::Linear => {
                let head = Head::Linear(line.fitted.raw(&self.train.scaling));
                Ok(trial(head, format!("L2 {}", line.l2), line.reached))
            }
            Kind::Sparse => {
                let found = sparse::fit(&self.train, line)?.into_iter();
                let judged = found.map(|sparse| {
                    let head = Head::Linear(sparse.fitted.raw(&self.train.scaling));
                    let reached = self.judge(&head);
                    trial(head, format!("{} columns", sparse.columns), reached)
                });
                let best = judged.min_by(|a, b| a.loss.total_cmp(&b.loss));
                best.context("the penalty left no column")
            }
            Kind::Net(_, shape) => {
                let found = descent::fit(shape, line, &self.train, &self.unseen, SEED)?;
                let head = Head::Net(found.net);
                let reached = self.judge(&head);
                Ok(trial(head, format!("{} epochs", found.epochs), reached))
            }
        }
    }

    /// The loss on the validation prompts, scaled.
    fn judge(&self, head: &Head) -> f64 {
        let scores = head.log_odds_of_rows(self.validation);
        loss_when_scaled(&scores, &self.validation.agrees)
    }
}

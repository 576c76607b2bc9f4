//! Fits heads of all kinds and losses asked for. The loss on the validation prompts chooses among
//! them.

use anyhow::{Result, ensure};
use rayon::prelude::*;

use super::kinds::{Fold, Kind, Trial};
use super::linear::Line;
use super::loss::Loss;
use super::stack;
use hybrid_common::progress::Steps;

/// What is fitted.
pub struct Choice {
    pub kinds: Vec<Kind>,
    pub losses: Vec<Loss>,
    /// Whether the state after the candidate is read; `None`: what helps a linear head is used for
    /// all.
    pub after: Option<bool>,
    /// Also the best of them with the statistics beside it.
    pub stack: bool,
}

/// What that is called.
pub const STACK: &str = "stack";

/// Every kind with every loss, and by option a stack. Where it is open whether the state
/// after the candidate is read, linear heads without it are among them.
pub fn trials(choice: &Choice, fold: &Fold) -> Result<Vec<Trial>> {
    ensure!(
        !choice.losses.is_empty(),
        "the records hold nothing that these losses could be fitted to"
    );
    let jobs = (choice.kinds.len() + 1) * choice.losses.len();
    let bar = Steps::new("fitting", jobs as u64);
    let mut trials = Vec::new();
    let after = match choice.after {
        Some(after) => after,
        None => {
            let [without, with] = [false, true].map(|after| fold.line(Loss::Agree, after));
            let (without, with) = (without?, with?);
            let helps = with.reached < without.reached;
            let other = if helps { without } else { with };
            if choice.kinds.contains(&Kind::Linear) {
                trials.push(fold.fit(Kind::Linear, &other)?);
            }
            helps
        }
    };
    let lines: Result<Vec<Line>> =
        choice.losses.iter().map(|&loss| fold.line(loss, after).inspect(|_| bar.add(1))).collect();
    let lines = lines?;
    let pairs = choice.kinds.iter().flat_map(|&kind| lines.iter().map(move |line| (kind, line)));
    let fitted: Result<Vec<Trial>> = pairs
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|(kind, line)| fold.fit(kind, line).inspect(|_| bar.add(1)))
        .collect();
    trials.extend(fitted?);
    // Pairs alone may say nothing of how places differ.
    trials.retain(|trial| trial.loss.is_finite());
    ensure!(
        !trials.is_empty(),
        "no head does better than chance on the validation prompts: more prompts are needed"
    );
    if let Some(base) = best(&trials).filter(|_| choice.stack) {
        let (head, loss) = stack::fit(&base.head, &fold.train.scaling, fold.validation)?;
        let setting = format!("{}, statistics beside it", base.kind);
        let (fitted_to, after) = (base.fitted_to, base.after);
        trials.push(Trial { kind: STACK, base: base.base, fitted_to, after, setting, head, loss });
    }
    Ok(trials)
}

/// The lowest loss; of equal ones the first.
pub fn best(trials: &[Trial]) -> Option<&Trial> {
    trials.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hybrid_common::heads::dataset::Dataset;
    use hybrid_common::heads::testing;

    fn of(data: impl Fn(u64) -> Dataset, kinds: &[Kind], after: Option<bool>) -> Vec<Trial> {
        let (train, validation) = (data(1), data(2));
        let choice =
            Choice { kinds: kinds.to_vec(), losses: vec![Loss::Agree], after, stack: true };
        trials(&choice, &Fold::new(&train, &validation)).unwrap()
    }

    #[test]
    fn validation_chooses_inputs_that_help() {
        let data = |seed| testing::dataset(2000, 3, seed);
        let all = of(data, &[Kind::Linear], None);
        let chosen = best(&all).unwrap();
        assert!(chosen.after, "the labels depend on the state after");
        let without = all.iter().find(|trial| !trial.after).unwrap();
        assert!(chosen.loss < without.loss);
        assert!(of(data, &[Kind::Linear], Some(false)).iter().all(|trial| !trial.after));
    }

    #[test]
    fn a_net_is_chosen_where_a_line_is_not_enough() {
        let net = Kind::ALL[2];
        let names = |trial: &Trial| (trial.kind, trial.setting.clone());
        let bent = of(|seed| testing::bent(2000, 2, seed), &[Kind::Linear, net], Some(true));
        let (kind, setting) = names(best(&bent).unwrap());
        assert!(kind == net.name() || setting.starts_with(net.name()), "{kind} {setting}");
        let straight = of(|seed| testing::dataset(1000, 2, seed), &[Kind::Linear, net], Some(true));
        let (kind, setting) = names(best(&straight).unwrap());
        assert!(kind == "linear" || setting.starts_with("linear"), "{kind} {setting}");
    }
}

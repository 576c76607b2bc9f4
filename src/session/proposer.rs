//! Compute: the SLM's part of a step. Keeps the SLM's state and what is known of the next token.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::draft::Drafter;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::reward::{Features, Scorer};
use crate::sampler::{LogitBias, Sampler, Sampling, log_probabilities, logit_stats, top_tokens};
use crate::slm::{Output, Rows, SlmState};

/// A score as the session needs it; tests put a script in its place.
pub(super) trait Score: Send {
    /// See [`Scorer::needs_after`].
    fn needs_after(&self) -> bool;
    fn score(&mut self, features: &Features) -> Result<f32>;
    /// See [`Scorer::position`].
    fn position(&self) -> u64;
    fn set_position(&mut self, position: u64);
}

impl Score for Scorer {
    fn needs_after(&self) -> bool {
        Scorer::needs_after(self)
    }

    fn score(&mut self, features: &Features) -> Result<f32> {
        Scorer::score(self, features)
    }

    fn position(&self) -> u64 {
        Scorer::position(self)
    }

    fn set_position(&mut self, position: u64) {
        Scorer::set_position(self, position);
    }
}

/// Tokens read ahead in one batch at most: each takes a row of logits.
const MAX_AHEAD: usize = 8;

/// Proposes candidates. What is known of the next token is kept until the context changes, so that
/// nothing is computed or drawn twice after a peek or a cancelled call.
///
/// The SLM may be *ahead* of the context: by the candidate that a score wants to see consumed, by the
/// rest of a burst, by a draft. Rows are the same in a batch and alone, to the last bit, so that what
/// is read ahead, and rewound where something else comes, changes no candidate and no score.
pub(super) struct Proposer {
    slm: Box<dyn SlmState>,
    sampler: Sampler,
    scorer: Option<Box<dyn Score>>,
    /// Tokens that the SLM has consumed beyond the context, since they are likely to follow.
    ahead: VecDeque<u32>,
    /// The rows of the context's last token, once the SLM has consumed it, and of each token of `ahead`.
    rows: VecDeque<Output>,
    bias: LogitBias,
    /// With a bias: the logits that the candidate was drawn from.
    biased: Vec<f32>,
    candidate: Option<u32>,
    /// How far the generators were before the candidate was drawn.
    before: Position,
    score: Option<f32>,
    rescue: Rescue,
    drafter: Drafter,
    times: Times,
}

/// Whether the candidate has an alternative in its place, see [`Proposer::rescue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rescue {
    NotTried,
    Failed,
    Done,
}

/// How far the generators of the sampler and of the score are.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    sampler: u64,
    score: u64,
}

/// Spent since they were last taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub local: Duration,
    /// Part of `local`.
    pub score: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Proposal {
    pub candidate: u32,
    pub score: Option<f32>,
    /// The candidate is an alternative to the SLM's own choice.
    pub rescued: bool,
}

impl Proposer {
    pub fn new(slm: Box<dyn SlmState>, sampler: Sampler, drafter: Drafter) -> Proposer {
        Proposer {
            slm,
            sampler,
            scorer: None,
            ahead: VecDeque::new(),
            rows: VecDeque::new(),
            bias: LogitBias::default(),
            biased: Vec::new(),
            candidate: None,
            before: Position::default(),
            score: None,
            rescue: Rescue::NotTried,
            drafter,
            times: Times::default(),
        }
    }

    pub fn capacity(&self) -> usize {
        self.slm.capacity()
    }

    pub fn sampling(&self) -> Sampling {
        self.sampler.sampling()
    }

    /// Errors, with nothing changed: those of [`Sampling::check`].
    pub fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        self.sampler.set_sampling(sampling)?;
        self.forget_candidate();
        Ok(())
    }

    pub fn set_bias(&mut self, bias: LogitBias) {
        self.forget_candidate();
        self.bias = bias;
    }

    pub fn has_score(&self) -> bool {
        self.scorer.is_some()
    }

    pub fn set_score(&mut self, scorer: Option<Box<dyn Score>>) {
        self.forget_candidate();
        self.scorer = scorer;
    }

    /// A copy without the candidate, which it draws alike. `score`: as this one's, newly opened.
    ///
    /// Errors: those of [`SlmState::fork`].
    pub fn fork(&self, mut score: Option<Box<dyn Score>>) -> Result<Proposer> {
        let position = self.position();
        let mut sampler = self.sampler.clone();
        sampler.set_position(position.sampler);
        if let Some(score) = &mut score {
            score.set_position(position.score);
        }
        Ok(Proposer {
            slm: self.slm.fork()?,
            sampler,
            scorer: score,
            ahead: self.ahead.clone(),
            rows: self.rows.clone(),
            bias: self.bias.clone(),
            biased: Vec::new(),
            candidate: None,
            before: position,
            score: None,
            rescue: Rescue::NotTried,
            drafter: self.drafter.clone(),
            times: Times::default(),
        })
    }

    /// How far the generators are with all that was handed out.
    fn position(&self) -> Position {
        if self.candidate.is_some() {
            return self.before;
        }
        let score = self.scorer.as_ref().map_or(0, |scorer| scorer.position());
        Position { sampler: self.sampler.position(), score }
    }

    /// The time spent since the last call.
    pub fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// The candidate after `context` and, if `scored`, its score. On an error what was found out is
    /// kept.
    pub fn propose(&mut self, context: &[u32], scored: bool, cancel: &Cancel) -> Result<Proposal> {
        self.timed(|proposer| {
            let candidate = proposer.find_candidate(context, &[], cancel)?;
            let score = match scored {
                true => proposer.find_score(context, candidate, cancel)?,
                false => None,
            };
            Ok(Proposal { candidate, score, rescued: proposer.rescue == Rescue::Done })
        })
    }

    /// Scores the most likely tokens but the candidate, `alternatives` of them at most. The best one takes
    /// the candidate's place if it scores `threshold` or over. Each costs a forward where the score wants
    /// the state after it.
    pub fn rescue(
        &mut self,
        alternatives: usize,
        threshold: f32,
        context: &[u32],
        cancel: &Cancel,
    ) -> Result<Proposal> {
        self.timed(|proposer| proposer.find_rescue(alternatives, threshold, cancel))?;
        self.propose(context, true, cancel)
    }

    fn find_rescue(&mut self, alternatives: usize, threshold: f32, cancel: &Cancel) -> Result<()> {
        if self.rescue != Rescue::NotTried {
            return Ok(());
        }
        let logits = self.logits()?;
        let is_possible =
            |&id: &u32| logits.get(id as usize).is_some_and(|&l| l > f32::NEG_INFINITY);
        let likeliest = top_tokens(logits).into_iter().filter(is_possible);
        let others: Vec<u32> = likeliest.filter(|&id| Some(id) != self.candidate).collect();
        let mut best = None;
        for &id in others.iter().take(alternatives) {
            let score = self.score_of(id, cancel)?;
            if score >= threshold && best.is_none_or(|(_, best)| score > best) {
                best = Some((id, score));
            }
        }
        self.rescue = Rescue::Failed;
        if let Some((id, score)) = best {
            (self.candidate, self.score, self.rescue) = (Some(id), Some(score), Rescue::Done);
        }
        Ok(())
    }

    /// The candidate and its score where `following` is known to follow: it is read in one batch, and the candidate is
    /// scored only if it is the token that comes.
    pub fn compare(
        &mut self,
        context: &[u32],
        following: &[u32],
        cancel: &Cancel,
    ) -> Result<Proposal> {
        self.timed(|proposer| {
            let candidate = proposer.find_candidate(context, following, cancel)?;
            let agrees = following.first() == Some(&candidate);
            let score =
                if agrees { proposer.find_score(context, candidate, cancel)? } else { None };
            Ok(Proposal { candidate, score, rescued: false })
        })
    }

    fn timed<T>(&mut self, work: impl FnOnce(&mut Proposer) -> T) -> T {
        let start = Instant::now();
        let result = work(self);
        self.times.local += start.elapsed();
        result
    }

    fn find_candidate(
        &mut self,
        context: &[u32],
        following: &[u32],
        cancel: &Cancel,
    ) -> Result<u32> {
        if let Some(candidate) = self.candidate {
            return Ok(candidate);
        }
        let draft = match following {
            [] if self.unread(context) == 1 => self.draft(context, &[]),
            _ => Vec::new(),
        };
        self.consume(context, if draft.is_empty() { following } else { &draft }, cancel)?;
        self.before = self.position();
        let row = self.rows.front().ok_or_else(no_row)?;
        let logits = match self.bias.is_empty() {
            true => &row.logits,
            false => {
                self.bias.apply(&row.logits, &mut self.biased);
                &self.biased
            }
        };
        Ok(*self.candidate.insert(self.sampler.sample(logits, context)?))
    }

    /// What the candidate was drawn from.
    fn logits(&self) -> Result<&[f32]> {
        match self.bias.is_empty() {
            true => self.rows.front().map(|row| row.logits.as_slice()).ok_or_else(no_row),
            false => Ok(&self.biased),
        }
    }

    /// The log-probabilities of `token` and of the `top` most likely ones, as the SLM gave them:
    /// before bias, penalty and temperature. Nothing where no candidate was proposed.
    pub fn log_probabilities(&self, token: u32, top: usize) -> Vec<(u32, f32)> {
        match (self.candidate, self.rows.front()) {
            (Some(_), Some(row)) if top > 0 => log_probabilities(&row.logits, token, top),
            _ => Vec::new(),
        }
    }

    fn find_score(
        &mut self,
        context: &[u32],
        candidate: u32,
        cancel: &Cancel,
    ) -> Result<Option<f32>> {
        if self.score.is_none() && self.scorer.is_some() {
            if self.needs_read(candidate) {
                let draft = self.draft(context, &[candidate]);
                self.read_ahead(&[&[candidate], draft.as_slice()].concat(), cancel)?;
            }
            self.score = Some(self.score_of(candidate, cancel)?);
        }
        Ok(self.score)
    }

    fn score_of(&mut self, token: u32, cancel: &Cancel) -> Result<f32> {
        if self.needs_read(token) {
            self.read_ahead(&[token], cancel)?;
        }
        let (Some(scorer), Some(row)) = (&mut self.scorer, self.rows.front()) else {
            return Err(no_row());
        };
        let after = self.rows.get(1).filter(|_| scorer.needs_after());
        let logits = if self.bias.is_empty() { &row.logits } else { &self.biased };
        let start = Instant::now();
        let score = scorer.score(&Features {
            hidden: &row.hidden,
            hidden_after: after.map(|after| after.hidden.as_slice()),
            stats: &logit_stats(logits, token),
            logits,
            candidate: token,
        });
        self.times.score += start.elapsed();
        score
    }

    /// Whether the score of `token` wants the row after it, which is not there.
    fn needs_read(&self, token: u32) -> bool {
        let needs_after = self.scorer.as_ref().is_some_and(|scorer| scorer.needs_after());
        needs_after && self.ahead.front() != Some(&token)
    }

    /// Lets the SLM consume what may follow the context, in the place of what it has read ahead.
    fn read_ahead(&mut self, tokens: &[u32], cancel: &Cancel) -> Result<()> {
        self.forget_ahead()?;
        let output = self.slm.feed(tokens, Rows::All, cancel)?;
        self.rows.append(&mut rows_of(output, tokens.len()));
        self.ahead.extend(tokens);
        Ok(())
    }

    /// What may follow `token` after `context`.
    fn draft(&mut self, context: &[u32], token: &[u32]) -> Vec<u32> {
        if self.drafter.is_off() {
            return Vec::new();
        }
        let context = [context, token].concat();
        let room = self.slm.capacity().saturating_sub(context.len());
        self.drafter.draft(&context, room).to_vec()
    }

    /// Tokens of the context that the SLM has not consumed yet.
    fn unread(&self, context: &[u32]) -> usize {
        (context.len() + self.ahead.len()).saturating_sub(self.slm.len())
    }

    /// `token` follows the context. What the SLM did ahead is kept if it was for this token.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        if self.ahead.front() == Some(&token) {
            self.ahead.pop_front();
            self.rows.pop_front();
        } else {
            self.forget_ahead()?;
            self.rows.clear();
        }
        self.forget_proposal();
        Ok(())
    }

    /// Lets the SLM consume `context`, which is what it was, longer by a prompt.
    pub fn extend(&mut self, context: &[u32], cancel: &Cancel) -> Result<()> {
        self.forget_ahead()?;
        self.consume(context, &[], cancel)?;
        self.forget_candidate();
        Ok(())
    }

    /// The context has been cut to `len` tokens, fewer than it had.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        // The row of the last token is not known any more: the SLM will consume that one again.
        let kept = len.saturating_sub(1);
        self.slm.rewind(self.slm.len().saturating_sub(kept))?;
        self.ahead.clear();
        self.rows.clear();
        self.forget_candidate();
        Ok(())
    }

    /// The next candidate is drawn afresh, as if there had been none.
    pub fn forget_candidate(&mut self) {
        if self.candidate.is_some() {
            self.sampler.set_position(self.before.sampler);
            if let Some(scorer) = &mut self.scorer {
                scorer.set_position(self.before.score);
            }
        }
        self.forget_proposal();
    }

    fn forget_ahead(&mut self) -> Result<()> {
        self.slm.rewind(self.ahead.len())?;
        self.ahead.clear();
        self.rows.truncate(1);
        Ok(())
    }

    /// How far the sampler's generator is with all that was handed out.
    pub fn drawn(&self) -> u64 {
        self.position().sampler
    }

    /// How many tokens of a context of `len` are in the cache and can be kept outside: all but the last at most.
    pub fn cached(&self, len: usize) -> usize {
        let kept = len.saturating_sub(1).min(self.slm.len());
        if self.slm.cache_bytes(kept).is_some() { kept } else { 0 }
    }

    /// Bytes that [`Proposer::write_cache`] writes for `len` tokens.
    pub fn cache_bytes(&self, len: usize) -> usize {
        self.slm.cache_bytes(len).unwrap_or(0)
    }

    pub fn write_cache(&self, len: usize, out: &mut dyn FnMut(&[u8])) {
        self.slm.write_cache(len, out);
    }

    /// The context is another one, of which `cache` has the first `len` tokens. On an error nothing has changed.
    pub fn restore(&mut self, len: usize, cache: &[u8], drawn: u64) -> Result<()> {
        if len == 0 {
            self.slm.rewind(self.slm.len())?;
        } else {
            self.slm.read_cache(len, cache)?;
        }
        self.forget_candidate();
        self.sampler.set_position(drawn);
        self.ahead.clear();
        self.rows.clear();
        Ok(())
    }

    fn forget_proposal(&mut self) {
        self.candidate = None;
        self.score = None;
        self.rescue = Rescue::NotTried;
    }

    /// All tokens the SLM has not seen yet, and with them the first of those that follow, in one batch.
    /// All or nothing.
    fn consume(&mut self, context: &[u32], following: &[u32], cancel: &Cancel) -> Result<()> {
        let pending = context.get(self.slm.len() - self.ahead.len()..).ok_or_else(no_row)?;
        let room = self.slm.capacity().saturating_sub(context.len()).min(MAX_AHEAD);
        let following = following.get(..room).unwrap_or(following);
        if self.ahead.is_empty() && !following.is_empty() {
            let batch = [pending, following].concat();
            let mut rows = rows_of(self.slm.feed(&batch, Rows::All, cancel)?, batch.len());
            if pending.is_empty() {
                self.rows.append(&mut rows);
            } else {
                self.rows = rows.split_off(pending.len() - 1);
            }
            self.ahead.extend(following);
        } else if !pending.is_empty() {
            self.rows = VecDeque::from([self.slm.feed(pending, Rows::Last, cancel)?]);
        }
        Ok(())
    }
}

fn rows_of(output: Output, rows: usize) -> VecDeque<Output> {
    if rows == 1 {
        return VecDeque::from([output]);
    }
    let logits = output.logits.chunks_exact((output.logits.len() / rows).max(1));
    let hidden = output.hidden.chunks_exact((output.hidden.len() / rows).max(1));
    logits.zip(hidden).map(|(l, h)| Output { logits: l.to_vec(), hidden: h.to_vec() }).collect()
}

fn no_row() -> Error {
    Error::State("the SLM's state does not fit the context; reset the session".into())
}

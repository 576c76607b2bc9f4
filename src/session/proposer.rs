//! Compute: the SLM's part of a step. Keeps what is known of the next token.

use std::time::{Duration, Instant};

use super::draft::Drafter;
use super::reader::{Reader, out_of_step};
use crate::cancel::Cancel;
use crate::error::Result;
use crate::reward::{Features, Scorer};
use crate::sampler::{LogitBias, Sampler, Sampling, log_probabilities, logit_stats, top_tokens};

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

/// Proposes candidates. What is known of the next token is kept until the context changes, so that
/// nothing is computed or drawn twice after a peek or a cancelled call.
pub(super) struct Proposer {
    reader: Reader,
    sampler: Sampler,
    scorer: Option<Box<dyn Score>>,
    bias: LogitBias,
    drafter: Drafter,
    /// The next token, once it was drawn.
    next: Option<Next>,
    times: Times,
}

/// What is known of the next token.
struct Next {
    candidate: u32,
    score: Option<f32>,
    rescue: Rescue,
    /// With a bias: the logits that the candidate was drawn from.
    biased: Vec<f32>,
    /// How far the generators were before the candidate was drawn.
    before: Position,
}

/// Whether the candidate has an alternative in its place, see [`Proposer::rescue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rescue {
    NotTried,
    Failed,
    Done,
}

/// How far the generators of the sampler and of the score are.
#[derive(Debug, Clone, Copy)]
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
    /// While consults were under way; no part of `local`.
    pub overlap: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Proposal {
    pub candidate: u32,
    pub score: Option<f32>,
    /// The candidate is an alternative to the SLM's own choice.
    pub rescued: bool,
}

impl Proposer {
    pub fn new(reader: Reader, sampler: Sampler, drafter: Drafter) -> Proposer {
        Proposer {
            reader,
            sampler,
            scorer: None,
            bias: LogitBias::default(),
            drafter,
            next: None,
            times: Times::default(),
        }
    }

    /// A copy without the candidate, which it draws alike. `score`: as this one's, newly opened.
    ///
    /// Errors: those of [`Reader::fork`].
    pub fn fork(&self, score: Option<Box<dyn Score>>) -> Result<Proposer> {
        let mut fork = Proposer {
            reader: self.reader.fork()?,
            sampler: self.sampler.clone(),
            scorer: score,
            bias: self.bias.clone(),
            drafter: self.drafter.clone(),
            next: None,
            times: Times::default(),
        };
        fork.set_position(self.position());
        Ok(fork)
    }

    pub fn reader(&self) -> &Reader {
        &self.reader
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

    /// The time spent since the last call.
    pub fn take_times(&mut self) -> Times {
        std::mem::take(&mut self.times)
    }

    /// The candidate after `context` and, if `scored`, its score. On an error what was found out is
    /// kept.
    pub fn propose(&mut self, context: &[u32], scored: bool, cancel: &Cancel) -> Result<Proposal> {
        self.timed(|proposer| {
            proposer.find_candidate(context, &[], cancel)?;
            if scored {
                proposer.find_score(context, cancel)?;
            }
            proposer.proposal()
        })
    }

    /// Scores the most likely tokens besides the candidate, `alternatives` of them at most. The
    /// best one takes the candidate's place if it scores `threshold` or over. Each costs a forward
    /// where the score wants the state after it. The candidate has been proposed and scored.
    pub fn rescue(
        &mut self,
        context: &[u32],
        alternatives: usize,
        threshold: f32,
        cancel: &Cancel,
    ) -> Result<Proposal> {
        self.timed(|proposer| {
            proposer.find_rescue(context, alternatives, threshold, cancel)?;
            proposer.proposal()
        })
    }

    /// The candidate where `following` is known to follow: it is read in one batch, and the
    /// candidate is scored only if it is the token that comes.
    pub fn compare(
        &mut self,
        context: &[u32],
        following: &[u32],
        cancel: &Cancel,
    ) -> Result<Proposal> {
        self.timed(|proposer| {
            let candidate = proposer.find_candidate(context, following, cancel)?;
            if following.first() == Some(&candidate) {
                proposer.find_score(context, cancel)?;
            }
            proposer.proposal()
        })
    }

    fn timed<T>(&mut self, work: impl FnOnce(&mut Proposer) -> T) -> T {
        let start = Instant::now();
        let result = work(self);
        self.times.local += start.elapsed();
        result
    }

    fn proposal(&self) -> Result<Proposal> {
        let next = self.next()?;
        let rescued = next.rescue == Rescue::Done;
        Ok(Proposal { candidate: next.candidate, score: next.score, rescued })
    }

    fn next(&self) -> Result<&Next> {
        self.next.as_ref().ok_or_else(out_of_step)
    }

    fn find_candidate(
        &mut self,
        context: &[u32],
        following: &[u32],
        cancel: &Cancel,
    ) -> Result<u32> {
        if let Some(next) = &self.next {
            // Only after a failed call that has made the SLM forget a part of the context.
            self.reader.read(context, &[], cancel)?;
            return Ok(next.candidate);
        }
        let draft = match following {
            [] if self.reader.unread(context) == 1 => self.draft(context, &[]),
            _ => Vec::new(),
        };
        self.reader.read(context, if draft.is_empty() { following } else { &draft }, cancel)?;
        let before = self.position();
        let (candidate, biased) = self.draw(0, context)?;
        let (score, rescue) = (None, Rescue::NotTried);
        self.next = Some(Next { candidate, score, rescue, biased, before });
        Ok(candidate)
    }

    /// The token that follows `text`, which is the context and `ahead` tokens that were read ahead
    /// of it, and with a bias the logits that it was drawn from.
    fn draw(&mut self, ahead: usize, text: &[u32]) -> Result<(u32, Vec<f32>)> {
        let logits = &self.reader.row_ahead(ahead).ok_or_else(out_of_step)?.logits;
        let mut biased = Vec::new();
        if !self.bias.is_empty() {
            self.bias.apply(logits, &mut biased);
        }
        let logits = if biased.is_empty() { logits } else { &biased };
        Ok((self.sampler.sample(logits, text)?, biased))
    }

    /// Lets the SLM consume its candidate and what it would write after it, token by token: `most`
    /// tokens at most, and as long as the next one `may_follow`. Later steps find the rows there.
    /// Changes nothing else.
    pub fn read_on(
        &mut self,
        context: &[u32],
        most: usize,
        may_follow: &dyn Fn(u32) -> bool,
        cancel: &Cancel,
    ) {
        let (start, drawn) = (Instant::now(), self.sampler.position());
        // What goes wrong here goes wrong again where it matters.
        let _ = self.try_to_read_on(context, most, may_follow, cancel);
        self.sampler.set_position(drawn);
        self.times.overlap += start.elapsed();
    }

    /// The end of the last [`Proposer::read_on`], so long, was not while a consult was under way.
    pub fn was_late(&mut self, by: Duration) {
        let by = by.min(self.times.overlap);
        self.times.overlap -= by;
        self.times.local += by;
    }

    fn try_to_read_on(
        &mut self,
        context: &[u32],
        most: usize,
        may_follow: &dyn Fn(u32) -> bool,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut token = self.next()?.candidate;
        let mut text = context.to_vec();
        let room = self.reader.capacity().saturating_sub(context.len());
        for ahead in 0..most.min(room) {
            if !may_follow(token) {
                break;
            }
            self.reader.read_on(ahead, token, cancel)?;
            text.push(token);
            (token, _) = self.draw(ahead + 1, &text)?;
        }
        Ok(())
    }

    /// Of the candidate, where there is a score.
    fn find_score(&mut self, context: &[u32], cancel: &Cancel) -> Result<()> {
        let Next { candidate, score, .. } = *self.next()?;
        if score.is_some() || self.scorer.is_none() {
            return Ok(());
        }
        if self.needs_read(candidate) {
            let draft = self.draft(context, &[candidate]);
            let tokens = [&[candidate], draft.as_slice()].concat();
            self.reader.read_ahead(context, &tokens, cancel)?;
        }
        let score = self.score_of(context, candidate, cancel)?;
        if let Some(next) = &mut self.next {
            next.score = Some(score);
        }
        Ok(())
    }

    fn find_rescue(
        &mut self,
        context: &[u32],
        alternatives: usize,
        threshold: f32,
        cancel: &Cancel,
    ) -> Result<()> {
        let next = self.next()?;
        if next.rescue != Rescue::NotTried {
            return Ok(());
        }
        let logits = logits_of(&self.reader, next)?;
        let is_possible =
            |&id: &u32| logits.get(id as usize).is_some_and(|&l| l > f32::NEG_INFINITY);
        let likeliest = top_tokens(logits).into_iter().filter(is_possible);
        let others: Vec<u32> = likeliest.filter(|&id| id != next.candidate).collect();
        let mut best = None;
        for &id in others.iter().take(alternatives) {
            let score = self.score_of(context, id, cancel)?;
            if score >= threshold && best.is_none_or(|(_, best)| score > best) {
                best = Some((id, score));
            }
        }
        if let Some(next) = &mut self.next {
            next.rescue = Rescue::Failed;
            if let Some((id, score)) = best {
                (next.candidate, next.score, next.rescue) = (id, Some(score), Rescue::Done);
            }
        }
        Ok(())
    }

    fn score_of(&mut self, context: &[u32], token: u32, cancel: &Cancel) -> Result<f32> {
        if self.needs_read(token) {
            self.reader.read_ahead(context, &[token], cancel)?;
        }
        let (Some(scorer), Some(next)) = (&mut self.scorer, &self.next) else {
            return Err(out_of_step());
        };
        let logits = logits_of(&self.reader, next)?;
        let after = self.reader.row_ahead(1).filter(|_| scorer.needs_after());
        let start = Instant::now();
        let score = scorer.score(&Features {
            hidden: &self.reader.row()?.hidden,
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
        needs_after && !self.reader.has_read(token)
    }

    /// What may follow `token` after `context`.
    fn draft(&mut self, context: &[u32], token: &[u32]) -> Vec<u32> {
        if self.drafter.is_off() {
            return Vec::new();
        }
        let context = [context, token].concat();
        let room = self.reader.capacity().saturating_sub(context.len());
        self.drafter.draft(&context, room).to_vec()
    }

    /// The log-probabilities of `token` and of the `top` most likely ones, as the SLM gave them:
    /// before bias, penalty and temperature. Nothing where no candidate was proposed.
    pub fn log_probabilities(&self, token: u32, top: usize) -> Vec<(u32, f32)> {
        match (&self.next, self.reader.row()) {
            (Some(_), Ok(row)) if top > 0 => log_probabilities(&row.logits, token, top),
            _ => Vec::new(),
        }
    }

    /// `token` follows the context.
    pub fn accept(&mut self, token: u32) -> Result<()> {
        self.reader.accept(token)?;
        self.next = None;
        Ok(())
    }

    /// Lets the SLM consume `context`, which is what it was, longer by a prompt.
    pub fn extend(&mut self, context: &[u32], cancel: &Cancel) -> Result<()> {
        self.reader.forget_ahead()?;
        self.reader.read(context, &[], cancel)?;
        self.forget_candidate();
        Ok(())
    }

    /// The context has been cut to `len` tokens, fewer than it had.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        self.reader.truncate(len)?;
        self.forget_candidate();
        Ok(())
    }

    /// See [`Reader::restore`]. `drawn`: how far the sampler's generator was.
    pub fn restore(&mut self, len: usize, cache: &[u8], drawn: u64) -> Result<()> {
        self.reader.restore(len, cache)?;
        self.forget_candidate();
        self.sampler.set_position(drawn);
        Ok(())
    }

    /// The next candidate is drawn afresh, as if there had been none.
    pub fn forget_candidate(&mut self) {
        self.set_position(self.position());
        self.next = None;
    }

    /// How far the sampler's generator is with all that was handed out.
    pub fn drawn(&self) -> u64 {
        self.position().sampler
    }

    /// How far the generators are with all that was handed out.
    fn position(&self) -> Position {
        let score = || self.scorer.as_ref().map_or(0, |scorer| scorer.position());
        let now = || Position { sampler: self.sampler.position(), score: score() };
        self.next.as_ref().map_or_else(now, |next| next.before)
    }

    fn set_position(&mut self, position: Position) {
        self.sampler.set_position(position.sampler);
        if let Some(scorer) = &mut self.scorer {
            scorer.set_position(position.score);
        }
    }
}

/// What the candidate was drawn from.
fn logits_of<'a>(reader: &'a Reader, next: &'a Next) -> Result<&'a [f32]> {
    match next.biased.as_slice() {
        [] => Ok(&reader.row()?.logits),
        biased => Ok(biased),
    }
}

//! What a session is born with, and what can be set while it lives: [`super::Session::set_gate`]
//! and its siblings.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::policy::Mode;
use crate::reward::{ScoreKind, Threshold};
use crate::slm::kernels::logits::TOP;

const MAX_BURST: u32 = 1024;
const MAX_OVERLAP: u32 = 64;
const MAX_RESCUE: u32 = TOP as u32 - 1;
/// Searched one by one for every weak candidate, which reads a megabyte at most.
const MAX_CORRECTIONS: u32 = 1 << 14;
const MAX_CORRECTION_SUFFIX: u32 = 1024;
const MAX_DEADLINE: Duration = Duration::from_secs(600);
/// With the token before them they are as many as one pass over the weights pays for.
const MAX_DRAFT: u32 = 7;
const MAX_STOP_STRINGS: usize = 64;
const MAX_STOP_STRING_BYTES: usize = 1024;

/// What stays the same for a session's whole life.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Tokens of context; 0: the model's limit.
    pub context: usize,
    /// Generation stops before the first of these strings would be complete. At most 64 strings of
    /// 1 to 1024 bytes.
    pub stop_strings: Vec<String>,
    /// Equal seeds, equal draws, on every platform. Of candidates, and of scores that are drawn.
    pub seed: u64,
    /// Tokens to draft ahead at most, 0 (off) to 7; not with plain exports. A draft is what
    /// followed the last tokens where the context had them before, prompt included. The SLM
    /// consumes it in one batch with the token it begins after; what does not come true is rewound.
    /// Tokens, scores and decisions are the same to the last bit. Text that repeats the context is
    /// faster. Takes memory for 7 more rows of logits (vocabulary × 4 bytes each).
    pub draft: u32,
}

/// Which candidates are weak, and who may write.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Gate {
    pub mode: Mode,
    /// What the threshold is compared with. Computed in hybrid mode only.
    pub score: ScoreKind,
    /// Candidates that score under it are weak. 0: none is, so the cloud is never asked.
    pub threshold: Threshold,
}

/// How the cloud is asked, and what is tried before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsultOptions {
    /// Tokens taken from one consult at most, 1 to 1024.
    pub burst: u32,
    /// The whole consult, connection and TLS included: over 0, at most ten minutes.
    pub deadline: Duration,
    /// Compares bursts with what the SLM proposes: a token of a burst that is the SLM's candidate,
    /// and scores at the threshold or over, counts as the SLM's own. With greedy sampling this
    /// changes no text. Works in hybrid mode, rests in others.
    pub hand_back: bool,
    /// Before a consult the session scores this many of the most likely tokens besides the
    /// candidate, 0 (off) to 7, and takes the best one if it reaches the threshold (after Q*,
    /// arXiv:2406.14283). Needs a reward head. Works in hybrid mode, rests in others.
    pub rescue: u32,
    /// Tokens that the SLM reads on at most while a consult is under way, 0 (off) to 64; not with
    /// plain exports. It consumes its candidate and what it would write after it. If the cloud
    /// answers with the candidate, or not at all, the next steps need not compute these tokens;
    /// otherwise they are rewound. Tokens, scores and decisions are the same to the last bit, and
    /// so is what is sent. Each consult runs on a thread of its own, which ends with it. Takes
    /// memory for as many rows of logits (vocabulary × 4 bytes each), and energy where the answer
    /// is another token.
    pub overlap: u32,
    /// While the SLM reads a prompt or a chat, the server is asked for one token after it, which is
    /// dropped. So the first consult finds a connection, and on a server with a prefix cache its
    /// prompt. It counts as a consult, and a server bills the prompt for it once more. It is made
    /// where a consult could follow, and not with a cloud that takes messages. It runs on a thread
    /// of its own; the call waits for its end.
    pub warm: bool,
}

/// Which answers of the cloud are remembered. A *correction* is such an answer with its place: the
/// SLM's candidate and the ids before it. A weak candidate in the same place gets the same answer
/// again, without the cloud, a budget or the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CorrectionOptions {
    /// Corrections remembered at most, 0 (off) to 16384. The ones used longest ago are forgotten.
    pub capacity: u32,
    /// Number of ids before the candidate that must match, 1 to 1024. Fewer ids find more answers,
    /// and more wrong ones.
    pub suffix: u32,
}

impl Default for ConsultOptions {
    fn default() -> Self {
        let deadline = Duration::from_secs(2);
        ConsultOptions { burst: 1, deadline, hand_back: false, rescue: 0, overlap: 0, warm: false }
    }
}

impl Default for CorrectionOptions {
    fn default() -> Self {
        CorrectionOptions { capacity: 0, suffix: 32 }
    }
}

impl SessionOptions {
    /// `Err(InvalidArgument)` naming the option that is out of its range.
    pub(super) fn check(&self) -> Result<()> {
        in_range("draft", self.draft, 0, MAX_DRAFT)?;
        ensure(self.stop_strings.len() <= MAX_STOP_STRINGS, || {
            format!("{} stop strings; {MAX_STOP_STRINGS} at most", self.stop_strings.len())
        })?;
        self.stop_strings.iter().try_for_each(|stop| {
            ensure((1..=MAX_STOP_STRING_BYTES).contains(&stop.len()), || {
                format!("a stop string has {} bytes; 1 to {MAX_STOP_STRING_BYTES}", stop.len())
            })
        })
    }
}

impl ConsultOptions {
    /// `Err(InvalidArgument)` naming the field that is out of its range.
    pub(super) fn check(&self) -> Result<()> {
        in_range("burst", self.burst, 1, MAX_BURST)?;
        in_range("rescue", self.rescue, 0, MAX_RESCUE)?;
        in_range("overlap", self.overlap, 0, MAX_OVERLAP)?;
        let deadline = self.deadline;
        ensure(!deadline.is_zero() && deadline <= MAX_DEADLINE, || {
            format!("the deadline is {deadline:?}, but must be over 0 and at most 10 minutes")
        })
    }
}

impl CorrectionOptions {
    /// `Err(InvalidArgument)` naming the field that is out of its range.
    pub(super) fn check(&self) -> Result<()> {
        in_range("the capacity of corrections", self.capacity, 0, MAX_CORRECTIONS)?;
        in_range("the suffix of corrections", self.suffix, 1, MAX_CORRECTION_SUFFIX)
    }
}

pub(super) fn in_range(name: &str, value: u32, least: u32, most: u32) -> Result<()> {
    ensure((least..=most).contains(&value), || {
        format!("{name} is {value}, but must be {least} to {most}")
    })
}

pub(super) fn ensure(ok: bool, text: impl FnOnce() -> String) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::InvalidArgument(text())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let born = |draft, stop_strings| {
            SessionOptions { draft, stop_strings, ..Default::default() }.check()
        };
        let consult = |burst, rescue, deadline| {
            ConsultOptions { burst, rescue, deadline, ..Default::default() }.check()
        };
        let overlap = |overlap| ConsultOptions { overlap, ..Default::default() }.check();
        let corrections = |capacity, suffix| CorrectionOptions { capacity, suffix }.check();
        let second = Duration::from_secs(1);
        let good = [
            born(7, vec!["x".repeat(1024); 64]),
            consult(1, 7, Duration::from_nanos(1)),
            consult(1024, 0, MAX_DEADLINE),
            overlap(64),
            corrections(16384, 1024),
            corrections(0, 1),
            SessionOptions::default().check(),
            ConsultOptions::default().check(),
            CorrectionOptions::default().check(),
        ];
        assert!(good.iter().all(|checked| checked.is_ok()), "{good:?}");
        let bad = [
            ("draft is 8", born(8, vec![])),
            ("65 stop strings", born(0, vec!["x".into(); 65])),
            ("stop string has 0", born(0, vec!["x".into(), String::new()])),
            ("stop string has 1025", born(0, vec!["x".repeat(1025)])),
            ("burst is 0", consult(0, 0, second)),
            ("burst is 1025", consult(1025, 0, second)),
            ("rescue is 8", consult(1, 8, second)),
            ("overlap is 65", overlap(65)),
            ("deadline is 0", consult(1, 0, Duration::ZERO)),
            ("deadline is", consult(1, 0, MAX_DEADLINE + second)),
            ("capacity of corrections is 16385", corrections(16385, 1)),
            ("suffix of corrections is 0", corrections(1, 0)),
            ("suffix of corrections is 1025", corrections(1, 1025)),
        ];
        for (part, checked) in bad {
            let error = checked.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}

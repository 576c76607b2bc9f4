//! Corrections: answers of the cloud LLM that are remembered, and given again in the same place.
//!
//! A *place* is the SLM's candidate and the last ids of the context before it.
//! [`Corrections::save`] and [`Corrections::restore`] carry corrections from session to session.

use std::collections::VecDeque;

use super::settings::CorrectionOptions;
use crate::error::Result;
use crate::sealed::{Fingerprint, Format};

const FORMAT: Format = Format { magic: *b"HYBC", version: 2, name: "a file of corrections" };

/// What the cloud LLM wrote in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Correction {
    candidate: u32,
    /// The last ids of the context; all of them where it was shorter.
    context: Vec<u32>,
    answer: Vec<u32>,
}

/// The search is linear: a thousand corrections take some microseconds, a token takes milliseconds.
#[derive(Debug, Clone, Default)]
pub(super) struct Corrections {
    options: CorrectionOptions,
    /// The ones used longest ago first.
    list: VecDeque<Correction>,
}

impl Corrections {
    pub fn options(&self) -> CorrectionOptions {
        self.options
    }

    /// Keeps what the options leave room for; nothing of another suffix.
    pub fn set_options(&mut self, options: CorrectionOptions) {
        if options.suffix != self.options.suffix {
            self.list.clear();
        }
        self.options = options;
        self.evict();
    }

    pub fn has(&self, context: &[u32], candidate: u32) -> bool {
        self.find(context, candidate).is_some()
    }

    /// The answer, which counts as used now.
    pub fn take(&mut self, context: &[u32], candidate: u32) -> Option<Vec<u32>> {
        let correction = self.find(context, candidate).and_then(|at| self.list.remove(at))?;
        let answer = correction.answer.clone();
        self.list.push_back(correction);
        Some(answer)
    }

    /// Remembers `answer` in this place, in place of an earlier one.
    pub fn learn(&mut self, context: &[u32], candidate: u32, answer: &[u32]) {
        if self.options.capacity == 0 {
            return;
        }
        if let Some(at) = self.find(context, candidate) {
            self.list.remove(at);
        }
        let context = self.end_of(context).to_vec();
        self.list.push_back(Correction { candidate, context, answer: answer.to_vec() });
        self.evict();
    }

    fn find(&self, context: &[u32], candidate: u32) -> Option<usize> {
        let context = self.end_of(context);
        self.list.iter().rposition(|c| c.candidate == candidate && c.context == context)
    }

    fn end_of<'a>(&self, context: &'a [u32]) -> &'a [u32] {
        context.get(context.len().saturating_sub(self.suffix())..).unwrap_or(context)
    }

    /// Ids of the context that must match.
    fn suffix(&self) -> usize {
        self.options.suffix as usize
    }

    fn evict(&mut self) {
        let surplus = self.list.len().saturating_sub(self.options.capacity as usize);
        self.list.drain(..surplus);
    }

    /// All of them, for [`Corrections::restore`].
    pub fn save(&self, model: &Fingerprint) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = |piece: &[u8]| bytes.extend_from_slice(piece);
        let mut writer = FORMAT.write(model, &mut out);
        writer.count(self.suffix());
        writer.count(self.list.len());
        for correction in &self.list {
            writer.u32(correction.candidate);
            writer.ids(&correction.context);
            writer.ids(&correction.answer);
        }
        writer.finish();
        bytes
    }

    /// Takes what was saved in place of what there is; of more than fit, those used last. `usable`:
    /// ids from this one on are no tokens.
    ///
    /// Errors, with nothing changed: [`crate::Error::InvalidArgument`] for bytes that are damaged,
    /// of another model or version, or made with another suffix.
    pub fn restore(&mut self, bytes: &[u8], model: &Fingerprint, usable: usize) -> Result<()> {
        let mut reader = FORMAT.read(model, bytes)?;
        if reader.count()? != self.suffix() {
            return Err(reader.error("it was saved with another suffix of corrections"));
        }
        let mut list = VecDeque::new();
        for _ in 0..reader.count()? {
            let candidate = reader.u32()?;
            let (context, answer) = (reader.ids()?, reader.ids()?);
            if context.len() > self.suffix() || answer.is_empty() {
                return Err(reader.error("it has a correction that is none"));
            }
            if !answer.iter().all(|&id| (id as usize) < usable) {
                return Err(reader.error("it has tokens that there are not"));
            }
            list.push_back(Correction { candidate, context, answer });
        }
        reader.finish()?;
        self.list = list;
        self.evict();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODEL: Fingerprint = [7; 32];

    fn with(capacity: u32, suffix: u32, known: &[(&[u32], u32, &[u32])]) -> Corrections {
        let mut corrections = Corrections::default();
        corrections.set_options(CorrectionOptions { capacity, suffix });
        for (context, candidate, answer) in known {
            corrections.learn(context, *candidate, answer);
        }
        corrections
    }

    #[test]
    fn a_place_is_the_end_of_the_context_and_the_candidate() {
        let mut known = with(9, 2, &[(&[1, 2, 3], 4, &[5, 6]), (&[3], 4, &[7])]);
        let rows = [
            (vec![1, 2, 3], 4, Some(vec![5, 6])),
            (vec![9, 9, 2, 3], 4, Some(vec![5, 6])),
            (vec![1, 2, 3], 5, None),
            (vec![9, 3], 4, None),
            (vec![3], 4, Some(vec![7])),
            (vec![], 4, None),
        ];
        for (context, candidate, answer) in rows {
            assert_eq!(known.has(&context, candidate), answer.is_some(), "{context:?}");
            assert_eq!(known.take(&context, candidate), answer, "{context:?}");
        }
        known.learn(&[0, 2, 3], 4, &[8]);
        assert_eq!(known.take(&[2, 3], 4), Some(vec![8]), "the later answer");
        assert_eq!(known.list.len(), 2);
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten() {
        let mut known = with(2, 1, &[(&[1], 0, &[1]), (&[2], 0, &[2])]);
        assert_eq!(known.take(&[1], 0), Some(vec![1]));
        known.learn(&[3], 0, &[3]);
        assert_eq!([1, 2, 3].map(|id| known.has(&[id], 0)), [true, false, true]);
        let mut none = with(0, 1, &[(&[1], 0, &[1])]);
        assert_eq!(none.take(&[1], 0), None);
    }

    #[test]
    fn what_is_saved_can_be_restored() {
        let known = with(3, 2, &[(&[1], 0, &[1]), (&[1, 2, 3], 0, &[2, 2]), (&[], 9, &[3])]);
        let bytes = known.save(&MODEL);
        let restore = |capacity, suffix, model, usable| {
            let mut restored = with(capacity, suffix, &[(&[8], 8, &[8])]);
            restored.restore(&bytes, model, usable).map(|()| restored).map_err(|e| e.to_string())
        };
        assert_eq!(restore(3, 2, &MODEL, 10).unwrap().list, known.list);
        assert_eq!(restore(1, 2, &MODEL, 10).unwrap().list, [known.list[2].clone()]);
        let refused = [
            (restore(3, 3, &MODEL, 10), "another suffix"),
            (restore(3, 2, &[8; 32], 10), "another model"),
            (restore(3, 2, &MODEL, 3), "tokens that there are not"),
        ];
        for (got, why) in refused {
            let error = got.map(|_| ()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    fn body() -> Vec<u32> {
        // Suffix, count; candidate, context, answer.
        vec![2, 2, 0, 2, 1, 2, 1, 1, 0, 1, 3, 2, 2, 2]
    }

    fn sealed(body: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = |piece: &[u8]| bytes.extend_from_slice(piece);
        let mut writer = FORMAT.write(&MODEL, &mut out);
        body.iter().for_each(|&word| writer.u32(word));
        writer.finish();
        bytes
    }

    proptest! {
        /// Damaged bytes are an error and change nothing.
        #[test]
        fn damage_is_noticed(at: prop::sample::Index, flip in 1..=255u8, cut: prop::sample::Index) {
            let bytes = sealed(&body());
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= flip;
            let short = &bytes[..cut.index(bytes.len())];
            let long = [&bytes[..], &[0]].concat();
            for damaged in [&flipped[..], short, &long] {
                let mut restored = with(3, 2, &[(&[8], 8, &[8])]);
                prop_assert!(restored.restore(damaged, &MODEL, 10).is_err());
                prop_assert!(restored.has(&[8], 8) && restored.list.len() == 1);
            }
        }

        /// Whatever is under a right checksum: an error, or corrections within their limits.
        #[test]
        fn nothing_is_believed_because_the_checksum_is_right(
            at: prop::sample::Index,
            value in prop_oneof![0..12u32, any::<u32>()],
            len in 0..20usize,
        ) {
            let mut body = body();
            let at = at.index(body.len());
            body[at] = value;
            body.resize(len, 1);
            let mut restored = with(3, 2, &[(&[8], 8, &[8])]);
            if restored.restore(&sealed(&body), &MODEL, 10).is_err() {
                prop_assert!(restored.has(&[8], 8));
            }
            for c in &restored.list {
                prop_assert!(c.context.len() <= 2 && !c.answer.is_empty());
                prop_assert!(c.answer.iter().all(|&id| id < 10));
            }
            prop_assert!(restored.list.len() <= 3);
        }
    }

    #[test]
    fn the_bytes_are_stable() {
        let known = with(3, 2, &[(&[1, 2], 0, &[1]), (&[3], 0, &[2, 2])]);
        assert_eq!(known.save(&MODEL), sealed(&body()));
    }
}

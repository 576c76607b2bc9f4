//! Drafts: what the context said the last time it went like this.

/// Tokens that the end of the context must share with an earlier place.
const SHORTEST_MATCH: usize = 3;
/// What is drafted at first, and again after a draft that was wrong from its start.
const FIRST: usize = 3;
/// Tokens to wait after the most wrong drafts in a row.
const LONGEST_PAUSE: usize = 64;

/// Prompt-lookup decoding (Saxena, 2023): drafts what followed the last tokens where they occurred
/// before. Every draft is judged by what came instead: the next one is longer or shorter, and texts
/// that do not repeat themselves are soon left alone.
#[derive(Clone)]
pub(super) struct Drafter {
    /// Tokens of a draft at most; 0: never drafts.
    most: usize,
    /// Tokens of the next draft at most.
    length: usize,
    /// Calls to sit out, and how many it will be after the next wrong draft.
    wait: usize,
    pause: usize,
    last: Vec<u32>,
    /// The context's length before `last`.
    at: usize,
}

impl Drafter {
    pub fn new(most: usize) -> Drafter {
        Drafter { most, length: FIRST, wait: 0, pause: 1, last: Vec::new(), at: 0 }
    }

    pub fn is_off(&self) -> bool {
        self.most == 0
    }

    /// What `context` may go on with, `room` tokens at most; often nothing.
    pub fn draft(&mut self, context: &[u32], room: usize) -> &[u32] {
        self.judge(context);
        self.last.clear();
        self.at = context.len();
        if self.wait > 0 {
            self.wait -= 1;
        } else if let Some(place) = same_end(context) {
            let length = self.length.min(self.most).min(room);
            for index in place..place + length {
                // A text in a circle is drafted on beyond its end.
                let drafted = || self.last.get(index - context.len()).copied();
                let next = context.get(index).copied().or_else(drafted);
                self.last.extend(next);
            }
        }
        &self.last
    }

    /// Learns from how much of the last draft came true.
    fn judge(&mut self, context: &[u32]) {
        if self.last.is_empty() {
            return;
        }
        let came = context.get(self.at..).unwrap_or_default();
        let right = came.iter().zip(&self.last).take_while(|(came, drafted)| came == drafted);
        match right.count() {
            0 => {
                self.length = FIRST;
                self.wait = self.pause;
                self.pause = (2 * self.pause).min(LONGEST_PAUSE);
            }
            right => {
                self.pause = 1;
                let all = right == self.last.len();
                self.length = if all { 2 * right + 1 } else { right.max(FIRST) };
            }
        }
    }
}

/// The place after the earlier occurrence that shares the most tokens with the context's end, at
/// least [`SHORTEST_MATCH`]; the latest among equals.
fn same_end(context: &[u32]) -> Option<usize> {
    const ENOUGH: usize = 16;
    let (mut best, mut longest) = (None, SHORTEST_MATCH - 1);
    for place in (SHORTEST_MATCH..context.len()).rev() {
        let pairs = context[..place].iter().rev().zip(context.iter().rev());
        let length = pairs.take(ENOUGH).take_while(|(a, b)| a == b).count();
        if length > longest {
            (best, longest) = (Some(place), length);
        }
        if length == ENOUGH {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_drafted() {
        let rows: [(&[u32], &[u32]); 8] = [
            (&[], &[]),
            (&[1, 2, 3], &[]),
            (&[1, 2, 3, 4, 2, 3], &[]),
            (&[1, 2, 3, 4, 5, 6, 7, 1, 2, 3], &[4, 5, 6]),
            // The latest of equal ones, but rather one that shares more.
            (&[1, 2, 3, 4, 1, 2, 3, 5, 9, 1, 2, 3], &[5, 9, 1]),
            (&[8, 1, 2, 3, 4, 9, 1, 2, 3, 5, 8, 1, 2, 3], &[4, 9, 1]),
            // Circles.
            (&[7, 7, 7, 7], &[7, 7, 7]),
            (&[1, 2, 1, 2, 1], &[2, 1, 2]),
        ];
        for (context, want) in rows {
            assert_eq!(Drafter::new(15).draft(context, 100), want, "{context:?}");
        }
        let (context, want) = rows[3];
        assert_eq!(Drafter::new(2).draft(context, 100), &want[..2]);
        assert_eq!(Drafter::new(15).draft(context, 1), &want[..1]);
        assert!(Drafter::new(0).draft(context, 100).is_empty());
    }

    #[test]
    fn drafts_grow_while_they_are_right() {
        let mut drafter = Drafter::new(15);
        let mut context: Vec<u32> = (0..100).chain([0, 1, 2]).collect();
        for length in [3, 7, 15, 15] {
            let drafted = drafter.draft(&context, 100).to_vec();
            assert_eq!(drafted.len(), length);
            context.extend(drafted);
        }
        // Two right ones of many.
        let right = drafter.draft(&context, 100)[..2].to_vec();
        context.extend(right);
        context.extend([0, 1, 2]);
        assert_eq!(drafter.draft(&context, 100), [3, 4, 5]);
    }

    /// At most one wrong draft for every `LONGEST_PAUSE` tokens in the end.
    #[test]
    fn wrong_drafts_become_rare() {
        let mut drafter = Drafter::new(15);
        // Always the same three tokens, then always another one.
        let mut drafts = 0;
        let mut context = Vec::new();
        for other in 0..500 {
            context.extend([1, 2, 3]);
            drafts += usize::from(!drafter.draft(&context, 100).is_empty());
            context.push(1000 + other);
        }
        assert!((8..16).contains(&drafts), "{drafts}");
        assert!(context.len() / drafts > LONGEST_PAUSE);
    }
}

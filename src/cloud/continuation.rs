//! What an answer to messages adds to the text so far.

/// What a server of a chat format does with the assistant's last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Continues {
    Unknown,
    Plainly,
    /// The answer begins with what is continued.
    Repeating,
    /// It begins another answer.
    Never,
}

pub(super) const NEVER_CONTINUES: &str = "the server begins a new answer instead of continuing \
                                          the one begun; use another wire format or server";

/// Why an answer cannot be used; for the log.
pub(super) type Unusable = &'static str;

/// Templates trim messages, and some servers refuse one that ends in a space.
pub(super) fn sent(answer: &str) -> &str {
    answer.trim_end()
}

/// So much of the answer so far is repeated by no chance.
const SURELY_REPEATED: usize = 24;

/// What an answer adds to the text so far.
pub(super) fn of<'a>(
    text: &'a str,
    answer: &str,
    continues: Continues,
) -> Result<&'a str, Unusable> {
    let sent = sent(answer);
    let text = match (continues, text.strip_prefix(sent)) {
        (Continues::Repeating, Some(rest)) => rest,
        // Cut short within what it repeats, or begun afresh.
        (Continues::Repeating, None) => return Err("it does not continue the answer"),
        (Continues::Unknown, Some(rest)) if sent.len() >= SURELY_REPEATED => rest,
        _ => text,
    };
    // What was held back comes first; the server may have thought of other spaces.
    let spaces = answer.get(sent.len()..).unwrap_or_default();
    let same = text.chars().zip(spaces.chars()).take_while(|(a, b)| a == b);
    let common: usize = same.map(|(a, _)| a.len_utf8()).sum();
    Ok(text.get(common..).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations() {
        use Continues::{Plainly, Repeating, Unknown};
        let long = "The capital of France is Par";
        // What came back, the answer so far, what the server does with it.
        let rows = [
            ("is.", "Par", Plainly, Ok("is.")),
            ("Paris.", "Par", Repeating, Ok("is.")),
            ("is.", "Par", Repeating, Err(())),
            ("Pa", "Par", Repeating, Err(())),
            ("Paris", "", Repeating, Ok("Paris")),
            // A word that begins like the answer is not taken for a repetition.
            ("a b", "a", Plainly, Ok("a b")),
            ("a b", "a", Unknown, Ok("a b")),
            ("The capital of France is Paris", long, Unknown, Ok("is")),
            ("The capital of France is Paris", long, Plainly, Ok("The capital of France is Paris")),
            // Spaces that were not sent.
            (" big", "The ", Plainly, Ok("big")),
            ("big", "The ", Plainly, Ok("big")),
            ("\n big", "The\n", Plainly, Ok(" big")),
            ("  big", "The ", Plainly, Ok(" big")),
            ("\tbig", "The ", Plainly, Ok("\tbig")),
            ("The big", "The ", Repeating, Ok("big")),
            // Of spaces that share a byte, no part is taken.
            ("\u{a0}b", "The\u{2003}\u{a0}", Plainly, Ok("\u{a0}b")),
        ];
        for (text, answer, continues, want) in rows {
            let got = of(text, answer, continues).map_err(|_| ());
            assert_eq!(got, want, "{text:?} after {answer:?}");
        }
    }
}

//! Where the LLM has another vocabulary than the SLM: its answer as text, the SLM's tokens for it,
//! and where the SLM would have said the same.

use anyhow::{Context, Result};
use hybrid::tokens::Tokens;
use serde::{Deserialize, Serialize};

/// What an LLM answered, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    pub text: String,
    /// The LLM ended it here. Otherwise it would go on.
    pub end: bool,
}

impl Text {
    /// The text of the LLM's tokens, up to a character that is not whole.
    pub fn of(ids: &[u32], tokens: &Tokens) -> Text {
        let bytes = tokens.bytes_of(ids);
        let whole = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let end = whole.len() == bytes.len() && ids.last().is_some_and(|&id| tokens.is_stop(id));
        Text { text: whole.into(), end }
    }

    /// The SLM's tokens for it, those of a session that is given the whole of it in one answer.
    pub fn path(&self, tokens: &Tokens) -> Result<Vec<u32>> {
        let path = tokens.encode_continuation(&self.text)?;
        let mut path =
            path.context("the LLM's answer cannot be written in the SLM's vocabulary")?;
        if self.end {
            path.push(tokens.stop());
        }
        Ok(path)
    }

    /// Whether the text goes on with each of the SLM's `candidates`, one for every token of `path`.
    pub fn agrees(&self, path: &[u32], candidates: &[u32], tokens: &Tokens) -> Vec<bool> {
        let mut left = self.text.as_bytes();
        let row = |(&token, &candidate): (&u32, &u32)| {
            let agrees = self.goes_on(left, candidate, tokens);
            left = left.get(tokens.bytes(token).len()..).unwrap_or_default();
            agrees
        };
        path.iter().zip(candidates).map(row).collect()
    }

    /// `left`: the end of the text that is not written yet. Of a candidate that is longer only so
    /// much can be compared, unless the LLM ended there.
    fn goes_on(&self, left: &[u8], candidate: u32, tokens: &Tokens) -> bool {
        if tokens.is_stop(candidate) {
            return self.end && left.is_empty();
        }
        let bytes = tokens.bytes(candidate);
        let longer = !self.end && bytes.starts_with(left);
        // Other control tokens have no bytes.
        !bytes.is_empty() && (left.starts_with(bytes) || longer)
    }
}

#[cfg(test)]
mod tests {
    use hybrid::bundle::TokenInfo;
    use serde_json::json;

    use super::*;

    const NAMES: [&str; 11] =
        ["</s>", "<end>", "<user>", "a", "b", "c", "Ã", "©", "ab", "abc", "bc"];
    const END: u32 = 0;
    const OTHER_END: u32 = 1;
    const USER: u32 = 2;
    const A: u32 = 3;
    const B: u32 = 4;
    const C: u32 = 5;
    /// The two bytes of é.
    const FIRST: u32 = 6;
    const SECOND: u32 = 7;
    const AB: u32 = 8;
    const ABC: u32 = 9;
    const BC: u32 = 10;

    fn tokens() -> Tokens {
        let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
            "use_regex": false });
        let control = |id: u32| {
            json!({ "id": id, "content": NAMES[id as usize], "special": true, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false })
        };
        let vocabulary: serde_json::Map<_, _> =
            (0..).zip(NAMES).map(|(id, name)| (name.to_owned(), json!(id))).collect();
        let controls = [END, OTHER_END, USER].map(control);
        let json = json!({ "version": "1.0", "added_tokens": controls,
            "normalizer": null, "pre_tokenizer": level, "post_processor": null, "decoder": level,
            "model": { "type": "BPE", "vocab": vocabulary,
                "merges": [["a", "b"], ["ab", "c"], ["b", "c"]] } });
        let info = TokenInfo {
            bos: None,
            add_bos: false,
            stop: vec![END, OTHER_END],
            usable: NAMES.len(),
            fingerprint: String::new(),
        };
        Tokens::new(json.to_string().as_bytes(), info).unwrap()
    }

    fn text(text: &str, end: bool) -> Text {
        Text { text: text.into(), end }
    }

    #[test]
    fn texts_of_tokens_and_their_paths() {
        let tokens = tokens();
        let table: [(&[u32], Text, &[u32]); 7] = [
            (&[A, B, END], text("ab", true), &[AB, END]),
            (&[A, BC, OTHER_END], text("abc", true), &[ABC, END]),
            (&[A, USER, B], text("ab", false), &[AB]),
            (&[FIRST, SECOND, A], text("éa", false), &[FIRST, SECOND, A]),
            (&[A, FIRST], text("a", false), &[A]),
            (&[A, SECOND, B, END], text("a", false), &[A]),
            (&[END], text("", true), &[END]),
        ];
        for (ids, want, path) in table {
            let got = Text::of(ids, &tokens);
            assert_eq!(got, want, "{ids:?}");
            assert_eq!(got.path(&tokens).unwrap(), path, "{ids:?}");
        }
        let error = text("x", false).path(&tokens).unwrap_err().to_string();
        assert!(error.contains("cannot be written"), "{error}");
    }

    /// A token of the path; candidates that agree there, and some that do not.
    type Row<'a> = (u32, &'a [u32], &'a [u32]);

    #[test]
    fn a_candidate_agrees_where_the_text_goes_on_with_its_bytes() {
        let tokens = tokens();
        let table: [(&str, bool, &[Row]); 4] = [
            // Any cut of the same bytes; no other bytes, nothing over the end, no end before it.
            (
                "abcab",
                true,
                &[
                    (ABC, &[A, AB, ABC], &[B, BC, END, USER, FIRST]),
                    (AB, &[A, AB], &[ABC, B, OTHER_END]),
                    (END, &[END, OTHER_END], &[A, USER]),
                ],
            ),
            // Of a text that was cut more may follow, but no end is known.
            ("abcab", false, &[(ABC, &[A, AB, ABC], &[BC]), (AB, &[A, AB, ABC], &[B, END])]),
            ("c", true, &[(C, &[C], &[B]), (END, &[END], &[C])]),
            (
                "aéb",
                false,
                &[
                    (A, &[A], &[AB, FIRST]),
                    (FIRST, &[FIRST], &[SECOND, A]),
                    (SECOND, &[SECOND], &[FIRST, B]),
                    (B, &[B, BC], &[C]),
                ],
            ),
        ];
        for (written, end, rows) in table {
            let text = text(written, end);
            let path = text.path(&tokens).unwrap();
            assert_eq!(path, rows.iter().map(|row| row.0).collect::<Vec<_>>(), "{written}");
            for (at, (_, same, others)) in rows.iter().enumerate() {
                for (candidates, want) in [(same, true), (others, false)] {
                    for &candidate in *candidates {
                        let mut all = path.clone();
                        all[at] = candidate;
                        let agrees = text.agrees(&path, &all, &tokens);
                        assert_eq!(agrees[at], want, "{written} {end} {at}: {candidate}");
                        assert_eq!(agrees.iter().filter(|&&a| !a).count(), usize::from(!want));
                    }
                }
            }
        }
    }
}

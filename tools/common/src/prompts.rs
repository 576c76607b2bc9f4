//! What the cloud LLM is asked when a head is trained or judged.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use hybrid::tokens::{ChatTemplate, Message};
use serde::{Deserialize, Serialize};

/// A rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub id: String,
    pub split: Split,
    /// Template, messages and the beginning of the answer.
    pub text: String,
    pub stop: Stop,
    /// An answer that is given with the prompt, of whatever origin.
    pub answer: Option<String>,
}

/// What a prompt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    Train,
    Validation,
    /// Only for the last figures.
    Test,
}

impl Split {
    pub const NAMES: [&str; 3] = ["train", "validation", "test"];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    pub fn of_name(name: &str) -> Option<Split> {
        [Split::Train, Split::Validation, Split::Test].into_iter().find(|s| s.name() == name)
    }
}

/// Where an answer ends, besides the cloud LLM's own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    #[default]
    End,
    /// At the first line back in column 0, or a code fence.
    PythonFunction,
}

impl Stop {
    /// `answer` has reached its end. The answer begins at the start of a line.
    pub fn reached(self, answer: &[u8]) -> bool {
        match self {
            Stop::End => false,
            Stop::PythonFunction => {
                answer
                    .split(|&b| b == b'\n')
                    .any(|l| l.first().is_some_and(|b| !b.is_ascii_whitespace()))
                    || answer.windows(3).any(|w| w == b"```")
            }
        }
    }

    /// What an answer says, without the end by which it was noticed.
    pub fn cut(self, answer: &[u8]) -> &[u8] {
        let is_end = |at: usize| {
            let starts_line = at == 0 || answer[at - 1] == b'\n';
            answer[at..].starts_with(b"```") || (starts_line && !answer[at].is_ascii_whitespace())
        };
        let end = match self {
            Stop::End => None,
            Stop::PythonFunction => (0..answer.len()).find(|&at| is_end(at)),
        };
        &answer[..end.unwrap_or(answer.len())]
    }
}

/// One line of a prompt file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    messages: Vec<Turn>,
    #[serde(default)]
    prefill: String,
    split: Option<Split>,
    #[serde(default)]
    stop: Stop,
    answer: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: String,
    content: String,
}

/// Reads a file of prompts, one JSON object a line, as docs/reward-head.md describes it. Of the
/// lines that name no split every fifth validates; `others` is what the rest is for.
pub fn read(path: &Path, template: Option<&ChatTemplate>, others: Split) -> Result<Vec<Prompt>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            parse(line, template, others)
                .with_context(|| format!("{}:{}", path.display(), number + 1))
        })
        .collect()
}

fn parse(line: &str, template: Option<&ChatTemplate>, others: Split) -> Result<Prompt> {
    let line: Line = serde_json::from_str(line)?;
    let messages: Vec<Message> = line
        .messages
        .into_iter()
        .map(|turn| Message { role: turn.role, content: turn.content })
        .collect();
    let split = line.split.unwrap_or_else(|| split_of(&line.id, others));
    let text = render(template, &messages, &line.prefill)?;
    Ok(Prompt { id: line.id, split, text, stop: line.stop, answer: line.answer })
}

/// The prompt for `messages`, with the answer begun by `prefill`.
fn render(template: Option<&ChatTemplate>, messages: &[Message], prefill: &str) -> Result<String> {
    let Some(template) = template else {
        bail!("the bundle has no chat template, so its model answers no prompts");
    };
    Ok(template.render(messages)? + prefill)
}

/// Every fifth prompt validates, whatever the order of the file.
fn split_of(id: &str, others: Split) -> Split {
    if number_of(id).is_multiple_of(5) { Split::Validation } else { others }
}

/// A number that depends on a prompt's name alone.
pub fn number_of(id: &str) -> u32 {
    let hash = hybrid::bundle::sha256(id.as_bytes());
    u32::from_str_radix(hash.get(..8).unwrap_or_default(), 16).unwrap_or_default()
}

/// The prompts of these splits, at most `limit` of them (all when `None`), in turns from every
/// split so that a part is balanced as the whole is.
pub fn select(prompts: Vec<Prompt>, splits: &[Split], limit: Option<usize>) -> Result<Vec<Prompt>> {
    let mut all: Vec<(f64, Prompt)> = Vec::new();
    for &split in splits {
        let of_split: Vec<&Prompt> = prompts.iter().filter(|p| p.split == split).collect();
        ensure!(!of_split.is_empty(), "there are no prompts for {}", split.name());
        let position = |index: usize| (2 * index + 1) as f64 / (2 * of_split.len()) as f64;
        all.extend(of_split.iter().enumerate().map(|(i, &p)| (position(i), p.clone())));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let limit = limit.unwrap_or(all.len());
    Ok(all.into_iter().map(|(_, prompt)| prompt).take(limit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_ends_in_column_zero_or_at_a_fence() {
        let table: [(&str, bool); 8] = [
            ("", false),
            ("    return a\n", false),
            ("    return a\n\n    # more\n", false),
            ("    return a\n\ndef", true),
            ("    return a\n`", true),
            ("print(1)", true),
            ("    x = '''```", true),
            ("    if a:\n\tb\r\n", false),
        ];
        for (text, want) in table {
            assert_eq!(Stop::PythonFunction.reached(text.as_bytes()), want, "{text:?}");
            assert!(!Stop::End.reached(text.as_bytes()));
        }
    }

    #[test]
    fn an_end_is_cut_off() {
        let table = [
            ("", ""),
            ("    return a", "    return a"),
            ("    return a\n\ndef g", "    return a\n\n"),
            ("    return a\n```\nText", "    return a\n"),
            ("    x = 1```", "    x = 1"),
            ("print(1)", ""),
        ];
        for (text, want) in table {
            assert_eq!(Stop::PythonFunction.cut(text.as_bytes()), want.as_bytes(), "{text:?}");
            assert_eq!(Stop::End.cut(text.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn a_part_has_both_splits() {
        let prompt = |i: usize, split| Prompt {
            id: i.to_string(),
            split,
            text: String::new(),
            stop: Stop::End,
            answer: None,
        };
        let mut prompts: Vec<_> = (0..40).map(|i| prompt(i, Split::Train)).collect();
        prompts.extend((40..50).map(|i| prompt(i, Split::Validation)));
        let splits = [Split::Train, Split::Validation];
        let part = select(prompts.clone(), &splits, Some(10)).unwrap();
        assert_eq!(part.iter().filter(|p| p.split == Split::Validation).count(), 2);
        assert_eq!(select(prompts.clone(), &splits, None).unwrap().len(), 50);
        assert_eq!(select(prompts.clone(), &splits[1..], None).unwrap().len(), 10);
        prompts.truncate(40);
        assert!(select(prompts, &splits, None).is_err());
    }

    #[test]
    fn bad_lines_are_errors() {
        for line in ["", "{}", "[1]", r#"{"id":"a","messages":[],"stop":"never"}"#, r#"{"id":1}"#] {
            assert!(parse(line, None, Split::Train).is_err(), "{line}");
        }
    }
}

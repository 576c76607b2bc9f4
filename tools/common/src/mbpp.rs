//! Prompts of MBPP, and of problems like them: the cloud LLM completes a Python function.

use std::path::Path;

use anyhow::{Context, Result};
use hybrid::tokens::{ChatTemplate, Message};
use serde::Deserialize;

use super::prompts::{Prompt, Split, Stop, render};

const INSTRUCTION: &str = "Write a Python function that solves the problem. Answer with code only.";

/// Problems that other problems repeat.
const DROPPED: [u32; 2] = [12, 914];

/// One line of a file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Mbpp(Problem),
    Own(OwnProblem),
}

/// Of `heads/problems.jsonl`, all to train on.
#[derive(Deserialize)]
struct OwnProblem {
    name: String,
    /// `def name(parameters):`
    head: String,
    task: String,
}

/// Of `mbpp.jsonl`.
#[derive(Deserialize)]
struct Problem {
    task_id: u32,
    text: String,
    code: String,
    test_list: Vec<String>,
}

/// The prompts of the file's problems, but for those that its authors prompt with. Without a `system` message the
/// template may bring its own.
pub fn read(
    path: &Path,
    system: Option<&str>,
    template: Option<&ChatTemplate>,
) -> Result<Vec<Prompt>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut prompts = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let at = || format!("{}:{}", path.display(), number + 1);
        let add = || -> Result<Option<Prompt>> {
            let line = serde_json::from_str(line)?;
            let begun = match &line {
                Line::Mbpp(problem) => problem.begin()?,
                Line::Own(problem) => Some(problem.begin()),
            };
            begun.map(|begun| begun.prompt(system, template)).transpose()
        };
        prompts.extend(add().with_context(at)?);
    }
    Ok(prompts)
}

/// As the data's authors split it; `None` for problems of no split.
fn split_of(task_id: u32) -> Option<Split> {
    match task_id {
        id if DROPPED.contains(&id) => None,
        11..=510 => Some(Split::Test),
        511..=600 => Some(Split::Validation),
        601..=974 => Some(Split::Train),
        _ => None,
    }
}

/// What a prompt is made of.
struct Begun<'a> {
    id: String,
    split: Split,
    task: &'a str,
    head: &'a str,
}

impl Problem {
    /// `None` for a problem of no split.
    fn begin(&self) -> Result<Option<Begun<'_>>> {
        let Some(split) = split_of(self.task_id) else { return Ok(None) };
        let head = function_head(self).context("the tests call no function of the code")?;
        Ok(Some(Begun { id: format!("mbpp/{}", self.task_id), split, task: &self.text, head }))
    }
}

impl OwnProblem {
    fn begin(&self) -> Begun<'_> {
        let OwnProblem { name, head, task } = self;
        Begun { id: format!("own/{name}"), split: Split::Train, task, head }
    }
}

impl Begun<'_> {
    fn prompt(self, system: Option<&str>, template: Option<&ChatTemplate>) -> Result<Prompt> {
        let (task, head) = (self.task.trim(), self.head);
        let prefill = format!("```python\n{head}\n    \"\"\"{task}\"\"\"\n");
        Ok(Prompt {
            id: self.id,
            split: self.split,
            text: render(template, &messages(task, system), &prefill)?,
            stop: Stop::PythonFunction,
            answer: None,
        })
    }
}

fn messages(task: &str, system: Option<&str>) -> Vec<Message> {
    let message = |role: &str, content| Message { role: role.into(), content };
    let system = system.map(|text| message("system", text.into()));
    let user = message("user", format!("{INSTRUCTION}\n\n{task}"));
    system.into_iter().chain([user]).collect()
}

/// `def name(parameters):` of the function that the tests call.
fn function_head(problem: &Problem) -> Option<&str> {
    problem.code.lines().find_map(|line| {
        let name = line.strip_prefix("def ")?.split('(').next()?.trim();
        problem.test_list.iter().any(|test| calls(test, name)).then_some(head_of(line)?)
    })
}

fn calls(test: &str, name: &str) -> bool {
    test.match_indices(name).any(|(at, _)| {
        let before = test[..at].chars().next_back();
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        !before.is_some_and(is_name) && test[at + name.len()..].trim_start().starts_with('(')
    })
}

/// The line up to the colon that is in no bracket.
fn head_of(line: &str) -> Option<&str> {
    let mut depth = 0;
    let end = line.find(|c| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        c == ':' && depth == 0
    })?;
    line.get(..=end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_message_comes_first() {
        let roles = |system| messages("Sort.", system).into_iter().map(|m| (m.role, m.content));
        let user = ("user".to_owned(), format!("{INSTRUCTION}\n\nSort."));
        assert!(roles(None).eq([user.clone()]));
        assert!(roles(Some("Be brief.")).eq([("system".into(), "Be brief.".into()), user]));
    }

    #[test]
    fn the_head_is_of_the_tested_function() {
        let table = [
            ("def f(a, b):\r\n  return a", "assert f(1, 2) == 1", Some("def f(a, b):")),
            ("def g(a):\n  pass\ndef f(a): # x: y\n  pass", "assert f(1)", Some("def f(a):")),
            (
                "def f(a: int, b={1: 2}) -> int:\n  pass",
                "assert set(f (1))",
                Some("def f(a: int, b={1: 2}) -> int:"),
            ),
            ("def f(a):\n  pass", "assert my_f(1)", None),
            ("def f(a", "assert f(1)", None),
            ("x = 1", "assert x", None),
        ];
        for (code, test, want) in table {
            let problem = Problem {
                task_id: 601,
                text: String::new(),
                code: code.into(),
                test_list: vec![test.into()],
            };
            assert_eq!(function_head(&problem), want, "{code}");
        }
    }

    #[test]
    fn lines_of_both_kinds_are_read() {
        let mbpp = r#"{"task_id": 601, "text": "Sort.", "code": "def f(a):\n  pass", "test_list": ["f(1)"]}"#;
        let own = r#"{"name": "f", "head": "def f(a):", "task": "Sort."}"#;
        for (line, want) in [(mbpp, "mbpp/601"), (own, "own/f")] {
            let line = serde_json::from_str(line).unwrap();
            let Begun { id, split, task, head } = match &line {
                Line::Mbpp(problem) => problem.begin().unwrap().unwrap(),
                Line::Own(problem) => problem.begin(),
            };
            assert_eq!(
                (id.as_str(), split, task, head),
                (want, Split::Train, "Sort.", "def f(a):")
            );
        }
        assert!(serde_json::from_str::<Line>(r#"{"name": "f"}"#).is_err());
    }

    #[test]
    fn the_splits_are_the_authors() {
        for id in [1, 10, 12, 914, 975] {
            assert_eq!(split_of(id), None, "{id}");
        }
        for (id, split) in [
            (11, Split::Test),
            (510, Split::Test),
            (511, Split::Validation),
            (600, Split::Validation),
            (601, Split::Train),
            (974, Split::Train),
        ] {
            assert_eq!(split_of(id), Some(split));
        }
    }
}

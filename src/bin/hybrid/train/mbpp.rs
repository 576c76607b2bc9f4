//! Prompts of MBPP: the cloud LLM completes a Python function.

use std::path::Path;

use anyhow::{Context, Result};
use hybrid::tokens::{ChatTemplate, Message};
use serde::Deserialize;

use super::prompts::{Prompt, Split, Stop, render};

const INSTRUCTION: &str = "Write a Python function that solves the problem. Answer with code only.";

/// Problems that other problems repeat.
const DROPPED: [u32; 2] = [12, 914];

/// One line of `mbpp.jsonl`.
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
        let problem: Problem = serde_json::from_str(line).with_context(at)?;
        if let Some(split) = split_of(problem.task_id) {
            prompts.push(prompt(&problem, split, system, template).with_context(at)?);
        }
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

fn prompt(
    problem: &Problem,
    split: Split,
    system: Option<&str>,
    template: Option<&ChatTemplate>,
) -> Result<Prompt> {
    let task = problem.text.trim();
    let head = function_head(problem).context("the tests call no function of the code")?;
    let prefill = format!("```python\n{head}\n    \"\"\"{task}\"\"\"\n");
    Ok(Prompt {
        id: format!("mbpp/{}", problem.task_id),
        split,
        text: render(template, &messages(task, system), &prefill)?,
        stop: Stop::PythonFunction,
        answer: None,
    })
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

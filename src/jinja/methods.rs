//! The methods of texts and mappings. Those that would change a value do not exist: transformers
//! forbids them, too.

use std::sync::Arc;

use super::arguments::{Given, int_or, needed, text_of};
use super::budget::{Budget, Result, fail};
use super::format;
use super::run::Run;
use super::text::is_space;
use super::value::{Dict, List, Loop, Value};

const TEXT: &[&str] = &[
    "capitalize",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "title",
    "upper",
    "zfill",
];
const DICT: &[&str] = &["get", "items", "keys", "values"];
const LIST: &[&str] = &["count", "index"];
const LOOP: &[&str] = &["changed", "cycle"];

pub fn has(value: &Value, name: &str) -> bool {
    let known = match value {
        Value::Text(_) => TEXT,
        Value::Dict(_) => DICT,
        Value::List(_) => LIST,
        Value::Loop(_) => LOOP,
        _ => &[],
    };
    known.contains(&name)
}

pub fn call(run: &mut Run, of: &Value, name: &str, given: Given) -> Result<Value> {
    let budget = &mut run.budget;
    match of {
        Value::Text(text) => {
            budget.scan(text.len())?;
            text_method(text, name, given, budget)
        }
        Value::Dict(dict) => dict_method(dict, name, given, budget),
        Value::List(list) => list_method(list, name, given, budget),
        Value::Loop(of) => loop_method(of, name, given, budget),
        _ => fail(format!("a {} has no method {name:?}", of.kind())),
    }
}

fn dict_method(dict: &Dict, name: &str, given: Given, budget: &mut Budget) -> Result<Value> {
    if name == "get" {
        let [key, default] = given.bind(name, ["key", "default"])?;
        let found = dict.get(&needed(key, name)?, budget)?.cloned();
        return Ok(found.or(default).unwrap_or(Value::None));
    }
    let [] = given.bind(name, [])?;
    let mut items = Vec::new();
    for (key, value) in &dict.entries {
        let item = match name {
            "keys" => key.clone(),
            "values" => value.clone(),
            _ => {
                budget.take(2 * size_of::<Value>())?;
                budget.sequence(vec![key.clone(), value.clone()], true)?
            }
        };
        budget.push(&mut items, item)?;
    }
    budget.list(items)
}

fn list_method(list: &List, name: &str, given: Given, budget: &mut Budget) -> Result<Value> {
    let wanted = given.one(name)?;
    let mut count = 0;
    for (at, item) in list.items.iter().enumerate() {
        if budget.equal(item, &wanted)? {
            if name == "index" {
                return Ok(Value::Int(at as i64));
            }
            count += 1;
        }
    }
    if name == "count" { Ok(Value::Int(count)) } else { fail("index: no such item in the list") }
}

fn loop_method(of: &Loop, name: &str, given: Given, budget: &mut Budget) -> Result<Value> {
    if name == "cycle" {
        let at = of.at.get().checked_rem(given.plain.len());
        let value = at.and_then(|at| given.plain.get(at)).cloned();
        return needed(value, "loop.cycle");
    }
    let seen = budget.sequence(given.plain, true)?;
    let mut last = of.last.borrow_mut();
    let same = match &*last {
        Some(last) => budget.equal(last, &seen)?,
        None => false,
    };
    *last = Some(seen);
    Ok(Value::Bool(!same))
}

/// The text is paid for.
pub fn text_method(text: &str, name: &str, given: Given, budget: &mut Budget) -> Result<Value> {
    match name {
        "upper" => made(text.to_uppercase(), given, name, budget),
        "lower" => made(text.to_lowercase(), given, name, budget),
        "capitalize" => made(capitalised(text), given, name, budget),
        "title" => made(titled(text), given, name, budget),
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = given.bind(name, ["chars"])?;
            strip(text, name, chars, budget)
        }
        "split" | "rsplit" => {
            let [by, limit] = given.bind(name, ["sep", "maxsplit"])?;
            let limit = usize::try_from(int_or(limit, -1, name)?).unwrap_or(usize::MAX);
            split(text, name == "rsplit", by, limit, budget)
        }
        "splitlines" => {
            let [keep] = given.bind(name, ["keepends"])?;
            let keep = keep.is_some_and(|keep| keep.truth());
            texts(
                lines(text)
                    .map(|(line, end)| if keep { [line, end].concat() } else { line.into() }),
                budget,
            )
        }
        "partition" | "rpartition" => partition(text, name, given, budget),
        "join" => {
            let items = budget.items(&given.one(name)?)?;
            for item in &items.items {
                budget.work(1)?;
                text_of(item, name)?;
            }
            join(&Value::List(items), text, budget)
        }
        "replace" => {
            let [old, new, count] = given.bind(name, ["old", "new", "count"])?;
            let old = text_of(&needed(old, name)?, name)?;
            let new = text_of(&needed(new, name)?, name)?;
            replace(text, &old, &new, int_or(count, -1, name)?, budget)
        }
        "format" => format::braces(text, &given.plain, &given.named, budget),
        "removeprefix" => {
            let part = text_of(&given.one(name)?, name)?;
            budget.text(text.strip_prefix(&*part).unwrap_or(text))
        }
        "removesuffix" => {
            let part = text_of(&given.one(name)?, name)?;
            budget.text(text.strip_suffix(&*part).unwrap_or(text))
        }
        "ljust" | "rjust" | "center" | "zfill" => pad(text, name, given, budget),
        _ => ask(text, name, given, budget),
    }
}

fn made(text: String, given: Given, name: &str, budget: &mut Budget) -> Result<Value> {
    let [] = given.bind(name, [])?;
    budget.take(text.len())?;
    budget.text(&text)
}

/// What gives a number or a truth.
fn ask(text: &str, name: &str, given: Given, budget: &mut Budget) -> Result<Value> {
    if let Some(holds) = characters(name) {
        let [] = given.bind(name, [])?;
        return Ok(Value::Bool(holds(text)));
    }
    let value = given.one(name)?;
    if let (Value::List(parts), "startswith" | "endswith") = (&value, name) {
        for part in &parts.items {
            let part = text_of(part, name)?;
            budget.scan(part.len().min(text.len()))?;
            let ends = if name == "startswith" {
                text.starts_with(&*part)
            } else {
                text.ends_with(&*part)
            };
            if ends {
                return Ok(Value::Bool(true));
            }
        }
        return Ok(Value::Bool(false));
    }
    let part = text_of(&value, name)?;
    budget.scan(text.len().saturating_add(part.len()))?;
    let place = |byte: usize| text.get(..byte).map_or(0, |before| before.chars().count() as i64);
    Ok(match name {
        "startswith" => Value::Bool(text.starts_with(&*part)),
        "endswith" => Value::Bool(text.ends_with(&*part)),
        "count" => Value::Int(text.matches(&*part).count() as i64),
        "find" => Value::Int(text.find(&*part).map_or(-1, place)),
        "rfind" => Value::Int(text.rfind(&*part).map_or(-1, place)),
        "index" => match text.find(&*part) {
            Some(at) => Value::Int(place(at)),
            None => return fail("index: no such part in the text"),
        },
        _ => return fail(format!("a text has no method {name:?}")),
    })
}

fn characters(name: &str) -> Option<fn(&str) -> bool> {
    fn all(text: &str, is: fn(char) -> bool) -> bool {
        !text.is_empty() && text.chars().all(is)
    }
    Some(match name {
        "isalnum" => |text| all(text, char::is_alphanumeric),
        "isalpha" => |text| all(text, char::is_alphabetic),
        "isdigit" | "isdecimal" | "isnumeric" => |text| all(text, char::is_numeric),
        "isspace" => |text| all(text, is_space),
        "isupper" => {
            |text| text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
        }
        "islower" => {
            |text| text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
        }
        _ => return None,
    })
}

/// `name`: `strip`, `lstrip` or `rstrip`.
pub fn strip(text: &str, name: &str, chars: Option<Value>, budget: &mut Budget) -> Result<Value> {
    let chars = match chars {
        None | Some(Value::None) => None,
        Some(chars) => Some(text_of(&chars, name)?),
    };
    if let Some(chars) = &chars {
        budget.work(chars.len().saturating_mul(1 + text.len()) / 16)?;
    }
    let goes = |c: char| chars.as_ref().map_or(is_space(c), |chars| chars.contains(c));
    budget.text(match name {
        "strip" => text.trim_matches(goes),
        "lstrip" => text.trim_start_matches(goes),
        _ => text.trim_end_matches(goes),
    })
}

/// The texts of an iterator as a list.
fn texts(parts: impl Iterator<Item = impl AsRef<str>>, budget: &mut Budget) -> Result<Value> {
    let mut items = Vec::new();
    for part in parts {
        let part = budget.text(part.as_ref())?;
        budget.push(&mut items, part)?;
    }
    budget.list(items)
}

fn split(
    text: &str,
    from_end: bool,
    by: Option<Value>,
    limit: usize,
    budget: &mut Budget,
) -> Result<Value> {
    let by = match by {
        None | Some(Value::None) => None,
        Some(by) => Some(text_of(&by, "split")?),
    };
    if by.as_ref().is_some_and(|by| by.is_empty()) {
        return fail("split: the separator is empty");
    }
    let mut items = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        // A search reads all of what it looks for first.
        budget.scan(by.as_ref().map_or(0, |by| by.len()))?;
        let text = if by.is_none() { without_space(text, from_end) } else { text };
        let cut = match &by {
            _ if items.len() >= limit => None,
            Some(by) if from_end => text.rsplit_once(&**by).map(|(rest, part)| (part, rest)),
            Some(by) => text.split_once(&**by),
            None if from_end => text.rsplit_once(is_space).map(|(rest, part)| (part, rest)),
            None => text.split_once(is_space),
        };
        let part = cut.map_or(text, |(part, _)| part);
        rest = cut.map(|(_, rest)| rest);
        if by.is_some() || !part.is_empty() {
            let part = budget.text(part)?;
            budget.push(&mut items, part)?;
        }
    }
    if from_end {
        items.reverse();
    }
    budget.list(items)
}

fn without_space(text: &str, at_end: bool) -> &str {
    if at_end { text.trim_end_matches(is_space) } else { text.trim_start_matches(is_space) }
}

fn partition(text: &str, name: &str, given: Given, budget: &mut Budget) -> Result<Value> {
    let by = text_of(&given.one(name)?, name)?;
    if by.is_empty() {
        return fail(format!("{name}: the separator is empty"));
    }
    budget.scan(text.len().saturating_add(by.len()))?;
    let parts = match name {
        "partition" => text.split_once(&*by).map_or([text, "", ""], |(a, b)| [a, &by, b]),
        _ => text.rsplit_once(&*by).map_or(["", "", text], |(a, b)| [a, &by, b]),
    };
    let parts = parts.into_iter().map(|part| budget.text(part)).collect::<Result<_>>()?;
    budget.sequence(parts, true)
}

/// Lines and what ends them, as Python's `splitlines` has it.
pub fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_end = |c: char| {
            matches!(
                c,
                '\n' | '\r' | '\x0B' | '\x0C' | '\x1C'
                    ..='\x1E' | '\u{85}' | '\u{2028}' | '\u{2029}'
            )
        };
        let at = rest.find(is_end).unwrap_or(rest.len());
        let (line, others) = rest.split_at(at);
        let end = match others.strip_prefix("\r\n") {
            Some(_) => 2,
            None => others.chars().next().map_or(0, char::len_utf8),
        };
        let (end, others) = others.split_at(end);
        rest = others;
        Some((line, end))
    })
}

pub fn join(items: &Value, between: &str, budget: &mut Budget) -> Result<Value> {
    let list = budget.items(items)?;
    let mut whole = String::new();
    for (n, item) in list.items.iter().enumerate() {
        budget.append(&mut whole, if n == 0 { "" } else { between })?;
        super::text::print(item, &mut whole, budget)?;
    }
    budget.text(&whole)
}

/// `count` under 0: all.
pub fn replace(text: &str, old: &str, new: &str, count: i64, budget: &mut Budget) -> Result<Value> {
    budget.scan(text.len().saturating_add(old.len()))?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let found = text.matches(old).count().min(count);
    budget.take(text.len().saturating_add(found.saturating_mul(new.len())))?;
    budget.text(&text.replacen(old, new, count))
}

fn pad(text: &str, name: &str, given: Given, budget: &mut Budget) -> Result<Value> {
    let [width, fill] = given.bind(name, ["width", "fillchar"])?;
    let width = int_or(width, 0, name)?;
    let fill: Arc<str> = match fill {
        Some(fill) => text_of(&fill, name)?,
        None => if name == "zfill" { "0" } else { " " }.into(),
    };
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    let (before, after) = match name {
        "ljust" => (0, missing),
        "center" => {
            let before = missing / 2 + (missing & width as usize & 1);
            (before, missing - before)
        }
        _ => (missing, 0),
    };
    budget.take(missing.saturating_mul(fill.len()).saturating_add(text.len()))?;
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) if name == "zfill" => (text.get(..1).unwrap_or_default(), digits),
        _ => ("", text),
    };
    budget.text(&[sign, &fill.repeat(before), digits, &fill.repeat(after)].concat())
}

pub fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    first + &chars.as_str().to_lowercase()
}

/// Python's `title`: what follows no letter is a beginning.
fn titled(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut within = false;
    for c in text.chars() {
        if within {
            whole.extend(c.to_lowercase());
        } else {
            whole.extend(c.to_uppercase());
        }
        within = c.is_alphabetic();
    }
    whole
}

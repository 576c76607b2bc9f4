//! The filters: what stands behind `|`.

use std::sync::Arc;

use super::arguments::{Given, int_or, needed, text_of};
use super::budget::{Budget, Result, fail};
use super::run::Run;
use super::text::{self, Json};
use super::value::Value;
use super::{format, lists, methods};

pub const NAMES: &[&str] = &[
    "abs",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "wordcount",
];

pub fn apply(run: &mut Run, name: &str, value: Value, given: Given) -> Result<Value> {
    run.budget.enter()?;
    let value = match name {
        "capitalize" | "center" | "lower" | "replace" | "title" | "trim" | "upper" | "indent"
        | "string" | "safe" | "wordcount" | "format" => {
            of_text(name, &value, given, &mut run.budget)
        }
        "abs" | "float" | "int" | "round" => of_number(name, &value, given),
        "tojson" => to_json(&value, given, &mut run.budget),
        "d" | "default" => default(value, given),
        "count" | "length" => {
            let [] = given.bind(name, [])?;
            length(&value, &mut run.budget)
        }
        _ => lists::apply(run, name, value, given),
    }?;
    run.budget.leave();
    Ok(value)
}

fn default(value: Value, given: Given) -> Result<Value> {
    let [default, falsy] = given.bind("default", ["default_value", "boolean"])?;
    let falsy = falsy.is_some_and(|falsy| falsy.truth());
    match value.is_undefined() || (falsy && !value.truth()) {
        true => Ok(default.unwrap_or_else(|| Value::Text("".into()))),
        false => Ok(value),
    }
}

pub fn length(value: &Value, budget: &mut Budget) -> Result<Value> {
    Ok(Value::Int(match value {
        Value::Undefined(_) => 0,
        Value::Text(text) => {
            budget.scan(text.len())?;
            text.chars().count() as i64
        }
        Value::List(list) => list.items.len() as i64,
        Value::Dict(dict) => dict.entries.len() as i64,
        Value::Loop(of) => of.items.items.len() as i64,
        _ => return fail(format!("a {} has no length", value.kind())),
    }))
}

/// What takes anything as a text.
fn of_text(name: &str, value: &Value, given: Given, budget: &mut Budget) -> Result<Value> {
    let text: Arc<str> = match value {
        Value::Text(text) => text.clone(),
        _ => {
            let mut text = String::new();
            text::print(value, &mut text, budget)?;
            text.into()
        }
    };
    budget.scan(text.len())?;
    match name {
        "string" | "safe" => {
            let [] = given.bind(name, [])?;
            Ok(Value::Text(text))
        }
        "trim" => {
            let [chars] = given.bind(name, ["chars"])?;
            methods::strip(&text, "strip", chars, budget)
        }
        "replace" => {
            let [old, new, count] = given.bind(name, ["s", "new", "count"])?;
            let (old, new) = (needed(old, name)?, needed(new, name)?);
            let [mut from, mut to] = [String::new(), String::new()];
            text::print(&old, &mut from, budget)?;
            text::print(&new, &mut to, budget)?;
            methods::replace(&text, &from, &to, int_or(count, -1, name)?, budget)
        }
        "title" => {
            let [] = given.bind(name, [])?;
            budget.take(text.len())?;
            budget.text(&titled(&text))
        }
        "center" => {
            let [width] = given.bind(name, ["width"])?;
            let width = Value::Int(int_or(width, 80, name)?);
            let given = Given { plain: vec![width], named: Vec::new() };
            methods::text_method(&text, name, given, budget)
        }
        "wordcount" => {
            let [] = given.bind(name, [])?;
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            Ok(Value::Int(words.filter(|word| !word.is_empty()).count() as i64))
        }
        "format" => {
            let named = (!given.named.is_empty()).then_some(&given.named[..]);
            format::percent(&text, &given.plain, named, budget)
        }
        "indent" => indent(&text, given, budget),
        _ => methods::text_method(&text, name, given, budget),
    }
}

/// The filter begins words at white space and some marks only.
fn titled(text: &str) -> String {
    let ends = |c: char| text::is_space(c) || "-({[<".contains(c);
    text.split_inclusive(ends).map(methods::capitalised).collect()
}

fn indent(text: &str, given: Given, budget: &mut Budget) -> Result<Value> {
    let [width, first, blank] = given.bind("indent", ["width", "first", "blank"])?;
    let [first, blank] = [first, blank].map(|flag| flag.is_some_and(|flag| flag.truth()));
    let indent = spaces(width, 4, budget)?;
    let mut whole = String::new();
    budget.append(&mut whole, if first { &indent } else { "" })?;
    // The filter adds a line's end first, so that the last one is never dropped.
    let ended = [text, "\n"].concat();
    for (n, (line, _)) in methods::lines(&ended).enumerate() {
        if n > 0 {
            budget.append(&mut whole, "\n")?;
            budget.append(&mut whole, if blank || !line.is_empty() { &indent } else { "" })?;
        }
        budget.append(&mut whole, line)?;
    }
    budget.text(&whole)
}

/// A width or the text itself.
fn spaces(width: Option<Value>, default: i64, budget: &mut Budget) -> Result<String> {
    if let Some(Value::Text(text)) = &width {
        return Ok(text.to_string());
    }
    let width = usize::try_from(int_or(width, default, "indent")?).unwrap_or(0);
    budget.take(width)?;
    Ok(" ".repeat(width))
}

fn of_number(name: &str, value: &Value, given: Given) -> Result<Value> {
    value.defined()?;
    match name {
        "abs" => {
            let [] = given.bind(name, [])?;
            match (value.as_int().map(i64::checked_abs), value) {
                (Some(Some(int)), _) => Ok(Value::Int(int)),
                (None, Value::Float(float)) => Ok(Value::Float(float.abs())),
                _ => fail(format!("abs takes a number, not a {}", value.kind())),
            }
        }
        "float" => {
            let [default] = given.bind(name, ["default"])?;
            let default = default.unwrap_or(Value::Float(0.0));
            Ok(number(value).map_or(default, Value::Float))
        }
        "int" => {
            let [default, base] = given.bind(name, ["default", "base"])?;
            let default = default.unwrap_or(Value::Int(0));
            let base = int_or(base, 10, name)?;
            if !(2..=36).contains(&base) {
                return fail("int: the base is not 2 to 36");
            }
            Ok(whole_number(value, base as u32).map_or(default, Value::Int))
        }
        _ => round(value, given),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Text(text) => text.trim_matches(text::is_space).replace('_', "").parse().ok(),
        _ => value.as_float(),
    }
}

fn whole_number(value: &Value, base: u32) -> Option<i64> {
    if let Value::Text(text) = value {
        let digits = text.trim_matches(text::is_space).replace('_', "");
        if let Ok(int) = i64::from_str_radix(&digits, base) {
            return Some(int);
        }
    }
    let limit = i64::MAX as f64;
    value.as_int().or_else(|| {
        let float = number(value)?.trunc();
        (float.is_finite() && float.abs() < limit).then_some(float as i64)
    })
}

fn round(value: &Value, given: Given) -> Result<Value> {
    let [precision, method] = given.bind("round", ["precision", "method"])?;
    let precision = int_or(precision, 0, "round")?;
    let Some(float) = value.as_float() else {
        return fail(format!("round takes a number, not a {}", value.kind()));
    };
    if !(-300..=300).contains(&precision) {
        return fail("round: the precision is not -300 to 300");
    }
    let scale = 10f64.powi(precision as i32);
    let method = method.map_or(Ok("common".into()), |method| text_of(&method, "round"))?;
    Ok(Value::Float(match &*method {
        "ceil" => (float * scale).ceil() / scale,
        "floor" => (float * scale).floor() / scale,
        "common" if value.as_int().is_some() => return round_int(value, precision),
        // Exact, half to even, as Python: what formatting does.
        "common" if precision >= 0 => {
            format!("{float:.*}", precision as usize).parse().unwrap_or(float)
        }
        "common" => (float * scale).round_ties_even() / scale,
        _ => return fail("round: the method is common, ceil or floor"),
    }))
}

/// To tens and the like, half to even.
fn round_int(value: &Value, precision: i64) -> Result<Value> {
    let int = value.as_int().unwrap_or(0);
    let digits = u32::try_from(precision.saturating_neg()).unwrap_or(0);
    let Some(unit) = 10i64.checked_pow(digits) else { return Ok(Value::Int(0)) };
    let (whole, rest) = (int.div_euclid(unit), int.rem_euclid(unit));
    let up = rest > unit - rest || (rest == unit - rest && whole % 2 != 0);
    let rounded = (whole + i64::from(up && unit > 1)).checked_mul(unit);
    rounded.map_or_else(|| fail("a number has more than 64 bits"), |int| Ok(Value::Int(int)))
}

/// With the arguments that transformers gives it.
fn to_json(value: &Value, given: Given, budget: &mut Budget) -> Result<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort_keys] = given.bind("tojson", names)?;
    let indent = match indent {
        None | Some(Value::None) => None,
        indent => Some(spaces(indent, 0, budget)?),
    };
    let separators = match separators {
        None | Some(Value::None) if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None | Some(Value::None) => (", ".to_owned(), ": ".to_owned()),
        Some(Value::List(pair)) => match &pair.items[..] {
            [between, after] => (
                text_of(between, "separators")?.to_string(),
                text_of(after, "separators")?.to_string(),
            ),
            _ => return fail("tojson: separators are two texts"),
        },
        Some(_) => return fail("tojson: separators are two texts"),
    };
    let [ascii, sort_keys] = [ascii, sort_keys].map(|flag| flag.is_some_and(|flag| flag.truth()));
    let mut json = String::new();
    Json { ascii, indent, separators, sort_keys }.write(value, 0, &mut json, budget)?;
    budget.text(&json)
}

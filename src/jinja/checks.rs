//! The tests that stand behind `is`.

use std::cmp::Ordering;

use super::arguments::{Given, int_of};
use super::budget::{Result, fail};
use super::operators::contains;
use super::run::Run;
use super::value::Value;

const ALONE: &[&str] = &[
    "boolean",
    "callable",
    "defined",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "integer",
    "iterable",
    "lower",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];
const WITH_ARGUMENT: &[&str] = &[
    "eq",
    "equalto",
    "==",
    "ne",
    "!=",
    "lt",
    "lessthan",
    "<",
    "le",
    "<=",
    "gt",
    "greaterthan",
    ">",
    "ge",
    ">=",
    "in",
    "sameas",
    "divisibleby",
];

fn is_known(name: &str) -> bool {
    ALONE.contains(&name) || WITH_ARGUMENT.contains(&name)
}

pub fn holds(run: &mut Run, name: &str, value: &Value, given: Given) -> Result<bool> {
    let budget = &mut run.budget;
    let alone = match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_float().is_some(),
        "string" => matches!(value, Value::Text(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => {
            matches!(value, Value::Text(_) | Value::List(_) | Value::Dict(_) | Value::Undefined(_))
        }
        "iterable" => matches!(
            value,
            Value::Text(_) | Value::List(_) | Value::Dict(_) | Value::Undefined(_) | Value::Loop(_)
        ),
        "filter" => run.has_filter(value.as_text().unwrap_or_default()),
        "test" => is_known(value.as_text().unwrap_or_default()),
        "callable" => matches!(value, Value::Function(_)),
        "escaped" => false,
        "odd" => int_of(value, name)?.rem_euclid(2) == 1,
        "even" => int_of(value, name)?.rem_euclid(2) == 0,
        "lower" | "upper" => {
            let text = value.as_text().unwrap_or_default();
            budget.take(text.len())?;
            let same = if name == "lower" { text.to_lowercase() } else { text.to_uppercase() };
            // As Python's `islower`: with a letter that has a case.
            same == text && text.chars().any(|c| c.is_lowercase() || c.is_uppercase())
        }
        _ => return with_argument(run, name, value, given),
    };
    let [] = given.bind(name, [])?;
    Ok(alone)
}

fn with_argument(run: &mut Run, name: &str, value: &Value, given: Given) -> Result<bool> {
    let known = [
        "eq",
        "equalto",
        "==",
        "ne",
        "!=",
        "lt",
        "lessthan",
        "<",
        "le",
        "<=",
        "gt",
        "greaterthan",
        ">",
        "ge",
        ">=",
        "in",
        "sameas",
        "divisibleby",
        "filter",
        "test",
    ];
    if !known.contains(&name) {
        return fail(format!("no test is named {name:?}"));
    }
    let other = given.one(name)?;
    let budget = &mut run.budget;
    Ok(match name {
        "eq" | "equalto" | "==" => budget.equal(value, &other)?,
        "sameas" => value.kind() == other.kind() && budget.equal(value, &other)?,
        "ne" | "!=" => !budget.equal(value, &other)?,
        "lt" | "lessthan" | "<" => budget.order(value, &other)? == Ordering::Less,
        "le" | "<=" => budget.order(value, &other)? != Ordering::Greater,
        "gt" | "greaterthan" | ">" => budget.order(value, &other)? == Ordering::Greater,
        "ge" | ">=" => budget.order(value, &other)? != Ordering::Less,
        "in" => contains(value, &other, budget)?,
        _ => {
            let divisor = int_of(&other, name)?;
            match int_of(value, name)?.checked_rem(divisor) {
                Some(rest) => rest == 0,
                None => return fail("division by zero"),
            }
        }
    })
}

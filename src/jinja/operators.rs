//! What the operators do, as Python has it. Sizes are known before anything is made.

use std::cmp::Ordering;

use super::budget::{Budget, Result, fail};
use super::format;
use super::tree::{Comparison, Operator};
use super::value::Value;

pub fn sign(negated: bool, value: &Value) -> Result<Value> {
    value.defined()?;
    match (value.as_int(), value) {
        (Some(int), _) if negated => {
            int.checked_neg().map_or_else(too_large, |n| Ok(Value::Int(n)))
        }
        (Some(int), _) => Ok(Value::Int(int)),
        (None, Value::Float(float)) => Ok(Value::Float(if negated { -float } else { *float })),
        _ => fail(format!("a {} has no sign", value.kind())),
    }
}

pub fn arithmetic(
    operator: Operator,
    left: &Value,
    right: &Value,
    budget: &mut Budget,
) -> Result<Value> {
    budget.work(1)?;
    left.defined()?;
    right.defined()?;
    match (operator, left, right) {
        (Operator::Add, Value::Text(a), Value::Text(b)) => {
            budget.take(a.len() + b.len())?;
            return budget.text(&[&**a, &**b].concat());
        }
        (Operator::Add, Value::List(a), Value::List(b)) if a.tuple == b.tuple => {
            let mut items = Vec::new();
            for item in a.items.iter().chain(&b.items) {
                budget.push(&mut items, item.clone())?;
            }
            return budget.sequence(items, a.tuple);
        }
        (Operator::Multiply, Value::Text(_) | Value::List(_), _) => {
            if let Some(times) = right.as_int() {
                return repeat(left, times, budget);
            }
        }
        (Operator::Multiply, _, Value::Text(_) | Value::List(_)) => {
            if let Some(times) = left.as_int() {
                return repeat(right, times, budget);
            }
        }
        (Operator::Modulo, Value::Text(text), Value::List(list)) if list.tuple => {
            return format::percent(text, &list.items, None, budget);
        }
        (Operator::Modulo, Value::Text(text), _) => {
            return format::percent(text, std::slice::from_ref(right), None, budget);
        }
        _ => {}
    }
    match (left.as_int(), right.as_int(), left.as_float(), right.as_float()) {
        (Some(a), Some(b), _, _) if operator != Operator::Divide => ints(operator, a, b),
        (_, _, Some(a), Some(b)) => floats(operator, a, b),
        _ => {
            let name = name(operator);
            fail(format!("{:?} is not defined for {} and {}", name, left.kind(), right.kind()))
        }
    }
}

fn repeat(value: &Value, times: i64, budget: &mut Budget) -> Result<Value> {
    let times = usize::try_from(times).unwrap_or(0);
    match value {
        Value::Text(text) => {
            budget.take(text.len().saturating_mul(times))?;
            budget.text(&text.repeat(times))
        }
        Value::List(list) => {
            let len = list.items.len().saturating_mul(times);
            budget.take(len.saturating_mul(size_of::<Value>()))?;
            let items = list.items.iter().cycle().take(len).cloned().collect();
            budget.sequence(items, list.tuple)
        }
        _ => fail("no sequence"),
    }
}

fn ints(operator: Operator, a: i64, b: i64) -> Result<Value> {
    let value = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::FloorDivide | Operator::Modulo if b == 0 => return fail("division by zero"),
        Operator::FloorDivide => a.checked_div(b).map(|q| q - i64::from(odd_signs(a, b))),
        Operator::Modulo => a.checked_rem(b).map(|r| if odd_signs(a, b) { r + b } else { r }),
        Operator::Power => match u32::try_from(b) {
            Ok(b) => a.checked_pow(b),
            Err(_) => return floats(operator, a as f64, b as f64),
        },
        Operator::Divide => return floats(operator, a as f64, b as f64),
    };
    value.map_or_else(too_large, |value| Ok(Value::Int(value)))
}

/// Python rounds down where the quotient is negative and not whole.
fn odd_signs(a: i64, b: i64) -> bool {
    a.checked_rem(b).is_some_and(|rest| rest != 0 && (rest < 0) != (b < 0))
}

fn floats(operator: Operator, a: f64, b: f64) -> Result<Value> {
    let divides = matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo);
    if divides && b == 0.0 {
        return fail("division by zero");
    }
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::FloorDivide => (a / b).floor(),
        Operator::Modulo => a - b * (a / b).floor(),
        Operator::Power => a.powf(b),
    }))
}

fn too_large<T>() -> Result<T> {
    fail("a number has more than 64 bits")
}

fn name(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::FloorDivide => "//",
        Operator::Modulo => "%",
        Operator::Power => "**",
    }
}

pub fn compare(
    comparison: Comparison,
    left: &Value,
    right: &Value,
    budget: &mut Budget,
) -> Result<bool> {
    Ok(match comparison {
        Comparison::Equal => budget.equal(left, right)?,
        Comparison::NotEqual => !budget.equal(left, right)?,
        Comparison::Less => budget.order(left, right)? == Ordering::Less,
        Comparison::LessEqual => budget.order(left, right)? != Ordering::Greater,
        Comparison::Greater => budget.order(left, right)? == Ordering::Greater,
        Comparison::GreaterEqual => budget.order(left, right)? != Ordering::Less,
        Comparison::In => contains(left, right, budget)?,
        Comparison::NotIn => !contains(left, right, budget)?,
    })
}

pub fn contains(item: &Value, of: &Value, budget: &mut Budget) -> Result<bool> {
    match (of, item) {
        (Value::Text(text), Value::Text(part)) => {
            budget.scan(text.len() + part.len())?;
            Ok(text.contains(&**part))
        }
        (Value::Text(_), _) => fail(format!("a {} is never in a text", item.kind())),
        (Value::Dict(dict), _) => Ok(dict.get(item, budget)?.is_some()),
        _ => {
            let list = budget.items(of)?;
            for other in &list.items {
                if budget.equal(item, other)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

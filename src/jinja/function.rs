//! The functions that every template has.

use std::rc::Rc;

use super::arguments::{Given, int_of, int_or, needed, text_of};
use super::budget::{Budget, Result, fail};
use super::run::Run;
use super::value::{Namespace, Value};
use super::{text, time};

pub const GLOBALS: &[&str] = &["range", "dict", "namespace", "raise_exception", "strftime_now"];

/// As Jinja's sandbox has it.
const MAX_RANGE: i64 = 100_000;

pub fn call(run: &mut Run, name: &str, given: Given) -> Result<Value> {
    match name {
        "range" => range(given, &mut run.budget),
        "dict" => {
            let mut entries = Vec::new();
            for value in given.plain {
                let Value::Dict(dict) = value else {
                    return fail(format!("dict takes a mapping, not a {}", value.kind()));
                };
                for (key, value) in &dict.entries {
                    run.budget.insert(&mut entries, key.clone(), value.clone())?;
                }
            }
            for (name, value) in given.named {
                run.budget.insert(&mut entries, Value::Text(name), value)?;
            }
            run.budget.dict(entries)
        }
        "namespace" => namespace(given, &mut run.budget),
        "raise_exception" => {
            let mut message = String::new();
            text::print(&given.one("raise_exception")?, &mut message, &mut run.budget)?;
            fail(message)
        }
        "strftime_now" => {
            let format = text_of(&given.one("strftime_now")?, "strftime_now")?;
            time::format(&format, run.now, &mut run.budget)
        }
        _ => fail(format!("no function {name:?}")),
    }
}

fn range(given: Given, budget: &mut Budget) -> Result<Value> {
    let [first, second, step] = given.bind("range", ["start", "stop", "step"])?;
    let first = int_of(&needed(first, "range")?, "range")?;
    let (start, stop) = match second {
        None => (0, first),
        Some(stop) => (first, int_of(&stop, "range")?),
    };
    let step = int_or(step, 1, "range")?;
    if step == 0 {
        return fail("the step of a range is 0");
    }
    let mut items = Vec::new();
    let mut at = start;
    while if step > 0 { at < stop } else { at > stop } {
        if items.len() as i64 >= MAX_RANGE {
            return fail(format!("a range has more than {MAX_RANGE} numbers"));
        }
        budget.push(&mut items, Value::Int(at))?;
        match at.checked_add(step) {
            Some(next) => at = next,
            None => break,
        }
    }
    budget.list(items)
}

fn namespace(given: Given, budget: &mut Budget) -> Result<Value> {
    let space = Namespace::default();
    let mut values = space.0.borrow_mut();
    for value in given.plain {
        let Value::Dict(dict) = value else {
            return fail(format!("namespace takes a mapping, not a {}", value.kind()));
        };
        for (key, value) in &dict.entries {
            budget.keep(&mut values, text_of(key, "namespace")?, value.clone())?;
        }
    }
    for (name, value) in given.named {
        value.levels()?;
        budget.keep(&mut values, name, value)?;
    }
    drop(values);
    Ok(Value::Namespace(Rc::new(space)))
}

impl Budget<'_> {
    /// Sets the entry of a mapping that is being made.
    pub fn insert(
        &mut self,
        entries: &mut Vec<(Value, Value)>,
        key: Value,
        value: Value,
    ) -> Result<()> {
        key.defined()?;
        if matches!(key, Value::Dict(_)) || matches!(&key, Value::List(list) if !list.tuple) {
            return fail(format!("a {} is no key of a mapping", key.kind()));
        }
        for (known, old) in entries.iter_mut() {
            if self.equal(known, &key)? {
                *old = value;
                return Ok(());
            }
        }
        self.take(size_of::<(Value, Value)>())?;
        entries.push((key, value));
        Ok(())
    }
}

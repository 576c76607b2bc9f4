//! The filters of lists and mappings.

use std::cmp::Ordering;
use std::sync::Arc;

use super::arguments::{Given, int_of, needed, text_of};
use super::budget::{Budget, Result, fail};
use super::run::Run;
use super::value::Value;
use super::{methods, operators, sequence};
use crate::jinja::tree::Operator;

pub fn apply(run: &mut Run, name: &str, value: Value, given: Given) -> Result<Value> {
    match name {
        "map" => map(run, &value, given),
        "select" | "reject" => select(run, &value, name == "select", None, given),
        "selectattr" | "rejectattr" => {
            let mut given = given;
            if given.plain.is_empty() {
                return fail(format!("{name} needs the name of an attribute"));
            }
            let attribute = text_of(&given.plain.remove(0), name)?;
            select(run, &value, name == "selectattr", Some(attribute), given)
        }
        "join" => {
            let [between, attribute] = given.bind(name, ["d", "attribute"])?;
            let mut joint = String::new();
            if let Some(between) = between {
                super::text::print(&between, &mut joint, &mut run.budget)?;
            }
            let value = attributes(run, value, attribute)?;
            methods::join(&value, &joint, &mut run.budget)
        }
        "sum" => {
            let [attribute, start] = given.bind(name, ["attribute", "start"])?;
            let value = attributes(run, value, attribute)?;
            let mut sum = start.unwrap_or(Value::Int(0));
            for item in &run.budget.items(&value)?.items {
                sum = operators::arithmetic(Operator::Add, &sum, item, &mut run.budget)?;
            }
            Ok(sum)
        }
        "sort" => {
            let [reverse, exact, attribute] =
                given.bind(name, ["reverse", "case_sensitive", "attribute"])?;
            let keyed = keyed(run, &value, exact, attribute)?;
            sorted(keyed, reverse, &mut run.budget)
        }
        "dictsort" => dictsort(run, &value, given),
        "unique" => {
            let [exact, attribute] = given.bind(name, ["case_sensitive", "attribute"])?;
            unique(keyed(run, &value, exact, attribute)?, &mut run.budget)
        }
        "min" | "max" => {
            let [exact, attribute] = given.bind(name, ["case_sensitive", "attribute"])?;
            let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
            extreme(keyed(run, &value, exact, attribute)?, wanted, &mut run.budget)
        }
        _ => plain(name, &value, given, &mut run.budget),
    }
}

/// What looks at no item.
fn plain(name: &str, value: &Value, given: Given, budget: &mut Budget) -> Result<Value> {
    match name {
        "first" | "last" | "list" | "reverse" | "items" => {
            let [] = given.bind(name, [])?;
        }
        "batch" | "slice" => return cut(name, value, given, budget),
        _ => return fail(format!("no filter is named {name:?}")),
    }
    let list = match (name, value) {
        ("reverse", Value::Text(_)) => {
            return sequence::slice(value, [None, None, Some(-1)], budget);
        }
        ("items", Value::Dict(_)) => {
            return match methods::has(value, "items") {
                true => entries(value, budget),
                false => fail("no mapping"),
            };
        }
        ("items", Value::Undefined(_)) => return budget.list(Vec::new()),
        ("items", _) => return fail(format!("items takes a mapping, not a {}", value.kind())),
        _ => budget.items(value)?,
    };
    match name {
        "first" => {
            Ok(list.items.first().cloned().unwrap_or_else(|| Value::undefined("the first item")))
        }
        "last" => {
            Ok(list.items.last().cloned().unwrap_or_else(|| Value::undefined("the last item")))
        }
        _ => {
            let mut items = Vec::new();
            for item in &list.items {
                budget.push(&mut items, item.clone())?;
            }
            if name == "reverse" {
                items.reverse();
            }
            budget.list(items)
        }
    }
}

fn entries(value: &Value, budget: &mut Budget) -> Result<Value> {
    let Value::Dict(dict) = value else { return fail("no mapping") };
    let mut items = Vec::new();
    for (key, value) in &dict.entries {
        budget.take(2 * size_of::<Value>())?;
        let pair = budget.sequence(vec![key.clone(), value.clone()], true)?;
        budget.push(&mut items, pair)?;
    }
    budget.list(items)
}

/// `batch` into lists of a length, `slice` into a number of lists.
fn cut(name: &str, value: &Value, given: Given, budget: &mut Budget) -> Result<Value> {
    let [count, fill] = given.bind(name, ["count", "fill_with"])?;
    let count = usize::try_from(int_of(&needed(count, name)?, name)?).unwrap_or(0);
    let fill = fill.filter(|fill| !matches!(fill, Value::None));
    if count == 0 {
        return fail(format!("{name} takes a number over 0"));
    }
    let list = budget.items(value)?;
    let len = list.items.len();
    let (parts, rest) = match name {
        "batch" => (len.div_ceil(count), 0),
        _ => (count, len % count),
    };
    let mut lists = Vec::new();
    let mut at = 0;
    for n in 0..parts {
        let size = match name {
            "batch" => count,
            _ => len / count + usize::from(n < rest),
        };
        let mut items = Vec::new();
        for item in list.items.iter().skip(at).take(size) {
            budget.push(&mut items, item.clone())?;
        }
        at = at.saturating_add(size);
        if let Some(fill) = &fill {
            let missing = match name {
                "batch" => count - items.len(),
                _ => usize::from(n >= rest),
            };
            for _ in 0..missing {
                budget.push(&mut items, fill.clone())?;
            }
        }
        let items = budget.list(items)?;
        budget.push(&mut lists, items)?;
    }
    budget.list(lists)
}

/// `map(attribute='a')`, or `map('filter', arguments)`
fn map(run: &mut Run, value: &Value, given: Given) -> Result<Value> {
    let list = run.budget.items(value)?;
    let mut items = Vec::new();
    if given.plain.is_empty() {
        let [attribute, default] = given.bind("map", ["attribute", "default"])?;
        let attribute = needed(attribute, "map")?;
        for item in &list.items {
            let found = path(run, item, &attribute)?;
            let found = match (found, &default) {
                (Value::Undefined(_), Some(default)) => default.clone(),
                (found, _) => found,
            };
            run.budget.push(&mut items, found)?;
        }
        return run.budget.list(items);
    }
    let filter = text_of(&given.plain[0], "map")?;
    for item in &list.items {
        let given = rest(run, &given)?;
        let value = run.filter(&filter, item.clone(), given)?;
        run.budget.push(&mut items, value)?;
    }
    run.budget.list(items)
}

/// All arguments but the first.
fn rest(run: &mut Run, given: &Given) -> Result<Given> {
    run.budget.take((given.plain.len() + given.named.len()) * size_of::<(Arc<str>, Value)>())?;
    let plain = given.plain.iter().skip(1).cloned().collect();
    Ok(Given { plain, named: given.named.clone() })
}

/// `given`: a test's name and its arguments; the truth without one.
fn select(
    run: &mut Run,
    value: &Value,
    wanted: bool,
    attribute: Option<Arc<str>>,
    given: Given,
) -> Result<Value> {
    let list = run.budget.items(value)?;
    let test = given.plain.first().map(|name| text_of(name, "a test")).transpose()?;
    let attribute = attribute.map(Value::Text);
    let mut items = Vec::new();
    for item in &list.items {
        let looked_at = match &attribute {
            Some(attribute) => path(run, item, attribute)?,
            None => item.clone(),
        };
        run.budget.work(1)?;
        let holds = match &test {
            Some(test) => {
                let given = rest(run, &given)?;
                run.test(test, &looked_at, given)?
            }
            None => looked_at.truth(),
        };
        if holds == wanted {
            run.budget.push(&mut items, item.clone())?;
        }
    }
    run.budget.list(items)
}

/// `a.b.0` of a value.
fn path(run: &mut Run, value: &Value, path: &Value) -> Result<Value> {
    let Value::Text(path) = path else { return run.item(value, path) };
    run.budget.scan(path.len())?;
    let mut value = value.clone();
    for part in path.split('.') {
        let key = match part.parse() {
            Ok(at) => Value::Int(at),
            Err(_) => run.budget.text(part)?,
        };
        value = run.item(&value, &key)?;
    }
    Ok(value)
}

fn attributes(run: &mut Run, value: Value, attribute: Option<Value>) -> Result<Value> {
    match attribute {
        None | Some(Value::None) => Ok(value),
        Some(attribute) => {
            let named = vec![("attribute".into(), attribute)];
            map(run, &value, Given { plain: Vec::new(), named })
        }
    }
}

/// Items with what they are compared by: texts without their case, unless `exact`.
fn keyed(
    run: &mut Run,
    value: &Value,
    exact: Option<Value>,
    attribute: Option<Value>,
) -> Result<Vec<(Value, Value)>> {
    let list = run.budget.items(value)?;
    let exact = exact.is_some_and(|exact| exact.truth());
    let mut keyed = Vec::new();
    for item in &list.items {
        let key = match &attribute {
            None | Some(Value::None) => item.clone(),
            Some(attribute) => path(run, item, attribute)?,
        };
        let key = match &key {
            Value::Text(text) if !exact => {
                run.budget.take(text.len())?;
                run.budget.text(&text.to_lowercase())?
            }
            _ => key,
        };
        run.budget.take(size_of::<(Value, Value)>())?;
        keyed.push((key, item.clone()));
    }
    Ok(keyed)
}

fn sorted(
    mut keyed: Vec<(Value, Value)>,
    reverse: Option<Value>,
    budget: &mut Budget,
) -> Result<Value> {
    let reverse = reverse.is_some_and(|reverse| reverse.truth());
    sequence::sort(&mut keyed, budget, |(a, _), (b, _), budget| {
        let order = budget.order(a, b)?;
        Ok(if reverse { order.reverse() } else { order })
    })?;
    budget.take(keyed.len() * size_of::<Value>())?;
    budget.list(keyed.into_iter().map(|(_, item)| item).collect())
}

fn dictsort(run: &mut Run, value: &Value, given: Given) -> Result<Value> {
    let [exact, by, reverse] = given.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    let at = match by.as_ref().map(|by| by.as_text()) {
        None | Some(Some("key")) => 0,
        Some(Some("value")) => 1,
        _ => return fail("dictsort: by is key or value"),
    };
    if !matches!(value, Value::Dict(_)) {
        return fail(format!("dictsort takes a mapping, not a {}", value.kind()));
    }
    let pairs = entries(value, &mut run.budget)?;
    let keyed = keyed(run, &pairs, exact, Some(Value::Int(at)))?;
    sorted(keyed, reverse, &mut run.budget)
}

fn unique(keyed: Vec<(Value, Value)>, budget: &mut Budget) -> Result<Value> {
    let mut seen: Vec<Value> = Vec::new();
    let mut items = Vec::new();
    'items: for (key, item) in keyed {
        for known in &seen {
            if budget.equal(known, &key)? {
                continue 'items;
            }
        }
        budget.push(&mut seen, key)?;
        budget.push(&mut items, item)?;
    }
    budget.list(items)
}

fn extreme(keyed: Vec<(Value, Value)>, wanted: Ordering, budget: &mut Budget) -> Result<Value> {
    let mut best: Option<(Value, Value)> = None;
    for (key, item) in keyed {
        let better = match &best {
            Some((known, _)) => budget.order(&key, known)? == wanted,
            None => true,
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or_else(|| Value::undefined("the extreme of no items"), |(_, item)| item))
}

//! Parts and orders of lists and texts.

use std::cmp::Ordering;

use super::budget::{Budget, Result, fail};
use super::value::Value;

/// `value[start:stop:step]`
pub fn slice(value: &Value, bounds: [Option<i64>; 3], budget: &mut Budget) -> Result<Value> {
    match value {
        Value::Text(text) => {
            budget.scan(text.len())?;
            if bounds[2].unwrap_or(1) == 1 {
                return part_of_text(text, bounds, budget);
            }
            budget.take(4 * text.len())?;
            let chars: Vec<char> = text.chars().collect();
            let mut part = String::new();
            for at in places(chars.len(), bounds)? {
                if let Some(c) = chars.get(at) {
                    budget.append_char(&mut part, *c)?;
                }
            }
            budget.text(&part)
        }
        Value::List(list) => {
            let mut items = Vec::new();
            for at in places(list.items.len(), bounds)? {
                if let Some(item) = list.items.get(at) {
                    budget.push(&mut items, item.clone())?;
                }
            }
            budget.sequence(items, list.tuple)
        }
        Value::Undefined(_) => value.defined().map(|()| Value::None),
        _ => fail(format!("a {} has no slices", value.kind())),
    }
}

fn part_of_text(text: &str, bounds: [Option<i64>; 3], budget: &mut Budget) -> Result<Value> {
    let len = text.chars().count() as i64;
    let [start, stop] = [bounds[0].unwrap_or(0), bounds[1].unwrap_or(len)].map(|bound| {
        let at = if bound < 0 { bound.saturating_add(len) } else { bound };
        at.clamp(0, len) as usize
    });
    let place = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
    budget.text(text.get(place(start)..place(stop)).unwrap_or_default())
}

/// The items that a slice has, by Python's rules.
fn places(
    len: usize,
    [start, stop, step]: [Option<i64>; 3],
) -> Result<impl Iterator<Item = usize>> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return fail("the step of a slice is 0");
    }
    let len = len as i64;
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let place = |bound: Option<i64>, default: i64| match bound {
        None => default,
        Some(at) if at < 0 => at.saturating_add(len).clamp(low, high),
        Some(at) => at.clamp(low, high),
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (start, stop) = (place(start, first), place(stop, last));
    let goes_on = move |at: &i64| if step > 0 { *at < stop } else { *at > stop };
    Ok(std::iter::successors(Some(start), move |at| at.checked_add(step))
        .take_while(goes_on)
        .filter_map(|at| usize::try_from(at).ok()))
}

/// Merge sort, stable, whose comparisons may fail and are paid for.
pub fn sort<T: Clone>(
    items: &mut Vec<T>,
    budget: &mut Budget,
    order: impl Fn(&T, &T, &mut Budget) -> Result<Ordering>,
) -> Result<()> {
    let mut width = 1;
    while width < items.len() {
        budget.take(items.len() * size_of::<T>())?;
        let mut merged = Vec::with_capacity(items.len());
        for pair in items.chunks(2 * width) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            while let ([a, left_rest @ ..], [b, right_rest @ ..]) = (left, right) {
                if order(a, b, budget)? == Ordering::Greater {
                    merged.push(b.clone());
                    right = right_rest;
                } else {
                    merged.push(a.clone());
                    left = left_rest;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        *items = merged;
        width *= 2;
    }
    Ok(())
}

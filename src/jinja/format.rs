//! `'%s' % x`, `'%s'|format(x)` and `'{}'.format(x)`.

use std::fmt::Write;
use std::sync::Arc;

use super::budget::{Budget, Result, fail};
use super::text;
use super::value::Value;

/// The longest that a value is padded or spelled out to.
const MAX_WIDTH: usize = 1000;

/// How a value is laid out.
#[derive(Default)]
struct Layout {
    left: bool,
    zeros: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// `named`: for `%(name)s`.
pub fn percent(
    format: &str,
    values: &[Value],
    named: Option<&[(Arc<str>, Value)]>,
    budget: &mut Budget,
) -> Result<Value> {
    let mut whole = String::new();
    let mut values_left = values.iter();
    let mut rest = format;
    while let Some((before, spec)) = rest.split_once('%') {
        budget.append(&mut whole, before)?;
        let (name, spec) = match spec.strip_prefix('(').and_then(|spec| spec.split_once(')')) {
            Some((name, spec)) => (Some(name), spec),
            None => (None, spec),
        };
        let (layout, spec) = layout(spec)?;
        let mut chars = spec.chars();
        let Some(kind) = chars.next() else { return fail("a format ends within a \"%\"") };
        rest = chars.as_str();
        if kind == '%' {
            budget.append(&mut whole, "%")?;
            continue;
        }
        let value = match (name, named, values) {
            (Some(name), Some(named), _) => {
                budget.work(named.len() / 4)?;
                named.iter().find(|(known, _)| &**known == name).map(|(_, value)| value.clone())
            }
            (Some(name), None, [Value::Dict(dict)]) => dict.get_name(name, budget)?.cloned(),
            (Some(_), None, _) => None,
            (None, _, _) => values_left.next().cloned(),
        };
        let Some(value) = value else { return fail("a format has too few values") };
        let text = spelled(&value, kind, &layout, budget)?;
        padded(&text, &layout, budget, &mut whole)?;
    }
    budget.append(&mut whole, rest)?;
    if named.is_none() && values_left.next().is_some() && !matches!(values, [Value::Dict(_)]) {
        return fail("a format has too many values");
    }
    budget.text(&whole)
}

fn layout(spec: &str) -> Result<(Layout, &str)> {
    let mut layout = Layout::default();
    let bare = spec.trim_start_matches(['-', '0', '+', ' ', '#']);
    for flag in spec.get(..spec.len() - bare.len()).unwrap_or_default().chars() {
        layout.left |= flag == '-';
        layout.zeros |= flag == '0';
        layout.plus |= flag == '+';
    }
    let (width, rest) = number(bare)?;
    layout.width = width.unwrap_or(0);
    match rest.strip_prefix('.') {
        None => Ok((layout, rest)),
        Some(rest) => {
            let (precision, rest) = number(rest)?;
            layout.precision = Some(precision.unwrap_or(0));
            Ok((layout, rest))
        }
    }
}

fn number(text: &str) -> Result<(Option<usize>, &str)> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.get(..text.len() - rest.len()).unwrap_or_default();
    if digits.is_empty() {
        return Ok((None, rest));
    }
    match digits.parse() {
        Ok(value) if value <= MAX_WIDTH => Ok((Some(value), rest)),
        _ => fail(format!("a format asks for more than {MAX_WIDTH} characters")),
    }
}

fn spelled(value: &Value, kind: char, layout: &Layout, budget: &mut Budget) -> Result<String> {
    let wrong = || fail(format!("a {} cannot be formatted by \"%{kind}\"", value.kind()));
    let plus = |text: String| match layout.plus && !text.starts_with('-') {
        true => format!("+{text}"),
        false => text,
    };
    Ok(match kind {
        's' | 'r' => {
            let mut text = String::new();
            match kind {
                's' => text::print(value, &mut text, budget)?,
                _ => text::repr(value, &mut text, budget)?,
            }
            match layout.precision {
                Some(len) => text.chars().take(len).collect(),
                None => text,
            }
        }
        'd' | 'i' => match (value.as_int(), value.as_float()) {
            (Some(int), _) => plus(int.to_string()),
            (None, Some(float)) => plus(format!("{:.0}", float.trunc())),
            _ => return wrong(),
        },
        'f' | 'F' => match value.as_float() {
            Some(float) => plus(format!("{float:.*}", layout.precision.unwrap_or(6))),
            None => return wrong(),
        },
        'x' | 'X' => match value.as_int() {
            Some(int) => {
                let mut text = if int < 0 { "-".to_owned() } else { String::new() };
                let _ = match kind {
                    'x' => write!(text, "{:x}", int.unsigned_abs()),
                    _ => write!(text, "{:X}", int.unsigned_abs()),
                };
                plus(text)
            }
            None => return wrong(),
        },
        _ => return fail(format!("a format of {kind:?} is not supported; known are s, d, f, x")),
    })
}

fn padded(text: &str, layout: &Layout, budget: &mut Budget, to: &mut String) -> Result<()> {
    let missing = layout.width.saturating_sub(text.chars().count());
    if layout.left {
        budget.append(to, text)?;
        return budget.append(to, &" ".repeat(missing));
    }
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) if layout.zeros => (text.get(..1).unwrap_or_default(), digits),
        _ => ("", text),
    };
    budget.append(to, sign)?;
    budget.append(to, &if layout.zeros { "0" } else { " " }.repeat(missing))?;
    budget.append(to, digits)
}

/// `'{} {0} {name}'.format(...)`, without what may stand behind a colon.
pub fn braces(
    format: &str,
    values: &[Value],
    named: &[(Arc<str>, Value)],
    budget: &mut Budget,
) -> Result<Value> {
    let mut whole = String::new();
    let mut next = 0;
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, spec) = rest.split_at(at);
        budget.append(&mut whole, before)?;
        if let Some(after) = ["{{", "}}"].iter().find_map(|pair| spec.strip_prefix(pair)) {
            budget.append(&mut whole, spec.get(..1).unwrap_or_default())?;
            rest = after;
            continue;
        }
        let field = spec.strip_prefix('{').and_then(|spec| spec.split_once('}'));
        let Some((field, after)) = field else { return fail("a format has a single brace") };
        rest = after;
        budget.work(named.len() / 4)?;
        let value = match (field, field.parse::<usize>()) {
            ("", _) => {
                next += 1;
                values.get(next - 1)
            }
            (_, Ok(at)) => values.get(at),
            _ => named.iter().find(|(name, _)| &**name == field).map(|(_, value)| value),
        };
        match value {
            Some(value) => text::print(value, &mut whole, budget)?,
            None => return fail(format!("a format has no value for {{{field}}}")),
        }
    }
    budget.append(&mut whole, rest)?;
    budget.text(&whole)
}

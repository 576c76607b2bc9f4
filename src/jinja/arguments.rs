//! How arguments reach functions, methods, filters and tests.

use std::sync::Arc;

use super::budget::{Result, fail};
use super::value::Value;

/// The arguments of a call.
#[derive(Default)]
pub struct Given {
    pub plain: Vec<Value>,
    pub named: Vec<(Arc<str>, Value)>,
}

impl Given {
    /// By the names of the parameters. `of`: for messages.
    pub fn bind<const N: usize>(self, of: &str, names: [&str; N]) -> Result<[Option<Value>; N]> {
        let mut values = [const { None }; N];
        if self.plain.len() > N {
            return fail(format!("{of} takes {N} arguments, not {}", self.plain.len()));
        }
        for (value, given) in values.iter_mut().zip(self.plain) {
            *value = Some(given);
        }
        for (name, given) in self.named {
            match names.iter().position(|known| **known == *name).and_then(|at| values.get_mut(at))
            {
                Some(value @ None) => *value = Some(given),
                Some(_) => return fail(format!("{of} has two values for {name:?}")),
                None => return fail(format!("{of} has no argument {name:?}")),
            }
        }
        Ok(values)
    }

    /// The one argument.
    pub fn one(self, of: &str) -> Result<Value> {
        let [value] = self.bind(of, [""])?;
        needed(value, of)
    }
}

pub fn needed(value: Option<Value>, of: &str) -> Result<Value> {
    value.map_or_else(|| fail(format!("{of} needs an argument")), Ok)
}

/// The text of an argument that is one.
pub fn text_of(value: &Value, of: &str) -> Result<Arc<str>> {
    value.defined()?;
    match value {
        Value::Text(text) => Ok(text.clone()),
        _ => fail(format!("{of} takes a text, not a {}", value.kind())),
    }
}

pub fn int_of(value: &Value, of: &str) -> Result<i64> {
    value.defined()?;
    let int = value.as_int();
    int.map_or_else(|| fail(format!("{of} takes a whole number, not a {}", value.kind())), Ok)
}

/// The argument, or its default; `none` is the default, too.
pub fn int_or(value: Option<Value>, default: i64, of: &str) -> Result<i64> {
    match value {
        None | Some(Value::None) => Ok(default),
        Some(value) => int_of(&value, of),
    }
}

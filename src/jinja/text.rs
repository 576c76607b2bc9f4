//! Values as text: as Python prints them, and as JSON.

use super::budget::{Budget, Result, fail};
use super::value::{Dict, Value};

/// White space as Python's `str` has it.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1C'..='\x1F').contains(&c)
}

/// Python's `repr` of a number, which also JSON has.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let text = format!("{value:?}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// `str(value)`
pub fn print(value: &Value, to: &mut String, budget: &mut Budget) -> Result<()> {
    match value {
        Value::Undefined(_) => Ok(()),
        Value::Text(text) => budget.append(to, text),
        _ => repr(value, to, budget),
    }
}

/// `repr(value)`. Containers are at most some levels deep and never hold themselves.
pub fn repr(value: &Value, to: &mut String, budget: &mut Budget) -> Result<()> {
    budget.work(1)?;
    match value {
        Value::Undefined(_) => budget.append(to, "Undefined"),
        Value::None => budget.append(to, "None"),
        Value::Bool(true) => budget.append(to, "True"),
        Value::Bool(false) => budget.append(to, "False"),
        Value::Int(value) => budget.append(to, &value.to_string()),
        Value::Float(value) => budget.append(to, &float(*value)),
        Value::Text(text) => quoted(text, to, budget),
        Value::List(list) => {
            budget.append(to, if list.tuple { "(" } else { "[" })?;
            for (n, item) in list.items.iter().enumerate() {
                budget.append(to, if n == 0 { "" } else { ", " })?;
                repr(item, to, budget)?;
            }
            let end = match (list.tuple, list.items.len()) {
                (false, _) => "]",
                (true, 1) => ",)",
                (true, _) => ")",
            };
            budget.append(to, end)
        }
        Value::Dict(dict) => {
            budget.append(to, "{")?;
            for (n, (key, value)) in dict.entries.iter().enumerate() {
                budget.append(to, if n == 0 { "" } else { ", " })?;
                repr(key, to, budget)?;
                budget.append(to, ": ")?;
                repr(value, to, budget)?;
            }
            budget.append(to, "}")
        }
        Value::Namespace(_) | Value::Loop(_) | Value::Function(_) => {
            fail(format!("a {} cannot be printed", value.kind()))
        }
    }
}

fn quoted(text: &str, to: &mut String, budget: &mut Budget) -> Result<()> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    budget.append_char(to, quote)?;
    for c in text.chars() {
        match c {
            '\n' => budget.append(to, "\\n")?,
            '\r' => budget.append(to, "\\r")?,
            '\t' => budget.append(to, "\\t")?,
            '\\' => budget.append(to, "\\\\")?,
            c if c == quote => {
                budget.append(to, "\\")?;
                budget.append_char(to, c)?;
            }
            c if is_printable(c) => budget.append_char(to, c)?,
            c if u32::from(c) < 0x100 => budget.append(to, &format!("\\x{:02x}", u32::from(c)))?,
            c if u32::from(c) < 0x10000 => {
                budget.append(to, &format!("\\u{:04x}", u32::from(c)))?
            }
            c => budget.append(to, &format!("\\U{:08x}", u32::from(c)))?,
        }
    }
    budget.append_char(to, quote)
}

fn is_printable(c: char) -> bool {
    c == ' '
        || !(c.is_control()
            || is_space(c)
            || matches!(c, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}')
            || matches!(c, '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E000}'..='\u{F8FF}'))
}

/// How `tojson` writes; the defaults are those that transformers gives it.
pub struct Json {
    pub ascii: bool,
    pub indent: Option<String>,
    /// Between items, and after a key.
    pub separators: (String, String),
    pub sort_keys: bool,
}

impl Json {
    /// `level`: of containers around it.
    pub fn write(
        &self,
        value: &Value,
        level: usize,
        to: &mut String,
        budget: &mut Budget,
    ) -> Result<()> {
        budget.work(1)?;
        match value {
            Value::None => budget.append(to, "null"),
            Value::Bool(true) => budget.append(to, "true"),
            Value::Bool(false) => budget.append(to, "false"),
            Value::Int(value) => budget.append(to, &value.to_string()),
            Value::Float(value) => budget.append(to, &json_float(*value)),
            Value::Text(text) => self.text(text, to, budget),
            Value::List(list) if list.items.is_empty() => budget.append(to, "[]"),
            Value::List(list) => {
                budget.append(to, "[")?;
                for (n, item) in list.items.iter().enumerate() {
                    self.separate(n, level + 1, to, budget)?;
                    self.write(item, level + 1, to, budget)?;
                }
                self.new_line(level, to, budget)?;
                budget.append(to, "]")
            }
            Value::Dict(dict) if dict.entries.is_empty() => budget.append(to, "{}"),
            Value::Dict(dict) => {
                budget.append(to, "{")?;
                for (n, (key, value)) in self.entries(dict, budget)?.into_iter().enumerate() {
                    self.separate(n, level + 1, to, budget)?;
                    self.key(key, to, budget)?;
                    budget.append(to, &self.separators.1)?;
                    self.write(value, level + 1, to, budget)?;
                }
                self.new_line(level, to, budget)?;
                budget.append(to, "}")
            }
            _ => fail(format!("tojson: a {} has no JSON", value.kind())),
        }
    }

    fn entries<'d>(
        &self,
        dict: &'d Dict,
        budget: &mut Budget,
    ) -> Result<Vec<(&'d Value, &'d Value)>> {
        budget.take(dict.entries.len() * size_of::<(&Value, &Value)>())?;
        let mut entries: Vec<_> = dict.entries.iter().map(|(key, value)| (key, value)).collect();
        if self.sort_keys {
            super::sequence::sort(&mut entries, budget, |(a, _), (b, _), budget| {
                budget.order(a, b)
            })?;
        }
        Ok(entries)
    }

    fn key(&self, key: &Value, to: &mut String, budget: &mut Budget) -> Result<()> {
        match key {
            Value::Text(text) => self.text(text, to, budget),
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                budget.append(to, "\"")?;
                self.write(key, 0, to, budget)?;
                budget.append(to, "\"")
            }
            _ => fail(format!("tojson: a {} is no key of a mapping", key.kind())),
        }
    }

    fn separate(&self, n: usize, level: usize, to: &mut String, budget: &mut Budget) -> Result<()> {
        if n > 0 {
            budget.append(to, &self.separators.0)?;
        }
        self.new_line(level, to, budget)
    }

    fn new_line(&self, level: usize, to: &mut String, budget: &mut Budget) -> Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        budget.append(to, "\n")?;
        (0..level).try_for_each(|_| budget.append(to, indent))
    }

    fn text(&self, text: &str, to: &mut String, budget: &mut Budget) -> Result<()> {
        budget.append(to, "\"")?;
        for c in text.chars() {
            match c {
                '"' => budget.append(to, "\\\"")?,
                '\\' => budget.append(to, "\\\\")?,
                '\n' => budget.append(to, "\\n")?,
                '\r' => budget.append(to, "\\r")?,
                '\t' => budget.append(to, "\\t")?,
                '\x08' => budget.append(to, "\\b")?,
                '\x0C' => budget.append(to, "\\f")?,
                c if c < ' ' || (self.ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        budget.append(to, &format!("\\u{unit:04x}"))?;
                    }
                }
                c => budget.append_char(to, c)?,
            }
        }
        budget.append(to, "\"")
    }
}

fn json_float(value: f64) -> String {
    match float(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        text => text.into(),
    }
}

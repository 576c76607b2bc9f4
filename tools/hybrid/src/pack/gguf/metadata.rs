//! The key-value part of a GGUF file.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::cursor::{Cursor, TOO_SHORT};

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any unsigned or signed integer type, and bool as 0 or 1.
    Integer(i128),
    Float(f64),
    Text(String),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
}

#[derive(Debug, Default)]
pub struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    pub(super) fn parse(cursor: &mut Cursor, count: u64) -> Result<Metadata> {
        let mut pairs = BTreeMap::new();
        // Each pair takes bytes, so a huge `count` ends at the end of the file.
        for index in 0..count {
            let key = cursor.string().with_context(|| format!("metadata key number {index}"))?;
            let value = value(cursor).with_context(|| format!("metadata {key}"))?;
            ensure!(pairs.insert(key.to_owned(), value).is_none(), "metadata {key} is there twice");
        }
        Ok(Metadata(pairs))
    }

    pub fn set(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    pub fn integer(&self, key: &str) -> Result<Option<i128>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integer(value)) => Ok(Some(*value)),
            Some(_) => bail!("metadata {key} is not an integer"),
        }
    }

    /// A size: an integer from 1 to 2^24.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        self.integer(key)?.map(|value| size(key, value)).transpose()
    }

    /// A size or 0 for each of `layers` layers: one integer for all, or an array.
    pub fn counts(&self, key: &str, layers: usize) -> Result<Option<Vec<usize>>> {
        let count = |value: i128| if value == 0 { Ok(0) } else { size(key, value) };
        match self.get(key) {
            Some(Value::Integers(values)) => {
                ensure!(
                    values.len() == layers,
                    "{key} has {} entries for {layers} layers",
                    values.len()
                );
                let values = values.iter().map(|value| count((*value).into()));
                values.collect::<Result<_>>().map(Some)
            }
            _ => self.integer(key)?.map(|value| Ok(vec![count(value)?; layers])).transpose(),
        }
    }

    pub fn float(&self, key: &str) -> Result<Option<f32>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(value)) if value.is_finite() => Ok(Some(*value as f32)),
            Some(_) => bail!("metadata {key} is not a finite number"),
        }
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        Ok(self.integer(key)?.map(|value| value != 0))
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => bail!("metadata {key} is not a string"),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Option<&[String]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            Some(_) => bail!("metadata {key} is not an array of strings"),
        }
    }

    pub fn integers(&self, key: &str) -> Result<Option<&[i64]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Integers(integers)) => Ok(Some(integers)),
            Some(_) => bail!("metadata {key} is not an array of integers"),
        }
    }

    pub fn floats(&self, key: &str) -> Result<Option<&[f32]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Floats(floats)) => Ok(Some(floats)),
            Some(_) => bail!("metadata {key} is not an array of floats"),
        }
    }
}

/// The value of a key the file must have.
pub fn required<T>(key: &str, value: Result<Option<T>>) -> Result<T> {
    value?.with_context(|| format!("metadata {key} is missing"))
}

fn size(key: &str, value: i128) -> Result<usize> {
    match usize::try_from(value) {
        Ok(value) if (1..=1 << 24).contains(&value) => Ok(value),
        _ => bail!("metadata {key} is {value}, expected 1 to {}", 1 << 24),
    }
}

/// Vocabularies are the longest arrays, and have less than a million.
const MAX_ELEMENTS: usize = 1 << 24;

const STRING: u32 = 8;
const ARRAY: u32 = 9;

fn value(cursor: &mut Cursor) -> Result<Value> {
    match cursor.u32()? {
        STRING => Ok(Value::Text(cursor.string()?.to_owned())),
        ARRAY => array(cursor),
        kind => scalar(cursor, kind),
    }
}

fn scalar(cursor: &mut Cursor, kind: u32) -> Result<Value> {
    Ok(match kind {
        0 => Value::Integer(cursor.u8()?.into()),
        1 => Value::Integer((cursor.u8()? as i8).into()),
        2 => Value::Integer(cursor.u16()?.into()),
        3 => Value::Integer((cursor.u16()? as i16).into()),
        4 => Value::Integer(cursor.u32()?.into()),
        5 => Value::Integer((cursor.u32()? as i32).into()),
        6 => Value::Float(cursor.f32()?.into()),
        7 => Value::Integer((cursor.u8()? != 0).into()),
        10 => Value::Integer(cursor.u64()?.into()),
        11 => Value::Integer((cursor.u64()? as i64).into()),
        12 => Value::Float(cursor.f64()?),
        other => bail!("value type {other} is unknown"),
    })
}

/// The least bytes an element of a type takes: a string has at least its length.
fn least_bytes(kind: u32) -> Result<usize> {
    Ok(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        STRING | 10..=12 => 8,
        ARRAY => bail!("arrays of arrays are not supported"),
        other => bail!("value type {other} is unknown"),
    })
}

fn array(cursor: &mut Cursor) -> Result<Value> {
    let kind = cursor.u32()?;
    let count = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
    let fits = count.checked_mul(least_bytes(kind)?).is_some_and(|n| n <= cursor.remaining());
    ensure!(fits, "its {count} elements go on after the end: {TOO_SHORT}");
    ensure!(count <= MAX_ELEMENTS, "an array of {count} elements is longer than {MAX_ELEMENTS}");
    Ok(match kind {
        STRING => {
            let text = |_| cursor.string().map(str::to_owned);
            Value::Texts((0..count).map(text).collect::<Result<_>>()?)
        }
        6 | 12 => Value::Floats(
            (0..count)
                .map(|_| match scalar(cursor, kind)? {
                    Value::Float(value) => Ok(value as f32),
                    _ => bail!("value type {kind} is not a float"),
                })
                .collect::<Result<_>>()?,
        ),
        _ => Value::Integers(
            (0..count)
                .map(|_| match scalar(cursor, kind)? {
                    Value::Integer(value) => Ok(i64::try_from(value)?),
                    _ => bail!("value type {kind} is not an integer"),
                })
                .collect::<Result<_>>()?,
        ),
    })
}

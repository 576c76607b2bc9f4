//! The values of a template, which are Python's.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use super::budget::{Budget, Result, fail};
use super::tree::Macro;

/// Lists and mappings within one another.
const MAX_LEVELS: u8 = 32;
/// What an allocation costs beside its content.
const ALLOCATION: usize = 48;

#[derive(Clone)]
pub enum Value {
    /// What was asked for and is not there.
    Undefined(Arc<str>),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    List(Rc<List>),
    Dict(Rc<Dict>),
    Namespace(Rc<Namespace>),
    Loop(Rc<Loop>),
    Function(Rc<Function>),
}

/// A list or a tuple.
pub struct List {
    pub(super) items: Vec<Value>,
    pub(super) tuple: bool,
    /// Of containers within one another, this one included.
    pub(super) levels: u8,
}

/// In the order of its making.
pub struct Dict {
    pub(super) entries: Vec<(Value, Value)>,
    pub(super) levels: u8,
}

/// What `namespace()` makes: the only value that changes.
#[derive(Default)]
pub struct Namespace(pub(super) RefCell<Vec<(Arc<str>, Value)>>);

/// The `loop` of a `for`.
pub struct Loop {
    pub(super) items: Rc<List>,
    pub(super) at: Cell<usize>,
    /// What `loop.changed` saw last.
    pub(super) last: RefCell<Option<Value>>,
}

/// What can be called.
pub enum Function {
    Global(&'static str),
    Method(Value, Arc<str>),
    /// With the scope that it was defined in.
    Macro(Arc<Macro>, usize),
    /// The body of a `call` block, which its macro knows as `caller`.
    Caller(Arc<Macro>, usize),
}

impl Value {
    pub(super) fn undefined(name: &str) -> Value {
        Value::Undefined(name.into())
    }

    /// The type as Python names it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::List(list) if list.tuple => "tuple",
            Value::List(_) => "list",
            Value::Dict(_) => "dict",
            Value::Namespace(_) => "Namespace",
            Value::Loop(_) => "LoopContext",
            Value::Function(_) => "function",
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    pub(super) fn truth(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => !list.items.is_empty(),
            Value::Dict(dict) => !dict.entries.is_empty(),
            Value::Namespace(_) | Value::Loop(_) | Value::Function(_) => true,
        }
    }

    /// Containers within one another; an error for what can change and so could hold itself.
    pub(super) fn levels(&self) -> Result<u8> {
        match self {
            Value::List(list) => Ok(list.levels),
            Value::Dict(dict) => Ok(dict.levels),
            Value::Namespace(_) | Value::Loop(_) | Value::Function(_) => fail(format!(
                "a {} cannot be put into a list, a mapping or a namespace",
                self.kind()
            )),
            _ => Ok(0),
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As Python's numbers: `True` is 1.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Bool(value) => Some(i64::from(*value)),
            _ => None,
        }
    }

    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Value::Float(value) => Some(*value),
            _ => self.as_int().map(|value| value as f64),
        }
    }

    /// `UndefinedError`, where Jinja raises it.
    pub(super) fn defined(&self) -> Result<()> {
        match self {
            Value::Undefined(name) => fail(format!("{name} is undefined")),
            _ => Ok(()),
        }
    }
}

impl Dict {
    pub(super) fn get(&self, key: &Value, budget: &mut Budget) -> Result<Option<&Value>> {
        for (name, value) in &self.entries {
            if budget.equal(name, key)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    pub(super) fn get_name(&self, key: &str, budget: &mut Budget) -> Result<Option<&Value>> {
        budget.names(self.entries.iter().filter_map(|(name, _)| name.as_text()), key)?;
        let found = self.entries.iter().find(|(name, _)| name.as_text() == Some(key));
        Ok(found.map(|(_, value)| value))
    }
}

/// Values are made, compared and kept on a budget.
impl Budget<'_> {
    /// Appends to a list that is being made. What a list has room for is paid, not what is in it:
    /// it doubles when it is full.
    pub fn push(&mut self, to: &mut Vec<Value>, value: Value) -> Result<()> {
        if to.len() == to.capacity() {
            let more = to.len().max(4);
            self.take(more.saturating_mul(size_of::<Value>()))?;
            to.reserve_exact(more);
        }
        self.scan(size_of::<Value>())?;
        to.push(value);
        Ok(())
    }

    pub fn text(&mut self, text: &str) -> Result<Value> {
        self.take(text.len() + ALLOCATION)?;
        Ok(Value::Text(text.into()))
    }

    /// Of items that were paid for.
    pub fn list(&mut self, items: Vec<Value>) -> Result<Value> {
        self.sequence(items, false)
    }

    pub fn sequence(&mut self, items: Vec<Value>, tuple: bool) -> Result<Value> {
        self.take(ALLOCATION)?;
        let levels = self.levels(items.iter())?;
        Ok(Value::List(Rc::new(List { items, tuple, levels })))
    }

    pub fn dict(&mut self, entries: Vec<(Value, Value)>) -> Result<Value> {
        self.take(ALLOCATION + entries.len() * size_of::<(Value, Value)>())?;
        let levels = self.levels(entries.iter().flat_map(|(key, value)| [key, value]))?;
        Ok(Value::Dict(Rc::new(Dict { entries, levels })))
    }

    /// Of a container that holds `parts`. Containers are never changed once made, and a namespace
    /// is no part of one: so nothing can hold itself.
    fn levels<'v>(&mut self, parts: impl Iterator<Item = &'v Value>) -> Result<u8> {
        let mut levels = 0;
        for part in parts {
            self.work(1)?;
            levels = levels.max(part.levels()?);
        }
        if levels >= MAX_LEVELS {
            return fail(format!("a list holds others over {MAX_LEVELS} levels deep"));
        }
        Ok(levels + 1)
    }

    /// Sets the value of a namespace's name, in place of an earlier one.
    pub fn keep(
        &mut self,
        values: &mut Vec<(Arc<str>, Value)>,
        name: Arc<str>,
        value: Value,
    ) -> Result<()> {
        self.names(values.iter().map(|(known, _)| &**known), &name)?;
        match values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => {
                self.take(size_of::<(Arc<str>, Value)>())?;
                values.push((name, value));
            }
        }
        Ok(())
    }

    /// `==`
    pub fn equal(&mut self, a: &Value, b: &Value) -> Result<bool> {
        self.work(1)?;
        Ok(match (a, b) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::Text(a), Value::Text(b)) => {
                self.scan(a.len().min(b.len()))?;
                a == b
            }
            (Value::List(a), Value::List(b)) => {
                if a.tuple != b.tuple || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Dict(a), Value::Dict(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, a) in &a.entries {
                    match b.get(key, self)? {
                        Some(b) if self.equal(a, b)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
            (Value::Loop(a), Value::Loop(b)) => Rc::ptr_eq(a, b),
            (Value::Function(a), Value::Function(b)) => Rc::ptr_eq(a, b),
            _ => match (a.as_int(), b.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((a.as_float(), b.as_float()), (Some(a), Some(b)) if a == b),
            },
        })
    }

    /// `<` and its like: numbers, texts, and lists of them.
    pub fn order(&mut self, a: &Value, b: &Value) -> Result<Ordering> {
        self.work(1)?;
        match (a, b) {
            (Value::Text(a), Value::Text(b)) => {
                self.scan(a.len().min(b.len()))?;
                return Ok(a.cmp(b));
            }
            (Value::List(a), Value::List(b)) if a.tuple == b.tuple => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !self.equal(a, b)? {
                        return self.order(a, b);
                    }
                }
                return Ok(a.items.len().cmp(&b.items.len()));
            }
            _ => {}
        }
        a.defined()?;
        b.defined()?;
        if let (Some(a), Some(b)) = (a.as_int(), b.as_int()) {
            return Ok(a.cmp(&b));
        }
        match (a.as_float(), b.as_float()) {
            (Some(a), Some(b)) => Ok(a.total_cmp(&b)),
            _ => fail(format!("{} and {} have no order", a.kind(), b.kind())),
        }
    }

    /// What a `for` goes through.
    pub fn items(&mut self, value: &Value) -> Result<Rc<List>> {
        let mut items = Vec::new();
        match value {
            Value::List(list) => return Ok(list.clone()),
            Value::Undefined(_) => {}
            Value::Text(text) => {
                let mut letter = [0; 4];
                for c in text.chars() {
                    let value = self.text(c.encode_utf8(&mut letter))?;
                    self.push(&mut items, value)?;
                }
            }
            Value::Dict(dict) => {
                for (key, _) in &dict.entries {
                    self.push(&mut items, key.clone())?;
                }
            }
            Value::Loop(of) => return Ok(of.items.clone()),
            _ => return fail(format!("a {} has no items", value.kind())),
        }
        match self.list(items)? {
            Value::List(list) => Ok(list),
            _ => fail("no list"),
        }
    }
}

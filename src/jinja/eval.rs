//! Carries out the expressions of a template.

use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Given;
use super::budget::{Result, fail};
use super::run::Run;
use super::tree::*;
use super::value::{Function, Loop, Value};
use super::{checks, filters, function, methods, operators, sequence, text};

impl Run<'_> {
    /// A function for each kind, so that nested ones need little stack.
    pub fn value(&mut self, expr: &Expr) -> Result<Value> {
        match expr {
            Expr::None => Ok(Value::None),
            Expr::Bool(value) => Ok(Value::Bool(*value)),
            Expr::Int(value) => Ok(Value::Int(*value)),
            Expr::Float(value) => Ok(Value::Float(*value)),
            Expr::Text(text) => Ok(Value::Text(text.clone())),
            Expr::Name(name) => self.name(name),
            _ => {
                self.budget.enter()?;
                let value = self.compound(expr)?;
                self.budget.leave();
                Ok(value)
            }
        }
    }

    fn compound(&mut self, expr: &Expr) -> Result<Value> {
        match expr {
            Expr::List(items) => self.sequence(items, false),
            Expr::Tuple(items) => self.sequence(items, true),
            Expr::Dict(entries) => self.dict(entries),
            Expr::Chain(first, links) => self.links(first, links),
            Expr::Sign(negated, value) => self.sign(*negated, value),
            Expr::Not(negated, value) => Ok(Value::Bool(self.value(value)?.truth() != *negated)),
            Expr::Arithmetic(first, rest) => self.arithmetic(first, rest),
            Expr::Concat(parts) => self.concat(parts),
            Expr::Compare(first, rest) => self.compare(first, rest),
            Expr::And(parts) => self.first(parts, false),
            Expr::Or(parts) => self.first(parts, true),
            Expr::If(arms, last) => self.choice(arms, last.as_deref()),
            _ => self.value(expr),
        }
    }

    fn name(&mut self, name: &Arc<str>) -> Result<Value> {
        if let Some(value) = self.lookup(name)? {
            return Ok(value);
        }
        let global = function::GLOBALS.iter().find(|known| **known == &**name);
        Ok(match global {
            Some(global) => Value::Function(Rc::new(Function::Global(global))),
            None => Value::Undefined(name.clone()),
        })
    }

    #[inline(never)]
    fn sequence(&mut self, items: &[Expr], tuple: bool) -> Result<Value> {
        let mut values = Vec::new();
        for item in items {
            let value = self.value(item)?;
            self.budget.push(&mut values, value)?;
        }
        self.budget.sequence(values, tuple)
    }

    #[inline(never)]
    fn dict(&mut self, entries: &[(Expr, Expr)]) -> Result<Value> {
        let mut values: Vec<(Value, Value)> = Vec::new();
        for (key, value) in entries {
            let (key, value) = (self.value(key)?, self.value(value)?);
            self.budget.insert(&mut values, key, value)?;
        }
        self.budget.dict(values)
    }

    #[inline(never)]
    fn sign(&mut self, negated: bool, value: &Expr) -> Result<Value> {
        let value = self.value(value)?;
        operators::sign(negated, &value)
    }

    #[inline(never)]
    fn arithmetic(&mut self, first: &Expr, rest: &[(Operator, Expr)]) -> Result<Value> {
        let mut left = self.value(first)?;
        for (operator, right) in rest {
            let right = self.value(right)?;
            left = operators::arithmetic(*operator, &left, &right, &mut self.budget)?;
        }
        Ok(left)
    }

    #[inline(never)]
    fn concat(&mut self, parts: &[Expr]) -> Result<Value> {
        let mut whole = String::new();
        for part in parts {
            let value = self.value(part)?;
            text::print(&value, &mut whole, &mut self.budget)?;
        }
        self.budget.text(&whole)
    }

    #[inline(never)]
    fn compare(&mut self, first: &Expr, rest: &[(Comparison, Expr)]) -> Result<Value> {
        let mut left = self.value(first)?;
        for (comparison, right) in rest {
            let right = self.value(right)?;
            if !operators::compare(*comparison, &left, &right, &mut self.budget)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// The first part whose truth is `wanted`, or the last.
    #[inline(never)]
    fn first(&mut self, parts: &[Expr], wanted: bool) -> Result<Value> {
        let mut value = Value::None;
        for part in parts {
            value = self.value(part)?;
            if value.truth() == wanted {
                break;
            }
        }
        Ok(value)
    }

    #[inline(never)]
    fn choice(&mut self, arms: &[(Expr, Expr)], last: Option<&Expr>) -> Result<Value> {
        for (value, condition) in arms {
            if self.value(condition)?.truth() {
                return self.value(value);
            }
        }
        match last {
            Some(last) => self.value(last),
            None => Ok(Value::undefined("the value of an if without else")),
        }
    }

    #[inline(never)]
    fn links(&mut self, first: &Expr, links: &[Link]) -> Result<Value> {
        // What is missing has a default, or is asked for.
        let value = self.value(first)?;
        self.chain(value, links)
    }

    pub fn chain(&mut self, mut value: Value, links: &[Link]) -> Result<Value> {
        for link in links {
            self.budget.work(1)?;
            value = match link {
                Link::Attribute(name) => self.attribute(&value, name)?,
                Link::Item(key) => {
                    let key = self.value(key)?;
                    self.item(&value, &key)?
                }
                Link::Slice(parts) => self.slice(&value, parts)?,
                Link::Call(arguments) => {
                    let given = self.arguments(arguments)?;
                    self.call(&value, given)?
                }
                Link::Filter(name, arguments) => {
                    let given = self.arguments(arguments)?;
                    self.filter(name, value, given)?
                }
                Link::Test(negated, name, arguments) => {
                    let given = self.arguments(arguments)?;
                    Value::Bool(self.test(name, &value, given)? != *negated)
                }
            };
        }
        Ok(value)
    }

    #[inline(never)]
    pub fn arguments(&mut self, arguments: &Arguments) -> Result<Given> {
        let mut given = Given::default();
        for argument in &arguments.plain {
            let value = self.value(argument)?;
            self.budget.push(&mut given.plain, value)?;
        }
        for (name, argument) in &arguments.named {
            let value = self.value(argument)?;
            self.budget.take(size_of::<(Arc<str>, Value)>())?;
            given.named.push((name.clone(), value));
        }
        Ok(given)
    }

    pub fn filter(&mut self, name: &str, value: Value, given: Given) -> Result<Value> {
        filters::apply(self, name, value, given)
    }

    pub fn has_filter(&self, name: &str) -> bool {
        filters::NAMES.contains(&name)
    }

    pub fn test(&mut self, name: &str, value: &Value, given: Given) -> Result<bool> {
        checks::holds(self, name, value, given)
    }

    /// `value.name`: methods go before the entries of a mapping.
    #[inline(never)]
    pub fn attribute(&mut self, value: &Value, name: &Arc<str>) -> Result<Value> {
        value.defined()?;
        if methods::has(value, name) {
            self.budget.take(64)?;
            let method = Function::Method(value.clone(), name.clone());
            return Ok(Value::Function(Rc::new(method)));
        }
        let found = match value {
            Value::Dict(dict) => dict.get_name(name, &mut self.budget)?.cloned(),
            Value::Namespace(space) => {
                let values = space.0.borrow();
                self.budget.names(values.iter().map(|(known, _)| &**known), name)?;
                values.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            }
            Value::Loop(of) => loop_attribute(of, name),
            Value::Function(function) => match (&**function, &**name) {
                (Function::Macro(of, _), "name") => Some(Value::Text(of.name.clone())),
                _ => None,
            },
            _ => None,
        };
        Ok(found.unwrap_or_else(|| missing(value, name)))
    }

    /// `value[key]`
    #[inline(never)]
    pub fn item(&mut self, value: &Value, key: &Value) -> Result<Value> {
        value.defined()?;
        let at = |len: usize| {
            let key = key.as_int()?;
            let at = if key < 0 { key.checked_add(len as i64)? } else { key };
            usize::try_from(at).ok()
        };
        let found = match value {
            Value::Dict(dict) => dict.get(key, &mut self.budget)?.cloned(),
            Value::List(list) => at(list.items.len()).and_then(|at| list.items.get(at)).cloned(),
            Value::Text(text) if key.as_int().is_some() => {
                self.budget.scan(text.len())?;
                let c = at(text.chars().count()).and_then(|at| text.chars().nth(at));
                c.map(|c| self.budget.text(c.encode_utf8(&mut [0; 4]))).transpose()?
            }
            _ => None,
        };
        match (found, key) {
            (Some(found), _) => Ok(found),
            (None, Value::Text(name)) => self.attribute(value, name),
            (None, _) => Ok(missing(value, &format!("item {}", key.as_int().unwrap_or(0)))),
        }
    }

    #[inline(never)]
    fn slice(&mut self, value: &Value, parts: &[Option<Expr>; 3]) -> Result<Value> {
        let mut bounds = [None; 3];
        for (bound, part) in bounds.iter_mut().zip(parts) {
            if let Some(part) = part {
                let value = self.value(part)?;
                *bound = match (&value, value.as_int()) {
                    (Value::None, _) => None,
                    (_, Some(int)) => Some(int),
                    _ => return fail(format!("a slice by a {}; it takes numbers", value.kind())),
                };
            }
        }
        sequence::slice(value, bounds, &mut self.budget)
    }

    #[inline(never)]
    pub fn call(&mut self, value: &Value, given: Given) -> Result<Value> {
        value.defined()?;
        let Value::Function(function) = value else {
            return fail(format!("a {} cannot be called", value.kind()));
        };
        match &**function {
            Function::Global(name) => function::call(self, name, given),
            Function::Method(of, name) => methods::call(self, of, name, given),
            Function::Macro(of, scope) | Function::Caller(of, scope) => {
                self.call_macro(of, *scope, given)
            }
        }
    }
}

fn missing(value: &Value, name: &str) -> Value {
    // A key may be of any length.
    let name: String = name.chars().take(40).collect();
    Value::undefined(&format!("{name:?} of a {}", value.kind()))
}

fn loop_attribute(of: &Loop, name: &str) -> Option<Value> {
    let (at, len) = (of.at.get(), of.items.items.len());
    let item = |at: Option<usize>| {
        let item = at.and_then(|at| of.items.items.get(at)).cloned();
        item.unwrap_or_else(|| Value::undefined("the neighbour in a loop"))
    };
    Some(match name {
        "index" => Value::Int(at as i64 + 1),
        "index0" => Value::Int(at as i64),
        "revindex" => Value::Int((len - at) as i64),
        "revindex0" => Value::Int((len - at) as i64 - 1),
        "first" => Value::Bool(at == 0),
        "last" => Value::Bool(at + 1 == len),
        "length" => Value::Int(len as i64),
        // Of loops that call themselves, which are not supported.
        "depth" => Value::Int(1),
        "depth0" => Value::Int(0),
        "previtem" => item(at.checked_sub(1)),
        "nextitem" => item(at.checked_add(1)),
        _ => return None,
    })
}

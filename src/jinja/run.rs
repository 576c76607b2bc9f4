//! Carries out the statements of a template.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Given;
use super::budget::{Budget, MAX_OUTPUT, Result, fail};
use super::text;
use super::tree::*;
use super::value::{Function, List, Loop, Value};
use crate::cancel::Cancel;

/// Names and their values. The first scope is the template's.
struct Scope {
    values: Vec<(Arc<str>, Value)>,
    /// Where names are looked for next: the scope around it in the source.
    around: Option<usize>,
}

/// One rendering.
pub(super) struct Run<'a> {
    pub budget: Budget<'a>,
    /// Of what is carried out, for messages.
    pub line: u32,
    /// Seconds since 1970.
    pub now: u64,
    scopes: Vec<Scope>,
    /// What is written, and what captures write; the last is the innermost.
    out: Vec<String>,
    written: usize,
}

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

impl<'a> Run<'a> {
    pub fn new(values: Vec<(Arc<str>, Value)>, now: u64, cancel: &'a Cancel) -> Run<'a> {
        let scopes = vec![Scope { values, around: None }];
        let out = vec![String::new()];
        Run { budget: Budget::new(cancel), line: 1, now, scopes, out, written: 0 }
    }

    pub fn into_text(mut self) -> String {
        self.out.pop().unwrap_or_default()
    }

    pub fn body(&mut self, body: &Body) -> Result<Flow> {
        self.budget.enter()?;
        for statement in body {
            self.line = statement.line;
            self.budget.work(1)?;
            match self.statement(&statement.node)? {
                Flow::Next => {}
                flow => {
                    self.budget.leave();
                    return Ok(flow);
                }
            }
        }
        self.budget.leave();
        Ok(Flow::Next)
    }

    /// A function for each kind, so that nested ones need little stack.
    fn statement(&mut self, node: &Node) -> Result<Flow> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Output(value) => self.output(value)?,
            Node::If(arms, otherwise) => return self.choose(arms, otherwise),
            Node::For(each) => return self.each(each),
            Node::Set(target, value) => {
                let value = self.value(value)?;
                self.assign(target, value)?;
            }
            Node::SetBlock(target, links, body) => {
                let value = self.captured(links, body)?;
                self.assign(target, value)?;
            }
            Node::With(values, body) => return self.with(values, body),
            Node::Macro(of) => self.define(of)?,
            Node::Call(call, body) => self.call_with(call, body)?,
            Node::Filter(links, body) => {
                let value = self.captured(links, body)?;
                self.print(&value)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    #[inline(never)]
    fn output(&mut self, value: &Expr) -> Result<()> {
        let value = self.value(value)?;
        self.print(&value)
    }

    fn print(&mut self, value: &Value) -> Result<()> {
        if let Value::Text(text) = value {
            return self.write(text);
        }
        let mut printed = String::new();
        text::print(value, &mut printed, &mut self.budget)?;
        self.write(&printed)
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.written += text.len();
        if self.written > MAX_OUTPUT {
            return fail(format!("it writes more than the {MAX_OUTPUT} bytes allowed"));
        }
        match self.out.last_mut() {
            Some(out) => self.budget.append(out, text),
            None => Ok(()),
        }
    }

    #[inline(never)]
    fn choose(&mut self, arms: &[(Expr, Body)], otherwise: &Body) -> Result<Flow> {
        for (condition, body) in arms {
            if self.value(condition)?.truth() {
                return self.body(body);
            }
        }
        self.body(otherwise)
    }

    #[inline(never)]
    fn each(&mut self, each: &For) -> Result<Flow> {
        let items = self.items_of(each)?;
        if items.items.is_empty() {
            // What breaks there breaks the loop around.
            return self.body(&each.otherwise);
        }
        let state =
            Rc::new(Loop { items: items.clone(), at: Cell::new(0), last: RefCell::default() });
        let around = self.scope();
        for (at, item) in items.items.iter().enumerate() {
            state.at.set(at);
            self.open(Some(around));
            self.set("loop", Value::Loop(state.clone()))?;
            self.assign(&each.target, item.clone())?;
            let flow = self.body(&each.body)?;
            self.close();
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn items_of(&mut self, each: &For) -> Result<Rc<List>> {
        let over = self.value(&each.over)?;
        let all = self.budget.items(&over)?;
        let Some(condition) = &each.only_if else { return Ok(all) };
        let mut items = Vec::new();
        let around = self.scope();
        for item in &all.items {
            self.open(Some(around));
            self.assign(&each.target, item.clone())?;
            if self.value(condition)?.truth() {
                self.budget.push(&mut items, item.clone())?;
            }
            self.close();
        }
        let items = self.budget.list(items)?;
        self.budget.items(&items)
    }

    #[inline(never)]
    fn with(&mut self, values: &[(Target, Expr)], body: &Body) -> Result<Flow> {
        // The values see what is around, not each other.
        let mut ready = Vec::new();
        for (_, value) in values {
            ready.push(self.value(value)?);
        }
        self.open(Some(self.scope()));
        for ((target, _), value) in values.iter().zip(ready) {
            self.assign(target, value)?;
        }
        let flow = self.body(body)?;
        self.close();
        Ok(flow)
    }

    fn define(&mut self, of: &Arc<Macro>) -> Result<()> {
        let function = Function::Macro(of.clone(), self.scope());
        self.set(&of.name, Value::Function(Rc::new(function)))
    }

    /// What `body` writes, after the filters.
    #[inline(never)]
    fn captured(&mut self, links: &[Link], body: &Body) -> Result<Value> {
        self.open(Some(self.scope()));
        self.out.push(String::new());
        self.body(body)?;
        let text = self.out.pop().unwrap_or_default();
        self.close();
        let value = self.budget.text(&text)?;
        self.chain(value, links)
    }

    #[inline(never)]
    fn call_with(&mut self, call: &Expr, body: &Arc<Macro>) -> Result<()> {
        let caller = Value::Function(Rc::new(Function::Caller(body.clone(), self.scope())));
        let (Expr::Chain(first, links), caller) = (call, caller) else { return Ok(()) };
        let Some((Link::Call(arguments), before)) = links.split_last() else { return Ok(()) };
        let function = self.value(first)?;
        let function = self.chain(function, before)?;
        let mut given = self.arguments(arguments)?;
        given.named.push(("caller".into(), caller));
        let value = self.call(&function, given)?;
        self.print(&value)
    }

    /// What a macro writes. `scope`: the one that it was defined in.
    #[inline(never)]
    pub fn call_macro(&mut self, of: &Arc<Macro>, scope: usize, given: Given) -> Result<Value> {
        self.budget.enter()?;
        let line = self.line;
        self.open(Some(scope));
        self.bind(of, given)?;
        self.out.push(String::new());
        self.body(&of.body)?;
        let text = self.out.pop().unwrap_or_default();
        self.close();
        self.line = line;
        self.budget.leave();
        self.budget.text(&text)
    }

    fn bind(&mut self, of: &Macro, given: Given) -> Result<()> {
        let Given { plain, mut named } = given;
        self.budget.work(of.parameters.len().saturating_mul(1 + named.len() / 4))?;
        let mut plain = plain.into_iter();
        for (name, default) in &of.parameters {
            let value = match (plain.next(), named.iter().position(|(given, _)| given == name)) {
                (Some(_), Some(_)) => {
                    return fail(format!("{}() has two values for {name:?}", of.name));
                }
                (Some(value), None) => value,
                (None, Some(at)) => named.swap_remove(at).1,
                (None, None) => match default {
                    Some(default) => self.value(default)?,
                    None => Value::undefined(name),
                },
            };
            self.set(name, value)?;
        }
        let mut rest = Vec::new();
        for value in plain {
            self.budget.push(&mut rest, value)?;
        }
        if !rest.is_empty() && !of.takes_more {
            return fail(format!("{}() takes {} arguments", of.name, of.parameters.len()));
        }
        let rest = self.budget.sequence(rest, true)?;
        self.set("varargs", rest)?;
        if let Some(at) = named.iter().position(|(name, _)| &**name == "caller") {
            let (name, caller) = named.swap_remove(at);
            self.set(&name, caller)?;
        }
        if let (Some((name, _)), false) = (named.first(), of.takes_named) {
            return fail(format!("{}() has no argument {name:?}", of.name));
        }
        let named = named.into_iter().map(|(name, value)| (Value::Text(name), value)).collect();
        let named = self.budget.dict(named)?;
        self.set("kwargs", named)
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.set(name, value),
            Target::Names(targets) => {
                let values = self.budget.items(&value)?;
                if values.items.len() != targets.len() {
                    return fail(format!(
                        "{} values cannot be unpacked into {} names",
                        values.items.len(),
                        targets.len()
                    ));
                }
                for (target, value) in targets.iter().zip(&values.items) {
                    self.assign(target, value.clone())?;
                }
                Ok(())
            }
            Target::Attribute(name, attribute) => {
                let Some(Value::Namespace(space)) = self.lookup(name)? else {
                    return fail(format!("{name:?} is no namespace: nothing can be set in it"));
                };
                value.levels()?;
                let mut values = space.0.borrow_mut();
                self.budget.keep(&mut values, attribute.clone(), value)
            }
        }
    }

    fn scope(&self) -> usize {
        self.scopes.len() - 1
    }

    fn open(&mut self, around: Option<usize>) {
        self.scopes.push(Scope { values: Vec::new(), around });
    }

    fn close(&mut self) {
        self.scopes.pop();
    }

    fn set(&mut self, name: &str, value: Value) -> Result<()> {
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        self.budget.work(1 + scope.values.len() / 4)?;
        match scope.values.iter_mut().find(|(known, _)| &**known == name) {
            Some((_, old)) => *old = value,
            None => {
                self.budget.take(size_of::<(Arc<str>, Value)>() + name.len())?;
                scope.values.push((name.into(), value));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<Value> {
        let mut at = self.scopes.len().checked_sub(1);
        // A scope's surroundings come before it.
        while let Some(scope) = at.and_then(|at| self.scopes.get(at)) {
            if let Some((_, value)) = scope.values.iter().find(|(known, _)| &**known == name) {
                return Some(value.clone());
            }
            at = scope.around.filter(|around| Some(*around) < at);
        }
        None
    }

    /// As [`Run::find`], paid for.
    pub fn lookup(&mut self, name: &str) -> Result<Option<Value>> {
        let known: usize = self.scopes.iter().map(|scope| 1 + scope.values.len()).sum();
        self.budget.work(known / 8)?;
        Ok(self.find(name))
    }
}

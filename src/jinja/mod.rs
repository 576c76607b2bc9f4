//! Chat templates: the part of Jinja2 that they use, with Python's values, as transformers renders
//! them.
//!
//! Templates come from strangers with every model. A rendering has a budget of work, memory,
//! output and nesting (`budget`), and whatever takes any of them asks it first. That is why this is
//! no general engine with limits around it: `~` and `|join` must know them.
//!
//! Read `budget` and `value`, then the way of a template: `lexer`, `parser`, `expressions`, `tree`,
//! `run`, `eval`; what expressions may use is in the other files.
//!
//! *Invariants:* this module knows no bundle and no token. A value is never changed once made, but
//! for namespaces, and those are no part of other values: so nothing can hold itself.

use std::rc::Rc;
use std::sync::Arc;

use crate::cancel::Cancel;

mod arguments;
mod budget;
mod checks;
mod eval;
mod expressions;
mod filters;
mod format;
mod function;
mod lexer;
mod lists;
mod methods;
mod operators;
mod parser;
mod run;
mod sequence;
mod text;
mod time;
mod tree;
mod value;

#[cfg(test)]
mod tests;

pub use budget::Fault;
pub use value::Value;

/// The longest source; published templates have 30 kB at most.
const MAX_SOURCE: usize = 256 << 10;

/// A parsed template. Shared between threads.
pub struct Template(tree::Body);

impl Template {
    /// Errors: what is wrong with the source, with the line.
    pub fn parse(source: &str) -> Result<Template, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("it has more than the {MAX_SOURCE} bytes allowed"));
        }
        let source = lexer::normalised(source);
        let body = lexer::tokens(&source).and_then(parser::parse);
        body.map(Template).map_err(|(text, line)| format!("{text} (line {line})"))
    }

    /// `now`: seconds since 1970, for templates that write the date.
    ///
    /// Errors: what the template raises, what Jinja2 would refuse, and any limit of a rendering,
    /// which the error names; [`Fault::Cancelled`].
    pub fn render(
        &self,
        variables: Vec<(&str, Value)>,
        now: u64,
        cancel: &Cancel,
    ) -> Result<String, Fault> {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let mut run = run::Run::new(variables, now, cancel);
        match run.body(&self.0) {
            Ok(_) => Ok(run.into_text()),
            Err(Fault::Failed(text)) => Err(Fault::Failed(format!("{text} (line {})", run.line))),
            Err(fault) => Err(fault),
        }
    }
}

/// What a template is given.
impl Value {
    pub fn text(text: impl Into<Arc<str>>) -> Value {
        Value::Text(text.into())
    }

    /// Of plain values and of lists and mappings of them.
    pub fn list(items: Vec<Value>) -> Value {
        let levels = 1 + items.iter().filter_map(|item| item.levels().ok()).max().unwrap_or(0);
        Value::List(Rc::new(value::List { items, tuple: false, levels }))
    }

    /// As [`Value::list`].
    pub fn dict(entries: Vec<(&str, Value)>) -> Value {
        let levels = entries.iter().filter_map(|(_, value)| value.levels().ok()).max();
        let entries = entries.into_iter().map(|(key, value)| (Value::text(key), value)).collect();
        Value::Dict(Rc::new(value::Dict { entries, levels: 1 + levels.unwrap_or(0) }))
    }
}

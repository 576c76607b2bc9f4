//! A graph's nodes and constants by the names of values.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail};
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::values::Values;

pub struct Index<'a> {
    producers: HashMap<&'a str, (&'a NodeProto, usize)>,
    consumers: HashMap<&'a str, Vec<&'a NodeProto>>,
    constants: HashMap<&'a str, &'a TensorProto>,
    pub values: &'a Values,
    /// Constants that became a part of the model.
    used: RefCell<BTreeSet<&'a str>>,
}

/// Constants of which one is taken by the number of tokens.
pub struct Choice<'a> {
    pub few: &'a TensorProto,
    pub more: &'a TensorProto,
    /// How many are few.
    pub limit: usize,
}

/// Operators that leave the numbers as they are, as far as their order in a row goes.
const TRANSPARENT: &[&str] =
    &["Cast", "Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];

/// Longest way from one part of a layer to the next.
pub const MAX_STEPS: usize = 24;

impl<'a> Index<'a> {
    pub fn new(graph: &'a GraphProto, values: &'a Values) -> Index<'a> {
        let mut index = Index {
            producers: HashMap::new(),
            consumers: HashMap::new(),
            constants: HashMap::new(),
            values,
            used: RefCell::default(),
        };
        index.constants.extend(graph.initializer.iter().map(|tensor| (&*tensor.name, tensor)));
        for node in &graph.node {
            for (at, output) in node.output.iter().enumerate().filter(|(_, o)| !o.is_empty()) {
                index.producers.insert(output, (node, at));
                let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
                if let Some(tensor) = tensor.filter(|_| node.op_type == "Constant") {
                    index.constants.insert(output, tensor);
                }
            }
            for input in &node.input {
                index.consumers.entry(input).or_default().push(node);
            }
        }
        index
    }

    /// The node that makes a value, and which of its outputs it is.
    pub fn producer(&self, value: &str) -> Result<(&'a NodeProto, usize)> {
        let found = self.producers.get(value).copied();
        found.with_context(|| format!("no node makes {value}"))
    }

    pub fn consumers(&self, value: &str) -> &[&'a NodeProto] {
        self.consumers.get(value).map(Vec::as_slice).unwrap_or_default()
    }

    /// The constant behind a value, and whether it is transposed on its way.
    pub fn constant(&self, value: &str) -> Option<(&'a TensorProto, bool)> {
        let (mut name, mut transposed) = (value, false);
        for _ in 0..MAX_STEPS {
            if let Some((name, tensor)) = self.constants.get_key_value(name) {
                self.used.borrow_mut().insert(name);
                return Some((tensor, transposed));
            }
            let (node, _) = self.producers.get(name)?;
            match node.op_type.as_str() {
                "Transpose" => transposed = !transposed,
                "Cast" | "Identity" | "Reshape" => {}
                _ => return None,
            }
            name = node.input.first()?;
        }
        None
    }

    /// What an `If` gives for few tokens and for more of them.
    pub fn choice(&self, value: &str) -> Result<Choice<'a>> {
        let (node, at) = self.producer(value)?;
        let branch = |name: &str| -> Result<&'a TensorProto> {
            let named = node.attribute.iter().find(|attribute| attribute.name == name);
            let graph = named.and_then(|attribute| attribute.g.as_ref());
            let graph = graph.with_context(|| format!("node {} has no {name}", node.name))?;
            let output = graph.output.get(at).map(|output| &output.name);
            let maker = graph.node.iter().find(|node| node.output.first() == output);
            let made = maker.filter(|node| node.op_type == "Constant");
            let made = made.and_then(|node| node.attribute.iter().find_map(|a| a.t.as_ref()));
            let kept = || graph.initializer.iter().find(|tensor| Some(&tensor.name) == output);
            made.or_else(kept).with_context(|| format!("{name} of {} is computed", node.name))
        };
        let condition = self.before(first(node)?);
        let (condition, _) = self.producer(condition)?;
        let limit = input(condition, 1).and_then(|limit| self.constant(limit));
        let (limit, _) = limit
            .filter(|_| condition.op_type == "Greater")
            .with_context(|| format!("node {} does not compare tokens with a number", node.name))?;
        let limit = self.values.integers(limit)?.first().copied();
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        Ok(Choice {
            few: branch("else_branch")?,
            more: branch("then_branch")?,
            limit: limit.with_context(|| format!("node {} has no limit", node.name))?,
        })
    }

    /// A constant vector.
    pub fn vector(&self, value: &str) -> Result<Vec<f32>> {
        let (tensor, _) = self.constant(value).with_context(|| format!("{value} is computed"))?;
        self.values.floats(tensor)
    }

    /// Back over nodes that change nothing: the value that they were given.
    pub fn before(&self, value: &'a str) -> &'a str {
        let mut value = value;
        for _ in 0..MAX_STEPS {
            match self.producers.get(value) {
                Some((node, _)) if TRANSPARENT.contains(&&*node.op_type) => {
                    match node.input.first() {
                        Some(input) => value = input,
                        None => break,
                    }
                }
                _ => break,
            }
        }
        value
    }

    /// Forward over nodes that change nothing: the value itself and what they make of it.
    pub fn after(&self, value: &'a str) -> Vec<&'a str> {
        let mut values = vec![value];
        let mut at = 0;
        while let Some(value) = values.get(at).copied().filter(|_| at < MAX_STEPS) {
            for node in self.consumers(value) {
                let is_first = node.input.first().is_some_and(|input| input == value);
                if is_first && TRANSPARENT.contains(&&*node.op_type) {
                    values.extend(node.output.first().map(String::as_str));
                }
            }
            at += 1;
        }
        values
    }

    /// The nodes that read a value or what nodes that change nothing make of it.
    pub fn readers(&self, value: &'a str) -> Vec<(&'a NodeProto, &'a str)> {
        let mut readers = Vec::new();
        for value in self.after(value) {
            for node in self.consumers(value) {
                if !TRANSPARENT.contains(&&*node.op_type) && node.op_type != "Shape" {
                    readers.push((*node, value));
                }
            }
        }
        readers
    }

    /// A matrix that nobody asked for means that the model computes something unknown.
    pub fn check_all_used(&self) -> Result<()> {
        let used = self.used.borrow();
        for (name, tensor) in &self.constants {
            if tensor.dims.len() > 1 && super::values::is_weight(tensor) && !used.contains(name) {
                bail!("weights {name} are no part of a decoder that is known");
            }
        }
        Ok(())
    }
}

/// An input that is there.
pub fn input(node: &NodeProto, at: usize) -> Option<&str> {
    node.input.get(at).map(String::as_str).filter(|name| !name.is_empty())
}

/// The first input.
pub fn first(node: &NodeProto) -> Result<&str> {
    input(node, 0).with_context(|| format!("node {} has no input", node.name))
}

pub fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.i)
}

pub fn float(node: &NodeProto, name: &str) -> Option<f32> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.f)
}

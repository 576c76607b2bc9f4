//! A parsed template. Chains of operators and of links are flat, so that nothing is deeper than the
//! parser allows.

use std::sync::Arc;

pub type Body = Vec<Statement>;

pub struct Statement {
    pub line: u32,
    pub node: Node,
}

pub enum Node {
    Text(Box<str>),
    Output(Expr),
    If(Vec<(Expr, Body)>, Body),
    For(Box<For>),
    Set(Target, Expr),
    SetBlock(Target, Vec<Link>, Body),
    With(Vec<(Target, Expr)>, Body),
    Macro(Arc<Macro>),
    /// The call, and what is its `caller`.
    Call(Expr, Arc<Macro>),
    Filter(Vec<Link>, Body),
    Break,
    Continue,
}

pub struct For {
    pub target: Target,
    pub over: Expr,
    pub only_if: Option<Expr>,
    pub body: Body,
    pub otherwise: Body,
}

pub struct Macro {
    pub name: Arc<str>,
    pub parameters: Vec<(Arc<str>, Option<Expr>)>,
    pub body: Body,
    /// It uses `varargs`: there may be more arguments than parameters.
    pub takes_more: bool,
    /// It uses `kwargs`.
    pub takes_named: bool,
}

pub enum Target {
    Name(Arc<str>),
    Names(Vec<Target>),
    /// A namespace and its attribute.
    Attribute(Arc<str>, Arc<str>),
}

pub enum Expr {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    Name(Arc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// `a.b[c](d)|e is f`
    Chain(Box<Expr>, Vec<Link>),
    /// Whether the number is negated.
    Sign(bool, Box<Expr>),
    /// Whether the truth is negated; `not not x` is the truth of `x`.
    Not(bool, Box<Expr>),
    /// From left to right.
    Arithmetic(Box<Expr>, Vec<(Operator, Expr)>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// The first value whose condition holds, else the last.
    If(Vec<(Expr, Expr)>, Option<Box<Expr>>),
}

pub enum Link {
    Attribute(Arc<str>),
    Item(Expr),
    /// Start, stop, step.
    Slice(Box<[Option<Expr>; 3]>),
    Call(Arguments),
    Filter(Arc<str>, Arguments),
    /// Whether it is negated.
    Test(bool, Arc<str>, Arguments),
}

#[derive(Default)]
pub struct Arguments {
    pub plain: Vec<Expr>,
    pub named: Vec<(Arc<str>, Expr)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
}

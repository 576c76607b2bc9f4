//! Tokens to a tree: the expressions, by precedence.

use std::sync::Arc;

use super::lexer::Token;
use super::parser::{Parsed, Parser};
use super::tree::*;

/// Brackets, operands and choices within one another, and the operators of different strength over
/// them.
const MAX_NESTING: usize = 48;

/// How strongly operators bind; those of one level are one flat chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Or,
    And,
    Not,
    Compare,
    Add,
    Concat,
    Multiply,
    Power,
    Unary,
}

#[derive(Clone, Copy)]
enum Infix {
    Or,
    And,
    Compare(Comparison),
    Concat,
    Arithmetic(Operator),
}

impl<'s> Parser<'s> {
    fn enter(&mut self) -> Parsed<()> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return self.error(&format!("an expression is over {MAX_NESTING} levels deep"));
        }
        Ok(())
    }

    /// With what may stand without brackets: `1, 2` is a tuple.
    pub fn tuple(&mut self) -> Parsed<Expr> {
        let first = self.expression()?;
        if self.peek() != Some(Token::Mark(",")) {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_if(Token::Mark(",")) {
            if matches!(self.peek(), Some(Token::BlockEnd | Token::OutputEnd | Token::Mark(")"))) {
                break;
            }
            items.push(self.expression()?);
        }
        Ok(Expr::Tuple(items))
    }

    /// `a if b else c`
    pub fn expression(&mut self) -> Parsed<Expr> {
        let before = self.nesting;
        self.enter()?;
        let mut arms = Vec::new();
        let last = loop {
            let value = self.binary(Level::Or)?;
            if !self.skip_if(Token::Name("if")) {
                break Some(value);
            }
            let condition = self.binary(Level::Or)?;
            arms.push((value, condition));
            if !self.skip_if(Token::Name("else")) {
                break None;
            }
        };
        self.nesting = before;
        Ok(match last {
            Some(value) if arms.is_empty() => value,
            last => Expr::If(arms, last.map(Box::new)),
        })
    }

    /// What a `for` goes through: its `if` is a filter.
    pub fn items_of_for(&mut self) -> Parsed<Expr> {
        let first = self.binary(Level::Or)?;
        if self.peek() != Some(Token::Mark(",")) {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip_if(Token::Mark(",")) {
            items.push(self.binary(Level::Or)?);
        }
        Ok(Expr::Tuple(items))
    }

    /// Operators of `least` and stronger ones.
    fn binary(&mut self, least: Level) -> Parsed<Expr> {
        let before = self.nesting;
        self.enter()?;
        let mut left = match self.peek() {
            Some(Token::Name("not")) if least <= Level::Not => self.not()?,
            _ => self.unary()?,
        };
        let mut last = None;
        while let Some((level, infix)) = self.infix().filter(|(level, _)| *level >= least) {
            self.next();
            if matches!(infix, Infix::Compare(Comparison::NotIn)) {
                self.next();
            }
            if last != Some(level) {
                // What binds less goes around what was read.
                self.enter()?;
                last = Some(level);
                left = around(left, infix);
            }
            let right = self.binary(stronger(level))?;
            add(&mut left, infix, right);
        }
        self.nesting = before;
        Ok(left)
    }

    fn not(&mut self) -> Parsed<Expr> {
        let mut negated = false;
        while self.skip_if(Token::Name("not")) {
            negated = !negated;
        }
        Ok(Expr::Not(negated, Box::new(self.binary(Level::Compare)?)))
    }

    /// The operator that is next.
    fn infix(&self) -> Option<(Level, Infix)> {
        use Comparison::*;
        use Operator::*;
        let (level, infix) = match self.peek()? {
            Token::Name("or") => (Level::Or, Infix::Or),
            Token::Name("and") => (Level::And, Infix::And),
            Token::Name("in") => (Level::Compare, Infix::Compare(In)),
            Token::Name("not") if self.peek_second() == Some(Token::Name("in")) => {
                (Level::Compare, Infix::Compare(NotIn))
            }
            Token::Mark(mark) => match mark {
                "==" => (Level::Compare, Infix::Compare(Equal)),
                "!=" => (Level::Compare, Infix::Compare(NotEqual)),
                "<" => (Level::Compare, Infix::Compare(Less)),
                "<=" => (Level::Compare, Infix::Compare(LessEqual)),
                ">" => (Level::Compare, Infix::Compare(Greater)),
                ">=" => (Level::Compare, Infix::Compare(GreaterEqual)),
                "+" => (Level::Add, Infix::Arithmetic(Add)),
                "-" => (Level::Add, Infix::Arithmetic(Subtract)),
                "~" => (Level::Concat, Infix::Concat),
                "*" => (Level::Multiply, Infix::Arithmetic(Multiply)),
                "/" => (Level::Multiply, Infix::Arithmetic(Divide)),
                "//" => (Level::Multiply, Infix::Arithmetic(FloorDivide)),
                "%" => (Level::Multiply, Infix::Arithmetic(Modulo)),
                "**" => (Level::Power, Infix::Arithmetic(Power)),
                _ => return None,
            },
            _ => return None,
        };
        Some((level, infix))
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let mut sign = None;
        while let Some(Token::Mark(mark @ ("-" | "+"))) = self.peek() {
            self.next();
            sign = Some(sign.unwrap_or(false) != (mark == "-"));
        }
        let mut value = self.primary()?;
        let mut links = Vec::new();
        self.postfix(&mut links)?;
        if let Some(negated) = sign {
            value = Expr::Sign(negated, Box::new(chain(value, std::mem::take(&mut links))));
        }
        self.filters(&mut links)?;
        Ok(chain(value, links))
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let Some(token) = self.peek() else { return self.unexpected("a value") };
        self.next();
        Ok(match token {
            Token::Name("true" | "True") => Expr::Bool(true),
            Token::Name("false" | "False") => Expr::Bool(false),
            Token::Name("none" | "None") => Expr::None,
            Token::Name(name) => {
                self.uses[0] |= name == "varargs";
                self.uses[1] |= name == "kwargs";
                Expr::Name(name.into())
            }
            Token::Int(digits) => match digits.replace('_', "").parse() {
                Ok(value) => Expr::Int(value),
                Err(_) => return self.error("a number has more than 64 bits"),
            },
            Token::Float(digits) => {
                Expr::Float(digits.replace('_', "").parse().unwrap_or(f64::INFINITY))
            }
            Token::Text(text) => {
                let mut whole = unescape(text);
                while let Some(Token::Text(more)) = self.peek() {
                    self.next();
                    whole += &unescape(more);
                }
                Expr::Text(whole.into())
            }
            Token::Mark("(") => {
                if self.skip_if(Token::Mark(")")) {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let inner = self.tuple()?;
                self.expect(")")?;
                inner
            }
            Token::Mark("[") => Expr::List(self.listed("]")?),
            Token::Mark("{") => self.dict()?,
            _ => {
                self.step_back();
                return self.unexpected("a value");
            }
        })
    }

    fn listed(&mut self, end: &'static str) -> Parsed<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.skip_if(Token::Mark(end)) {
            if !items.is_empty() {
                self.expect(",")?;
                if self.skip_if(Token::Mark(end)) {
                    break;
                }
            }
            items.push(self.expression()?);
        }
        Ok(items)
    }

    fn dict(&mut self) -> Parsed<Expr> {
        let mut entries = Vec::new();
        while !self.skip_if(Token::Mark("}")) {
            if !entries.is_empty() {
                self.expect(",")?;
                if self.skip_if(Token::Mark("}")) {
                    break;
                }
            }
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?));
        }
        Ok(Expr::Dict(entries))
    }

    /// Attributes, items and calls.
    fn postfix(&mut self, links: &mut Vec<Link>) -> Parsed<()> {
        loop {
            if self.skip_if(Token::Mark(".")) {
                links.push(match self.peek() {
                    Some(Token::Int(digits)) => {
                        self.next();
                        Link::Item(Expr::Int(digits.parse().unwrap_or(i64::MAX)))
                    }
                    _ => Link::Attribute(self.name()?),
                });
            } else if self.skip_if(Token::Mark("[")) {
                links.push(self.item()?);
                self.expect("]")?;
            } else if self.peek() == Some(Token::Mark("(")) {
                links.push(Link::Call(self.arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    /// Filters, tests and calls of what they give.
    pub fn filters(&mut self, links: &mut Vec<Link>) -> Parsed<()> {
        loop {
            if self.skip_if(Token::Mark("|")) {
                self.filter(links)?;
            } else if self.skip_if(Token::Name("is")) {
                links.push(self.test()?);
            } else if self.peek() == Some(Token::Mark("(")) {
                links.push(Link::Call(self.arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    pub fn filter(&mut self, links: &mut Vec<Link>) -> Parsed<()> {
        let name = self.name()?;
        let arguments = match self.peek() {
            Some(Token::Mark("(")) => self.arguments()?,
            _ => Arguments::default(),
        };
        links.push(Link::Filter(name, arguments));
        Ok(())
    }

    fn test(&mut self) -> Parsed<Link> {
        let negated = self.skip_if(Token::Name("not"));
        let name = self.name()?;
        let arguments = match self.peek() {
            Some(Token::Mark("(")) => self.arguments()?,
            Some(Token::Name("else" | "or" | "and" | "if" | "not" | "in")) => Arguments::default(),
            Some(Token::Name("is")) => return self.error("tests cannot be chained by \"is\""),
            Some(
                Token::Name(_)
                | Token::Text(_)
                | Token::Int(_)
                | Token::Float(_)
                | Token::Mark("[" | "{"),
            ) => {
                self.enter()?;
                let value = self.primary()?;
                let mut links = Vec::new();
                self.postfix(&mut links)?;
                self.nesting -= 1;
                Arguments { plain: vec![chain(value, links)], named: Vec::new() }
            }
            _ => Arguments::default(),
        };
        Ok(Link::Test(negated, name, arguments))
    }

    /// `a` or `a:b:c`
    fn item(&mut self) -> Parsed<Link> {
        let mut parts = [None, None, None];
        let mut colons = 0;
        loop {
            match self.peek() {
                Some(Token::Mark("]")) if colons > 0 => break,
                Some(Token::Mark(":")) if colons < 2 => {
                    self.next();
                    colons += 1;
                }
                _ => match parts.get_mut(colons) {
                    Some(part @ None) => *part = Some(self.expression()?),
                    _ => break,
                },
            }
            if colons == 0 && self.peek() == Some(Token::Mark("]")) {
                break;
            }
        }
        Ok(match (colons, parts) {
            (0, [Some(item), _, _]) => Link::Item(item),
            (_, parts) => Link::Slice(Box::new(parts)),
        })
    }

    fn arguments(&mut self) -> Parsed<Arguments> {
        self.expect("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.skip_if(Token::Mark(")")) {
            if !first {
                self.expect(",")?;
                if self.skip_if(Token::Mark(")")) {
                    break;
                }
            }
            first = false;
            match (self.peek(), self.peek_second()) {
                (Some(Token::Name(name)), Some(Token::Mark("="))) => {
                    self.next();
                    self.next();
                    let value = self.expression()?;
                    arguments.named.push((Arc::from(name), value));
                }
                (Some(Token::Mark("*" | "**")), _) => {
                    return self.error("arguments by \"*\" and \"**\" are not supported");
                }
                _ if arguments.named.is_empty() => arguments.plain.push(self.expression()?),
                _ => return self.error("an argument without a name follows one with a name"),
            }
        }
        Ok(arguments)
    }
}

fn chain(value: Expr, links: Vec<Link>) -> Expr {
    if links.is_empty() { value } else { Expr::Chain(Box::new(value), links) }
}

fn stronger(level: Level) -> Level {
    match level {
        Level::Or => Level::And,
        Level::And => Level::Not,
        Level::Not => Level::Compare,
        Level::Compare => Level::Add,
        Level::Add => Level::Concat,
        Level::Concat => Level::Multiply,
        Level::Multiply => Level::Power,
        Level::Power | Level::Unary => Level::Unary,
    }
}

/// A chain of the kind that `infix` continues, with `first` alone in it.
fn around(first: Expr, infix: Infix) -> Expr {
    match infix {
        Infix::Or => Expr::Or(vec![first]),
        Infix::And => Expr::And(vec![first]),
        Infix::Compare(_) => Expr::Compare(Box::new(first), Vec::new()),
        Infix::Concat => Expr::Concat(vec![first]),
        Infix::Arithmetic(_) => Expr::Arithmetic(Box::new(first), Vec::new()),
    }
}

fn add(chain: &mut Expr, infix: Infix, right: Expr) {
    match (chain, infix) {
        (Expr::Or(all) | Expr::And(all) | Expr::Concat(all), _) => all.push(right),
        (Expr::Compare(_, all), Infix::Compare(comparison)) => all.push((comparison, right)),
        (Expr::Arithmetic(_, all), Infix::Arithmetic(operator)) => all.push((operator, right)),
        _ => {}
    }
}

/// As Python reads a text; an unknown escape stays as it is.
fn unescape(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        whole += before;
        let code = escape.chars().nth(1).unwrap_or('\\');
        let hex = |digits: usize| {
            let number = u32::from_str_radix(escape.get(2..2 + digits)?, 16).ok()?;
            char::from_u32(number).map(|c| (c, 2 + digits))
        };
        let octal = || {
            let digits = escape.bytes().skip(1).take(3).take_while(|b| (b'0'..=b'7').contains(b));
            let digits = digits.count();
            let number = u32::from_str_radix(escape.get(1..1 + digits)?, 8).ok()?;
            char::from_u32(number).map(|c| (c, 1 + digits))
        };
        let read = match code {
            'n' => Some(('\n', 2)),
            't' => Some(('\t', 2)),
            'r' => Some(('\r', 2)),
            '\\' | '\'' | '"' => Some((code, 2)),
            'a' => Some(('\x07', 2)),
            'b' => Some(('\x08', 2)),
            'f' => Some(('\x0C', 2)),
            'v' => Some(('\x0B', 2)),
            'x' => hex(2),
            'u' => hex(4),
            'U' => hex(8),
            '0'..='7' => octal(),
            _ => None,
        };
        let used = match read {
            Some((c, used)) => {
                whole.push(c);
                used
            }
            // A backslash at the end of a line takes the line's end away.
            None if code == '\n' => 2,
            None => {
                whole.push('\\');
                1
            }
        };
        rest = escape.get(used..).unwrap_or_default();
    }
    whole + rest
}

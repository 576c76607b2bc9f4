//! Tokens to a tree: the tags. The expressions within them are `expressions`.

use std::sync::Arc;

use super::lexer::{SyntaxError, Token, Tokens};
use super::tree::*;

/// Tags within one another.
const MAX_BLOCKS: usize = 32;

pub(super) type Parsed<T> = Result<T, SyntaxError>;

pub(super) struct Parser<'s> {
    tokens: Tokens<'s>,
    at: usize,
    blocks: usize,
    loops: usize,
    /// Whether the macro that is read uses `varargs` and `kwargs`.
    pub uses: [bool; 2],
    /// See `expressions`.
    pub nesting: usize,
}

pub fn parse(tokens: Tokens<'_>) -> Parsed<Body> {
    let mut parser = Parser { tokens, at: 0, blocks: 0, loops: 0, uses: [false; 2], nesting: 0 };
    let body = parser.body(&[])?;
    Ok(body)
}

impl<'s> Parser<'s> {
    pub fn peek(&self) -> Option<Token<'s>> {
        self.tokens.get(self.at).map(|(token, _)| *token)
    }

    pub fn peek_second(&self) -> Option<Token<'s>> {
        self.tokens.get(self.at + 1).map(|(token, _)| *token)
    }

    pub fn line(&self) -> u32 {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(_, line)| *line)
    }

    pub fn next(&mut self) -> Option<Token<'s>> {
        let token = self.peek();
        self.at += 1;
        token
    }

    pub fn step_back(&mut self) {
        self.at -= 1;
    }

    pub fn skip_if(&mut self, token: Token) -> bool {
        let is = self.peek() == Some(token);
        self.at += usize::from(is);
        is
    }

    pub fn error<T>(&self, text: &str) -> Parsed<T> {
        Err((text.to_owned(), self.line()))
    }

    pub fn unexpected<T>(&self, wanted: &str) -> Parsed<T> {
        let found = match self.peek() {
            None => "the end of the template".to_owned(),
            Some(Token::BlockEnd) => "the end of the tag".to_owned(),
            Some(Token::OutputEnd) => "the end of the expression".to_owned(),
            Some(Token::Data(_)) => "text".to_owned(),
            Some(Token::BlockBegin | Token::OutputBegin) => "a tag".to_owned(),
            Some(Token::Name(text) | Token::Int(text) | Token::Float(text)) => format!("{text:?}"),
            Some(Token::Text(_)) => "a text".to_owned(),
            Some(Token::Mark(mark)) => format!("{mark:?}"),
        };
        self.error(&format!("expected {wanted}, found {found}"))
    }

    pub fn expect(&mut self, mark: &'static str) -> Parsed<()> {
        if self.skip_if(Token::Mark(mark)) { Ok(()) } else { self.unexpected(mark) }
    }

    pub fn name(&mut self) -> Parsed<Arc<str>> {
        match self.peek() {
            Some(Token::Name(name)) => {
                self.at += 1;
                Ok(name.into())
            }
            _ => self.unexpected("a name"),
        }
    }

    fn end_of_tag(&mut self) -> Parsed<()> {
        if self.skip_if(Token::BlockEnd) { Ok(()) } else { self.unexpected("the end of the tag") }
    }

    /// Up to a tag named in `ends`, whose name is read, too; all of the rest for no `ends`.
    fn body(&mut self, ends: &[&str]) -> Parsed<Body> {
        self.blocks += 1;
        if self.blocks > MAX_BLOCKS {
            return self.error(&format!("tags are over {MAX_BLOCKS} levels deep"));
        }
        let mut body = Body::new();
        loop {
            let line = self.line();
            let node = match self.next() {
                Some(Token::Data(text)) => Node::Text(text.into()),
                Some(Token::OutputBegin) => {
                    let output = self.tuple()?;
                    if !self.skip_if(Token::OutputEnd) {
                        return self.unexpected("the end of the expression");
                    }
                    Node::Output(output)
                }
                Some(Token::BlockBegin) => match self.peek() {
                    Some(Token::Name(name)) if ends.contains(&name) => break,
                    // Marks what a model is trained on; nothing of it is rendered.
                    Some(Token::Name("generation")) => {
                        self.at += 1;
                        self.end_of_tag()?;
                        let inner = self.body(&["endgeneration"])?;
                        self.closing()?;
                        body.extend(inner);
                        continue;
                    }
                    Some(Token::Name(name)) => {
                        self.at += 1;
                        self.statement(name)?
                    }
                    _ => return self.unexpected("the name of a tag"),
                },
                None if ends.is_empty() => break,
                None => return self.error(&format!("{:?} is missing", ends.join("\" or \""))),
                Some(_) => return self.error("unexpected token"),
            };
            body.push(Statement { line, node });
        }
        self.blocks -= 1;
        Ok(body)
    }

    /// The name of an end tag, which [`Parser::body`] saw, and its end.
    fn closing(&mut self) -> Parsed<()> {
        self.at += 1;
        self.end_of_tag()
    }

    /// A body, and the tag that ends it.
    fn closed_body(&mut self, end: &str) -> Parsed<Body> {
        self.end_of_tag()?;
        let body = self.body(&[end])?;
        self.closing()?;
        Ok(body)
    }

    fn statement(&mut self, name: &str) -> Parsed<Node> {
        match name {
            "if" => self.if_tag(),
            "for" => self.for_tag(),
            "set" => self.set_tag(),
            "with" => self.with_tag(),
            "macro" => {
                let name = self.name()?;
                self.macro_after(name, "endmacro").map(Node::Macro)
            }
            "call" => self.call_tag(),
            "filter" => {
                let links = self.filter_tag()?;
                Ok(Node::Filter(links, self.closed_body("endfilter")?))
            }
            "break" | "continue" if self.loops > 0 => {
                self.end_of_tag()?;
                Ok(if name == "break" { Node::Break } else { Node::Continue })
            }
            "break" | "continue" => self.error(&format!("{name:?} outside of a loop")),
            "include" | "import" | "from" | "extends" | "block" => {
                self.error(&format!("{name:?} is not supported, as a bundle has one template only"))
            }
            _ => self.error(&format!("unknown tag {name:?}")),
        }
    }

    fn if_tag(&mut self) -> Parsed<Node> {
        let mut arms = Vec::new();
        loop {
            let condition = self.tuple()?;
            self.end_of_tag()?;
            let body = self.body(&["elif", "else", "endif"])?;
            arms.push((condition, body));
            match self.next() {
                Some(Token::Name("elif")) => {}
                Some(Token::Name("else")) => {
                    let otherwise = self.closed_body("endif")?;
                    return Ok(Node::If(arms, otherwise));
                }
                _ => {
                    self.end_of_tag()?;
                    return Ok(Node::If(arms, Body::new()));
                }
            }
        }
    }

    fn for_tag(&mut self) -> Parsed<Node> {
        let target = self.targets()?;
        if !self.skip_if(Token::Name("in")) {
            return self.unexpected("in");
        }
        let over = self.items_of_for()?;
        let only_if = match self.skip_if(Token::Name("if")) {
            true => Some(self.expression()?),
            false => None,
        };
        if self.peek() == Some(Token::Name("recursive")) {
            return self.error("recursive loops are not supported; use a macro");
        }
        self.end_of_tag()?;
        self.loops += 1;
        let body = self.body(&["else", "endfor"])?;
        self.loops -= 1;
        let otherwise = match self.next() {
            Some(Token::Name("else")) => self.closed_body("endfor")?,
            _ => {
                self.end_of_tag()?;
                Body::new()
            }
        };
        Ok(Node::For(Box::new(For { target, over, only_if, body, otherwise })))
    }

    /// `a`, `a.b`, or `a, b`
    fn targets(&mut self) -> Parsed<Target> {
        let first = self.target()?;
        if self.peek() != Some(Token::Mark(",")) {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip_if(Token::Mark(",")) {
            if !matches!(self.peek(), Some(Token::Name(_) | Token::Mark("("))) {
                break;
            }
            targets.push(self.target()?);
        }
        Ok(Target::Names(targets))
    }

    fn target(&mut self) -> Parsed<Target> {
        if self.skip_if(Token::Mark("(")) {
            self.nesting += 1;
            if self.nesting > MAX_BLOCKS {
                return self.error(&format!("targets are over {MAX_BLOCKS} levels deep"));
            }
            let inner = self.targets()?;
            self.nesting -= 1;
            self.expect(")")?;
            return Ok(inner);
        }
        let name = self.name()?;
        if ["true", "false", "none", "True", "False", "None"].contains(&&*name) {
            return self.error(&format!("nothing can be assigned to {name:?}"));
        }
        match self.skip_if(Token::Mark(".")) {
            true => Ok(Target::Attribute(name, self.name()?)),
            false => Ok(Target::Name(name)),
        }
    }

    fn set_tag(&mut self) -> Parsed<Node> {
        let target = self.targets()?;
        if self.skip_if(Token::Mark("=")) {
            let value = self.tuple()?;
            self.end_of_tag()?;
            return Ok(Node::Set(target, value));
        }
        let mut links = Vec::new();
        self.filters(&mut links)?;
        Ok(Node::SetBlock(target, links, self.closed_body("endset")?))
    }

    fn with_tag(&mut self) -> Parsed<Node> {
        let mut values = Vec::new();
        while self.peek() != Some(Token::BlockEnd) {
            if !values.is_empty() {
                self.expect(",")?;
            }
            let target = self.target()?;
            self.expect("=")?;
            values.push((target, self.expression()?));
        }
        Ok(Node::With(values, self.closed_body("endwith")?))
    }

    fn filter_tag(&mut self) -> Parsed<Vec<Link>> {
        let mut links = Vec::new();
        self.filter(&mut links)?;
        self.filters(&mut links)?;
        Ok(links)
    }

    fn call_tag(&mut self) -> Parsed<Node> {
        let parameters = match self.peek() {
            Some(Token::Mark("(")) => self.parameters()?,
            _ => Vec::new(),
        };
        let call = self.expression()?;
        match &call {
            Expr::Chain(_, links) if matches!(links.last(), Some(Link::Call(_))) => {}
            _ => return self.error("a call tag needs the call of a macro"),
        }
        let caller = self.macro_body("caller".into(), parameters, "endcall")?;
        Ok(Node::Call(call, caller))
    }

    fn macro_after(&mut self, name: Arc<str>, end: &str) -> Parsed<Arc<Macro>> {
        let parameters = self.parameters()?;
        self.macro_body(name, parameters, end)
    }

    /// The loops around a macro are not its own.
    fn macro_body(
        &mut self,
        name: Arc<str>,
        parameters: Vec<(Arc<str>, Option<Expr>)>,
        end: &str,
    ) -> Parsed<Arc<Macro>> {
        let around = (std::mem::take(&mut self.loops), std::mem::take(&mut self.uses));
        let body = self.closed_body(end)?;
        let [takes_more, takes_named] = self.uses;
        (self.loops, self.uses) = around;
        Ok(Arc::new(Macro { name, parameters, body, takes_more, takes_named }))
    }

    fn parameters(&mut self) -> Parsed<Vec<(Arc<str>, Option<Expr>)>> {
        self.expect("(")?;
        let mut parameters = Vec::new();
        while !self.skip_if(Token::Mark(")")) {
            if !parameters.is_empty() {
                self.expect(",")?;
                if self.skip_if(Token::Mark(")")) {
                    break;
                }
            }
            let name = self.name()?;
            let default = match self.skip_if(Token::Mark("=")) {
                true => Some(self.expression()?),
                false => None,
            };
            parameters.push((name, default));
        }
        Ok(parameters)
    }
}

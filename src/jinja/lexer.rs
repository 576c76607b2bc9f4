//! Source to tokens. The white space around tags goes by Jinja's rules with `trim_blocks` and
//! `lstrip_blocks`, which the makers of chat templates write for.

use super::text::is_space;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'s> {
    /// What stands outside of tags.
    Data(&'s str),
    BlockBegin,
    BlockEnd,
    OutputBegin,
    OutputEnd,
    Name(&'s str),
    /// As it is written, without its quotes.
    Text(&'s str),
    Int(&'s str),
    Float(&'s str),
    Mark(&'static str),
}

pub type Tokens<'s> = Vec<(Token<'s>, u32)>;

/// What is wrong, and the line.
pub type SyntaxError = (String, u32);

const MARKS: &[&str] = &[
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "(", ")", "[", "]", "{", "}",
    ">", "<", "=", ".", ":", "|", ",",
];

/// `\r\n` and `\r` become `\n`, and one at the end is dropped.
pub fn normalised(source: &str) -> String {
    let mut text = source.replace("\r\n", "\n").replace('\r', "\n");
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

pub fn tokens(source: &str) -> Result<Tokens<'_>, SyntaxError> {
    let mut lexer = Lexer { rest: source, line: 1, line_starts: true, tokens: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.data()?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    rest: &'s str,
    line: u32,
    /// What was read last ended with a line.
    line_starts: bool,
    tokens: Tokens<'s>,
}

impl<'s> Lexer<'s> {
    /// Up to the next tag, and the tag.
    fn data(&mut self) -> Result<(), SyntaxError> {
        let tag = |pair: &[u8]| matches!(pair, [b'{', b'{' | b'%' | b'#']);
        let Some(at) = self.rest.as_bytes().windows(2).position(tag) else {
            let all = self.read(self.rest.len());
            self.push_data(all);
            return Ok(());
        };
        let sign = self.rest.as_bytes().get(at + 2).copied().unwrap_or(0);
        let kind = self.rest.as_bytes().get(at + 1).copied().unwrap_or(0);
        let started = self.line_starts;
        let text = self.read(at);
        self.push_data(before_tag(text, sign, kind == b'{', started));
        self.read(2 + usize::from(matches!(sign, b'-' | b'+')));
        match kind {
            b'#' => self.comment(),
            b'{' => {
                self.push(Token::OutputBegin);
                self.tag("}}", Token::OutputEnd)
            }
            _ if self.is_raw() => self.raw(),
            _ => {
                self.push(Token::BlockBegin);
                self.tag("%}", Token::BlockEnd)
            }
        }
    }

    fn comment(&mut self) -> Result<(), SyntaxError> {
        let end = self.rest.find("#}").ok_or_else(|| self.error("a comment does not end"))?;
        let text = self.read(end);
        self.end_of_tag("#}", text.as_bytes().last().copied());
        Ok(())
    }

    fn is_raw(&self) -> bool {
        let after = self.rest.trim_start_matches(is_space).strip_prefix("raw");
        let after = after.map(|rest| rest.trim_start_matches(is_space));
        after.is_some_and(|rest| rest.starts_with("%}") || rest.starts_with("-%}"))
    }

    /// Text that is not looked into.
    fn raw(&mut self) -> Result<(), SyntaxError> {
        let end = self.rest.find("%}").unwrap_or_default();
        let begin = self.read(end + 2);
        if begin.ends_with("-%}") {
            self.skip_space();
        }
        let mut from = 0;
        while let Some(at) = self.rest.get(from..).and_then(|rest| rest.find("{%")) {
            let at = from + at;
            let inner = self.rest.get(at + 2..).unwrap_or_default();
            let sign = inner.bytes().next().unwrap_or(0);
            let name = inner.trim_start_matches(['-', '+']).trim_start_matches(is_space);
            let after = name.strip_prefix("endraw").map(|rest| rest.trim_start_matches(is_space));
            let end =
                after.filter(|rest| ["%}", "-%}", "+%}"].iter().any(|end| rest.starts_with(end)));
            if let Some(end) = end {
                let tag = inner.len() - end.len();
                let started = self.line_starts;
                let text = self.read(at);
                self.push_data(before_tag(text, sign, false, started));
                self.read(2 + tag);
                let last = self.rest.bytes().next();
                if last != Some(b'%') {
                    self.read(1);
                }
                self.end_of_tag("%}", last);
                return Ok(());
            }
            from = at + 2;
        }
        Err(self.error("a raw block does not end"))
    }

    /// The tokens of a tag, up to its end.
    fn tag(&mut self, end: &'static str, token: Token<'s>) -> Result<(), SyntaxError> {
        let mut open: Vec<&str> = Vec::new();
        loop {
            self.skip_space();
            if open.is_empty() && self.ends_here(end) {
                self.push(token);
                let sign = self.rest.bytes().next();
                if matches!(sign, Some(b'-' | b'+')) {
                    self.read(1);
                }
                self.end_of_tag(end, sign);
                return Ok(());
            }
            let Some(first) = self.rest.chars().next() else {
                return Err(self.error("a tag does not end"));
            };
            if first == '\'' || first == '"' {
                self.quoted(first)?;
            } else if first.is_ascii_digit() {
                self.number();
            } else if first.is_alphabetic() || first == '_' {
                let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                let name = self.read(end.unwrap_or(self.rest.len()));
                self.push(Token::Name(name));
            } else {
                self.mark(first, &mut open)?;
            }
        }
    }

    fn mark(&mut self, first: char, open: &mut Vec<&'static str>) -> Result<(), SyntaxError> {
        let mark = MARKS.iter().find(|mark| self.rest.starts_with(**mark));
        let Some(&mark) = mark else {
            return Err(self.error(&format!("unexpected character {first:?}")));
        };
        match mark {
            "(" => open.push(")"),
            "[" => open.push("]"),
            "{" => open.push("}"),
            ")" | "]" | "}" if open.pop() != Some(mark) => {
                return Err(self.error(&format!("unexpected {mark:?}")));
            }
            _ => {}
        }
        self.read(mark.len());
        self.push(Token::Mark(mark));
        Ok(())
    }

    fn ends_here(&self, end: &str) -> bool {
        let bare = self.rest.strip_prefix('-').unwrap_or(self.rest);
        let bare = match end {
            "%}" => bare.strip_prefix('+').unwrap_or(bare),
            _ => bare,
        };
        bare.starts_with(end) && self.rest.len() - bare.len() <= 1
    }

    /// Reads the end itself, and what it takes of the text behind it.
    fn end_of_tag(&mut self, end: &str, sign: Option<u8>) {
        self.read(end.len());
        match sign {
            Some(b'-') => self.skip_space(),
            Some(b'+') => {}
            _ if end != "}}" && self.rest.starts_with('\n') => {
                self.read(1);
            }
            _ => {}
        }
    }

    fn quoted(&mut self, quote: char) -> Result<(), SyntaxError> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        let Some((end, _)) = end else { return Err(self.error("a text has no closing quote")) };
        let text = self.read(end + 1);
        let line = self.line;
        self.tokens.push((Token::Text(text.get(1..end).unwrap_or_default()), line));
        Ok(())
    }

    fn number(&mut self) {
        let digits =
            |text: &str| text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'_').count();
        let whole = digits(self.rest);
        let mut end = whole;
        // `a.0.1` are two items.
        if !matches!(self.tokens.last(), Some((Token::Mark("."), _))) {
            let rest = self.rest.get(end..).unwrap_or_default();
            match rest.strip_prefix('.').map(digits) {
                Some(decimals) if decimals > 0 => end += 1 + decimals,
                _ => {}
            }
            let rest = self.rest.get(end..).unwrap_or_default();
            if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
                let unsigned = exponent.trim_start_matches(['+', '-']);
                let sign = exponent.len() - unsigned.len();
                if sign <= 1 && digits(unsigned) > 0 {
                    end += 1 + sign + digits(unsigned);
                }
            }
        }
        let text = self.read(end);
        self.push(if end == whole { Token::Int(text) } else { Token::Float(text) });
    }

    fn skip_space(&mut self) {
        let rest = self.rest.trim_start_matches(is_space);
        self.read(self.rest.len() - rest.len());
    }

    fn read(&mut self, bytes: usize) -> &'s str {
        let (text, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += text.bytes().filter(|&b| b == b'\n').count() as u32;
        if let Some(last) = text.bytes().last() {
            self.line_starts = last == b'\n';
        }
        text
    }

    fn push_data(&mut self, text: &'s str) {
        if !text.is_empty() {
            self.push(Token::Data(text));
        }
    }

    fn push(&mut self, token: Token<'s>) {
        self.tokens.push((token, self.line));
    }

    fn error(&self, text: &str) -> SyntaxError {
        (text.to_owned(), self.line)
    }
}

/// What is left of the text in front of a tag.
fn before_tag(text: &str, sign: u8, is_output: bool, line_starts: bool) -> &str {
    if sign == b'-' {
        return text.trim_end_matches(is_space);
    }
    if sign == b'+' || is_output {
        return text;
    }
    let line = text.rfind('\n').map_or(0, |at| at + 1);
    let (before, indent) = text.split_at_checked(line).unwrap_or((text, ""));
    if (line > 0 || line_starts) && indent.chars().all(is_space) { before } else { text }
}

//! The patterns of a `tokenizer.json`. A file may bring any regular expression; what it costs is
//! bounded here.
//!
//! An expression without look-around runs on a linear engine. One with look-around, as most
//! published ones have, backtracks: it sees [`WINDOW`] bytes at a time, and what can take long
//! within them is refused when the file is opened. Every search looks at the [`Watch`] of the call.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use fancy_regex::{Expr, Regex, RegexBuilder};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use tokenizers::{Offsets, Result, pattern};

use crate::cancel::Cancel;

/// The longest source; published ones have 700 bytes at most.
const MAX_SOURCE: usize = 4096;
/// Nodes of an expression with its counted repeats written out.
const MAX_NODES: usize = 2000;
const MAX_COMPILED: usize = 2 << 20;
/// Of one search; published expressions need some tens.
const MAX_BACKTRACKS: usize = 100_000;
/// What a search with look-around sees. A longer piece is cut.
const WINDOW: usize = 16 << 10;
/// A match that straddles two windows is found in the second one, if it is not longer.
const MARGIN: usize = 256;

/// The time that encoding a text may take, a last resort: published tokenisers need a twentieth of
/// it for their worst texts on a PC, and a board is ten times as slow, or busy.
const TIME: Duration = Duration::from_secs(1);
const TIME_PER_BYTE: Duration = Duration::from_micros(40);

/// Ends an encoding that is cancelled or takes too long.
struct Watch {
    cancel: Cancel,
    end: Instant,
    /// What a step refused: the tokenisers' crate goes on after an error of a normaliser.
    refusal: Option<&'static str>,
}

thread_local! {
    // The tokenisers' crate hands nothing through to the steps of an encoding.
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// Runs `encode`, which takes a text of `bytes`, under a watch.
pub fn watched<T>(bytes: usize, cancel: &Cancel, encode: impl FnOnce() -> Result<T>) -> Result<T> {
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            WATCH.set(None);
        }
    }
    let end = Instant::now() + TIME + TIME_PER_BYTE * u32::try_from(bytes).unwrap_or(u32::MAX);
    WATCH.set(Some(Watch { cancel: cancel.clone(), end, refusal: None }));
    let _clear = Clear;
    let encoded = encode()?;
    match WATCH.with_borrow(|watch| watch.as_ref().and_then(|watch| watch.refusal)) {
        Some(refusal) => Err(refusal.into()),
        None => Ok(encoded),
    }
}

/// Ends the encoding with this error.
pub fn refuse<T>(text: &'static str) -> Result<T> {
    WATCH.with_borrow_mut(|watch| {
        if let Some(watch) = watch {
            watch.refusal.get_or_insert(text);
        }
    });
    Err(text.into())
}

/// To be called at least every few milliseconds while encoding.
pub fn check_watch() -> Result<()> {
    let refusal = WATCH.with_borrow(|watch| match watch {
        Some(watch) if watch.cancel.is_raised() => Some("cancelled"),
        Some(watch) if Instant::now() > watch.end => {
            Some("its pattern takes too long on this text")
        }
        _ => None,
    });
    refusal.map_or(Ok(()), refuse)
}

/// What a step looks for.
pub enum Pattern {
    Text(String),
    Regex { regex: Regex, backtracks: bool },
}

#[derive(Deserialize)]
enum Source {
    String(String),
    Regex(String),
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match Source::deserialize(deserializer)? {
            Source::String(text) if text.is_empty() => Err(D::Error::custom("an empty pattern")),
            Source::String(text) => Ok(Pattern::Text(text)),
            Source::Regex(source) => Pattern::regex(&source).map_err(|e| {
                D::Error::custom(format!("the regular expression {source:.99?}: {e}"))
            }),
        }
    }
}

impl Pattern {
    fn regex(source: &str) -> std::result::Result<Pattern, String> {
        if source.len() > MAX_SOURCE {
            return Err(format!("more than {MAX_SOURCE} bytes"));
        }
        let tree = Expr::parse_tree(source).map_err(|e| e.to_string())?;
        let mut looked_at = LookedAt::default();
        if looked_at.visit(&tree.expr, false)? > MAX_NODES {
            return Err(format!("more than {MAX_NODES} parts with its repeats written out"));
        }
        let regex = RegexBuilder::new(source)
            .backtrack_limit(MAX_BACKTRACKS)
            .delegate_size_limit(MAX_COMPILED)
            .build()
            .map_err(|e| e.to_string())?;
        if regex.is_match("").unwrap_or(true) {
            return Err("it matches the empty text".into());
        }
        Ok(Pattern::Regex { regex, backtracks: looked_at.backtracks })
    }

    /// The parts of `inside`, in order, and which of them match.
    pub fn find(&self, inside: &str) -> Result<Vec<(Offsets, bool)>> {
        let mut parts = Parts { parts: Vec::new(), end: 0 };
        match self {
            Pattern::Text(text) => {
                for (start, _) in inside.match_indices(text.as_str()) {
                    parts.push(start, start + text.len());
                }
            }
            Pattern::Regex { regex, backtracks: false } => {
                let mut from = 0;
                while let Some(found) = search(regex, inside, from)? {
                    check_watch()?;
                    from = parts.push_found(found)?;
                }
            }
            Pattern::Regex { regex, backtracks: true } => windows(regex, inside, &mut parts)?,
        }
        check_watch()?;
        let end = parts.end;
        if end < inside.len() || inside.is_empty() {
            parts.parts.push(((end, inside.len()), false));
        }
        Ok(parts.parts)
    }
}

fn windows(regex: &Regex, inside: &str, parts: &mut Parts) -> Result<()> {
    let mut from = 0;
    while from < inside.len() {
        check_watch()?;
        let end = boundary(inside, from + WINDOW);
        let window = inside.get(..end).unwrap_or(inside);
        from = match search(regex, window, from)? {
            Some(found) => parts.push_found(found)?,
            None if end == inside.len() => break,
            None => boundary(inside, end - MARGIN),
        };
    }
    Ok(())
}

fn search(regex: &Regex, inside: &str, from: usize) -> Result<Option<Offsets>> {
    match regex.find_from_pos(inside, from) {
        Ok(found) => Ok(found.map(|found| (found.start(), found.end()))),
        Err(_) => refuse("its pattern needs too many steps on this text"),
    }
}

/// The first place from `at` on that is no part of a character.
fn boundary(text: &str, at: usize) -> usize {
    (at..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

struct Parts {
    parts: Vec<(Offsets, bool)>,
    end: usize,
}

impl Parts {
    fn push(&mut self, start: usize, end: usize) {
        if self.end < start {
            self.parts.push(((self.end, start), false));
        }
        self.parts.push(((start, end), true));
        self.end = end;
    }

    /// Where to go on.
    fn push_found(&mut self, (start, end): Offsets) -> Result<usize> {
        if start == end {
            return refuse("its pattern matches an empty text");
        }
        self.push(start, end);
        Ok(end)
    }
}

impl pattern::Pattern for &Pattern {
    fn find_matches(&self, inside: &str) -> Result<Vec<(Offsets, bool)>> {
        self.find(inside)
    }
}

/// What was found before.
pub struct Found(Cell<Vec<(Offsets, bool)>>);

impl Found {
    pub fn new(parts: Vec<(Offsets, bool)>) -> Found {
        Found(Cell::new(parts))
    }
}

impl pattern::Pattern for Found {
    fn find_matches(&self, _: &str) -> Result<Vec<(Offsets, bool)>> {
        Ok(self.0.take())
    }
}

#[derive(Default)]
struct LookedAt {
    backtracks: bool,
}

impl LookedAt {
    /// The nodes of `expr`, or why it is refused. The parser bounds the depth.
    fn visit(&mut self, expr: &Expr, looks_around: bool) -> std::result::Result<usize, String> {
        let nodes = match expr {
            Expr::Empty | Expr::Any { .. } | Expr::Assertion(_) | Expr::Delegate { .. } => 1,
            Expr::Literal { val, .. } => val.len(),
            Expr::Concat(all) | Expr::Alt(all) => {
                let mut nodes = 0usize;
                for expr in all {
                    nodes = nodes.saturating_add(self.visit(expr, looks_around)?);
                }
                nodes
            }
            Expr::Group(inner) => self.visit(inner, looks_around)?,
            Expr::AtomicGroup(inner) => {
                self.backtracks = true;
                self.visit(inner, looks_around)?
            }
            Expr::LookAround(inner, _) => {
                self.backtracks = true;
                self.visit(inner, true)?
            }
            Expr::Repeat { hi: usize::MAX, .. } if looks_around => {
                return Err("an unbounded repeat within a look-around is not supported".into());
            }
            Expr::Repeat { child, lo, hi, .. } => {
                let times = if *hi == usize::MAX { *lo } else { *hi };
                self.visit(child, looks_around)?.saturating_mul(times.max(1))
            }
            _ => {
                return Err("back references, conditions and calls are not supported".into());
            }
        };
        Ok(nodes.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(source: &str) -> std::result::Result<Pattern, String> {
        serde_json::from_value(serde_json::json!({"Regex": source})).map_err(|e| e.to_string())
    }

    fn matches(pattern: &Pattern, text: &str) -> Vec<(usize, usize)> {
        let parts = pattern.find(text).unwrap();
        let ends = parts.iter().map(|((_, end), _)| *end);
        let starts = parts.iter().map(|((start, _), _)| *start);
        assert!(starts.eq(std::iter::once(0).chain(ends).take(parts.len())), "{parts:?}");
        assert_eq!(parts.last().map(|((_, end), _)| *end), Some(text.len()));
        parts.into_iter().filter(|(_, is)| *is).map(|(part, _)| part).collect()
    }

    #[test]
    fn matches_as_the_engine_does() {
        let sources = [
            r"\s+",
            r"\p{N}{1,3}",
            r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+",
            r"(?>a|ab)c|b",
            r"(?<=a)b",
        ];
        let texts = ["", "Hello  world's 1234\n\n  x ", "é日😀 abc\r\n", "ab abc", "   "];
        for source in sources {
            let pattern = regex(source).unwrap();
            let engine = Regex::new(source).unwrap();
            for text in texts {
                let want = engine.find_iter(text).map(|m| m.unwrap()).map(|m| (m.start(), m.end()));
                assert_eq!(matches(&pattern, text), want.collect::<Vec<_>>(), "{source} {text:?}");
            }
        }
    }

    #[test]
    fn long_texts_are_seen_in_windows() {
        let pattern = regex(r"\p{L}+(?!\S)|x").unwrap();
        assert!(matches!(pattern, Pattern::Regex { backtracks: true, .. }));
        // Words, and gaps in which nothing matches.
        let text = format!("{}éa {}b é", "-".repeat(3 * WINDOW), "é".repeat(40_000));
        let found = matches(&pattern, &text);
        let last = found.last().copied().unwrap();
        assert_eq!(text.get(last.0..last.1), Some("é"));
        let a = 3 * WINDOW;
        assert_eq!(text.get(a..a + 3), Some("éa"));
        assert!(found.contains(&(a, a + 3)), "{found:?}");
        assert!(found.iter().all(|(start, end)| end - start <= WINDOW + 4));
    }

    #[test]
    fn costly_expressions_are_refused() {
        let rows = [
            (r"(?=(a+))\1+b", "repeat within a look-around"),
            (r"(a)\1", "back references"),
            (r"(?<x>a)\k<x>", "back references"),
            (r"(a)\g<1>", "calls"),
            (r"((?!b)a{1000}){1000}", "2000 parts"),
            (r"\p{L}{1900}", "2000 parts"),
            (r"a*", "empty text"),
            (r"", "empty text"),
            (r"(", "regular expression"),
        ];
        for (source, part) in rows {
            let error = regex(source).err().unwrap_or_default();
            assert!(error.contains(part), "{source}: {error}");
        }
        let long = regex(&"a".repeat(MAX_SOURCE + 1)).err().unwrap_or_default();
        assert!(long.contains("4096 bytes"), "{long}");
        // A limit of the engine is an error, not the end of the matches.
        let nested = regex(r"(?:(?:a|a(?!x))+)+b").unwrap();
        assert!(nested.find(&"a".repeat(60)).is_err());
        let empty = regex(r"(?<=a)(?=b)|x").unwrap();
        assert!(empty.find("ab").is_err());
    }

    #[test]
    fn a_watch_ends_a_search() {
        let quadratic = regex(r"(?!x)(?:a+b|a)").unwrap();
        let cancel = Cancel::new();
        cancel.raise();
        let text = "a".repeat(1 << 20);
        let error = watched(0, &cancel, || quadratic.find(&text)).unwrap_err();
        assert_eq!(error.to_string(), "cancelled");
        let error = watched(0, &Cancel::new(), || quadratic.find(&text)).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
        assert!(check_watch().is_ok());
    }
}

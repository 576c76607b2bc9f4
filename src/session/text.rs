//! The text handed out: whole characters, and nothing of a stop string.

use crate::tokens::{to_text, whole_len};

/// Holds back bytes that may be part of a stop string, or of an unfinished character.
#[derive(Clone)]
pub(super) struct TextOut {
    stops: Vec<Vec<u8>>,
    /// The bytes pushed last that were not shown; once stopped, from the stop string on.
    held: Vec<u8>,
    stopped: bool,
}

impl TextOut {
    pub fn new(stops: &[String]) -> TextOut {
        let stops = stops.iter().map(|stop| stop.clone().into_bytes()).collect();
        TextOut { stops, held: Vec::new(), stopped: false }
    }

    /// The text that may be shown now, and whether a stop string is complete: neither it nor what
    /// follows it is ever shown.
    pub fn push(&mut self, bytes: &[u8]) -> (String, bool) {
        for (n, &byte) in bytes.iter().enumerate() {
            self.held.push(byte);
            if let Some(stop) = self.complete_stop() {
                let text = self.show(self.held.len() - stop);
                self.held.extend(bytes.iter().skip(n + 1));
                self.stopped = true;
                return (text, true);
            }
        }
        (self.show(whole_len(self.before_stop())), false)
    }

    /// Shows the first `len` bytes held back.
    fn show(&mut self, len: usize) -> String {
        let rest = self.held.split_off(len);
        to_text(&std::mem::replace(&mut self.held, rest))
    }

    /// All that is held back; an unfinished character becomes U+FFFD. Nothing once stopped.
    pub fn flush(&mut self) -> String {
        if self.stopped { String::new() } else { self.show(self.held.len()) }
    }

    /// What is held back, and whether a stop string was complete.
    pub fn held(&self) -> (&[u8], bool) {
        (&self.held, self.stopped)
    }

    /// Takes what [`TextOut::held`] said.
    pub fn hold(&mut self, held: &[u8], stopped: bool) {
        self.held = held.to_vec();
        self.stopped = stopped;
    }

    /// Forgets what is held back.
    pub fn clear(&mut self) {
        self.held.clear();
        self.stopped = false;
    }

    /// The last `dropped` bytes pushed are taken back; the bytes before them end with `tail`, an
    /// unfinished character or nothing.
    pub fn rewind(&mut self, dropped: usize, tail: &[u8]) {
        self.stopped = false;
        match self.held.len().checked_sub(dropped) {
            Some(len) if len > 0 => self.held.truncate(len),
            // What was shown is taken back too. The unfinished character is waited for again.
            _ => self.held = tail.to_vec(),
        }
    }

    /// Length of the longest stop string that ends here.
    fn complete_stop(&self) -> Option<usize> {
        self.stops.iter().filter(|stop| self.held.ends_with(stop)).map(Vec::len).max()
    }

    /// What no stop string can begin in.
    fn before_stop(&self) -> &[u8] {
        let may_begin = |start: usize| {
            let rest = &self.held[start..];
            self.stops.iter().any(|stop| stop.starts_with(rest))
        };
        let longest = self.stops.iter().map(Vec::len).max().unwrap_or(0);
        let first = (self.held.len() + 1).saturating_sub(longest).min(self.held.len());
        let end = (first..self.held.len()).find(|&start| may_begin(start));
        &self.held[..end.unwrap_or(self.held.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(stops: &[&str]) -> TextOut {
        TextOut::new(&stops.iter().map(|&stop| stop.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn stop_strings() {
        /// Stops, pieces, text after each, ended.
        type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], bool);
        let rows: &[Row] = &[
            (&[], &["a", "b"], &["a", "b"], false),
            (&["END"], &["aE", "N", "x"], &["a", "", "ENx"], false),
            (&["END"], &["aE", "N", "D more"], &["a", "", ""], true),
            (&["END"], &["a END b"], &["a "], true),
            (&["END"], &["EEN", "EN", "D"], &["E", "EN", ""], true),
            (&["aab"], &["aa", "a", "b"], &["", "a", ""], true),
            (&["b", "abc"], &["abc"], &["a"], true),
            (&["c", "abc"], &["xab", "c"], &["x", ""], true),
            (&["\n\n"], &["a\n", "b\n", "\n"], &["a", "\nb", ""], true),
            (&["日本"], &["a日", "本語"], &["a", ""], true),
            (&["日本"], &["日", "曜"], &["", "日曜"], false),
            (&["a"], &["a"], &[""], true),
        ];
        for (stops, pieces, want, ended) in rows {
            let mut out = out(stops);
            let got: Vec<_> = pieces.iter().map(|piece| out.push(piece.as_bytes())).collect();
            let texts: Vec<_> = got.iter().map(|(text, _)| text.as_str()).collect();
            assert_eq!((texts.as_slice(), got.last().unwrap().1), (*want, *ended), "{pieces:?}");
            assert_eq!(out.flush().is_empty(), *ended || !want.last().unwrap().is_empty());
        }
    }

    /// One byte at a time and all at once give the same text, for text with and without the stops.
    #[test]
    fn pieces_do_not_matter() {
        let stops = ["ab", "bca", "é\u{20AC}", "\u{20AC}\u{20AC}"];
        for text in ["aabxa", "xbcbca", "aé\u{20AC}b", "\u{20AC}é\u{20AC}\u{20AC}", "bcbcbé", ""]
        {
            let whole = {
                let mut out = out(&stops);
                let (text, ended) = out.push(text.as_bytes());
                (text + &out.flush(), ended)
            };
            let mut single = out(&stops);
            let (mut shown, mut ended) = (String::new(), false);
            for byte in text.as_bytes() {
                if !ended {
                    let (text, end) = single.push(&[*byte]);
                    shown += &text;
                    ended = end;
                }
            }
            shown += &single.flush();
            assert_eq!((shown, ended), whole, "{text}");
        }
    }

    /// However bytes are cut, the text is the same and no call hands out part of a character.
    #[test]
    fn cuts_do_not_matter() {
        let texts: [&[u8]; 4] = [
            "naïve 😀 日本語 \u{10FFFF}".as_bytes(),
            b"bad \xFF\xFE \xE2\x82 and \xF0\x9F\x98\x80",
            b"\xE2\x82",
            b"\x82\x82\xC3",
        ];
        for text in texts {
            for size in 1..=text.len() {
                let mut out = out(&["never"]);
                let mut shown: String = text.chunks(size).map(|chunk| out.push(chunk).0).collect();
                shown += &out.flush();
                assert_eq!(shown, to_text(text), "cut every {size} bytes");
            }
        }
    }

    #[test]
    fn unfinished_characters_are_held_back() {
        let mut out = out(&["x€y"]);
        assert_eq!(out.push(b"a\xE2\x82"), ("a".into(), false));
        assert_eq!(out.push(b"\xACx\xE2"), ("€".into(), false));
        assert_eq!(out.push(b"\x82\xAC"), (String::new(), false));
        assert_eq!(out.push(b"\xE2"), ("x€".into(), false));
        assert_eq!(out.flush(), "\u{FFFD}");
    }

    #[test]
    fn rewinding() {
        let mut out = out(&["END"]);
        out.push(b"aEN");
        out.rewind(1, b"");
        assert_eq!(out.push(b"x").0, "Ex", "held back bytes go first");
        out.push(b"\xE2\x82\xAC");
        out.rewind(1, b"\xE2\x82");
        assert_eq!(out.push(b"\xAC").0, "€", "a character is shown again when it is whole again");
        out.push(b"E");
        out.rewind(1, b"");
        assert_eq!(out.flush(), "");
    }
}

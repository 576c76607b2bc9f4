//! NFC, the canonical composition of Unicode's annex 15.
//!
//! The tokenisers' crate has it too, but with tables for four forms, which take 310 kB in a program
//! on the board. These take 31 kB. They are those of Unicode 9, as that crate's: a later version
//! would give other tokens than the model was trained with.

use tokenizers::NormalizedString;

/// Separated by white space, all numbers hexadecimal: `C0=41+300` is composed of two characters,
/// `958>915+93C` and `340>300` are decomposed and never composed, `300-314/E6` is a range with its
/// combining class. Sorted.
const TEXT: &[u8] = include_bytes!("nfc.txt");

/// A character and its two parts.
static PAIRS: [[u32; 3]; count(b'=')] = entries(b'=');

/// Positions in `PAIRS`, by the parts.
static BY_PARTS: [u16; PAIRS.len()] = by_parts();

/// A character and its parts, the second 0 if there is one only.
static ONE_WAY: [[u32; 3]; count(b'>')] = entries(b'>');

/// First and last character, and the class that they have. All others have class 0.
static CLASSES: [[u32; 3]; count(b'/')] = entries(b'/');

/// No character below changes, or has a class.
const FIRST_CHANGE: char = '\u{C0}';

pub fn normalize(text: &mut NormalizedString) {
    if text.get().chars().all(|c| c < FIRST_CHANGE) {
        return;
    }
    let before = text.get().chars().count();
    let composed = compose(&decompose(text.get()));
    let last = composed.len().saturating_sub(1);
    // What a character was made of is not told: where a piece of the text begins is all that the
    // steps ask for, and no two of them are exchanged.
    let change = |at: usize| match at {
        at if at >= before => 1,
        at if at == last => composed.len() as isize - before as isize,
        _ => 0,
    };
    let chars = composed.iter().enumerate();
    text.transform(chars.filter_map(|(at, &c)| Some((char::from_u32(c)?, change(at)))), 0);
}

/// The parts of all characters, with their classes, in canonical order.
fn decompose(text: &str) -> Vec<(u32, u8)> {
    let mut parts = Vec::with_capacity(text.len());
    text.chars().for_each(|c| push_parts(c.into(), &mut parts));
    for run in parts.chunk_by_mut(|_, after| after.1 != 0) {
        if !run.is_sorted_by_key(|part| part.1) {
            let of = |class| run.iter().filter(move |part| part.1 == class);
            let sorted: Vec<_> = (0..=u8::MAX).flat_map(of).copied().collect();
            run.copy_from_slice(&sorted);
        }
    }
    parts
}

fn push_parts(c: u32, parts: &mut Vec<(u32, u8)>) {
    if let Some((lead, vowel, trail)) = hangul::parts(c) {
        parts.extend([lead, vowel].into_iter().chain(trail).map(|part| (part, 0)));
        return;
    }
    let find = |list: &'static [[u32; 3]]| {
        list.binary_search_by_key(&c, |entry| entry[0]).ok().and_then(|at| list.get(at))
    };
    match find(&PAIRS).or_else(|| find(&ONE_WAY)) {
        None => parts.push((c, class(c))),
        Some(&[_, first, second]) => {
            push_parts(first, parts);
            if second != 0 {
                push_parts(second, parts);
            }
        }
    }
}

fn class(c: u32) -> u8 {
    let after = CLASSES.partition_point(|range| range[0] <= c);
    match after.checked_sub(1).and_then(|at| CLASSES.get(at)) {
        Some(&[_, last, class]) if c <= last => class as u8,
        _ => 0,
    }
}

fn compose(parts: &[(u32, u8)]) -> Vec<u32> {
    let mut composed: Vec<u32> = Vec::with_capacity(parts.len());
    // Where the last character of class 0 is, and the class of what was kept since.
    let mut starter: Option<usize> = None;
    let mut since: Option<u8> = None;
    for &(c, class) in parts {
        if let Some(first) = starter.and_then(|at| composed.get_mut(at))
            && since.is_none_or(|since| since < class)
            && let Some(pair) = pair(*first, c)
        {
            *first = pair;
            continue;
        }
        if class == 0 {
            (starter, since) = (Some(composed.len()), None);
        } else {
            since = Some(class);
        }
        composed.push(c);
    }
    composed
}

/// What the two make together.
fn pair(first: u32, second: u32) -> Option<u32> {
    let parts = |&at: &u16| PAIRS.get(at as usize).map(|pair| (pair[1], pair[2]));
    hangul::pair(first, second).or_else(|| {
        let at = BY_PARTS.binary_search_by_key(&Some((first, second)), parts).ok()?;
        Some(PAIRS.get(*BY_PARTS.get(at)? as usize)?[0])
    })
}

/// Korean syllables, which are computed: lead and vowel, and perhaps a trail.
mod hangul {
    const SYLLABLE: u32 = 0xAC00;
    const SYLLABLES: u32 = LEADS * VOWELS * TRAILS;
    const LEAD: u32 = 0x1100;
    const LEADS: u32 = 19;
    const VOWEL: u32 = 0x1161;
    const VOWELS: u32 = 21;
    /// One before the first: the syllables of a lead and a vowel begin with one that has no trail.
    const TRAIL: u32 = 0x11A7;
    const TRAILS: u32 = 28;

    pub fn parts(c: u32) -> Option<(u32, u32, Option<u32>)> {
        let at = c.checked_sub(SYLLABLE).filter(|&at| at < SYLLABLES)?;
        let trail = at % TRAILS;
        let vowel = VOWEL + at / TRAILS % VOWELS;
        Some((LEAD + at / TRAILS / VOWELS, vowel, (trail != 0).then_some(TRAIL + trail)))
    }

    pub fn pair(first: u32, second: u32) -> Option<u32> {
        let within = |c: u32, start: u32, len: u32| c.checked_sub(start).filter(|&at| at < len);
        if let Some(lead) = within(first, LEAD, LEADS) {
            let vowel = within(second, VOWEL, VOWELS)?;
            return Some(SYLLABLE + (lead * VOWELS + vowel) * TRAILS);
        }
        let open = within(first, SYLLABLE, SYLLABLES).is_some_and(|at| at % TRAILS == 0);
        let trail = within(second, TRAIL, TRAILS).filter(|&trail| open && trail != 0)?;
        Some(first + trail)
    }
}

// ---- The tables, made of the text while compiling -----------------------------------------------

/// How many entries have this mark.
const fn count(mark: u8) -> usize {
    let (mut count, mut at) = (0, 0);
    while at < TEXT.len() {
        count += (TEXT[at] == mark) as usize;
        at += 1;
    }
    count
}

const fn entries<const N: usize>(mark: u8) -> [[u32; 3]; N] {
    let mut list = [[0; 3]; N];
    let (mut entry, mut part, mut wanted) = ([0; 3], 0, false);
    let (mut len, mut at) = (0, 0);
    while at < TEXT.len() {
        match TEXT[at] {
            digit @ b'0'..=b'9' => entry[part] = entry[part] * 16 + (digit - b'0') as u32,
            digit @ b'A'..=b'F' => entry[part] = entry[part] * 16 + (digit - b'A') as u32 + 10,
            b' ' | b'\n' => {
                if wanted {
                    list[len] = entry;
                    len += 1;
                }
                (entry, part, wanted) = ([0; 3], 0, false);
            }
            other => {
                wanted |= other == mark;
                part += 1;
            }
        }
        at += 1;
    }
    list
}

/// A shell sort: the standard library's cannot run while compiling.
const fn by_parts<const N: usize>() -> [u16; N] {
    let mut list = [0; N];
    let mut at = 0;
    while at < N {
        list[at] = at as u16;
        at += 1;
    }
    let mut gap = N / 2;
    while gap > 0 {
        let mut next = gap;
        while next < N {
            let moved = list[next];
            let mut to = next;
            while to >= gap && parts_key(moved) < parts_key(list[to - gap]) {
                list[to] = list[to - gap];
                to -= gap;
            }
            list[to] = moved;
            next += 1;
        }
        gap /= 2;
    }
    list
}

const fn parts_key(at: u16) -> u64 {
    let [_, first, second] = PAIRS[at as usize];
    (first as u64) << 32 | second as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use unicode_normalization_alignments::UnicodeNormalization;
    use unicode_normalization_alignments::char as theirs;

    use super::*;

    fn nfc(text: &str) -> String {
        let mut text = NormalizedString::from(text);
        normalize(&mut text);
        text.get().into()
    }

    #[test]
    fn every_character_is_as_in_the_tokenisers_crate() {
        for c in '\0'..=char::MAX {
            let (mut ours, mut parts) = (Vec::new(), Vec::new());
            push_parts(c.into(), &mut ours);
            theirs::decompose_canonical(c, |part| {
                parts.push((part.into(), theirs::canonical_combining_class(part)));
            });
            assert_eq!(ours, parts, "{c:?}");
            let text = c.to_string();
            assert_eq!(nfc(&text), text.nfc().map(|c| c.0).collect::<String>(), "{c:?}");
        }
    }

    #[test]
    fn every_pair_is_as_in_the_tokenisers_crate() {
        let firsts: BTreeSet<u32> = PAIRS.iter().map(|pair| pair[1]).chain(hangul()).collect();
        let seconds: BTreeSet<u32> = PAIRS.iter().map(|pair| pair[2]).chain(hangul()).collect();
        for &first in &firsts {
            for &second in &seconds {
                let [a, b] = [first, second].map(|c| char::from_u32(c).unwrap());
                let theirs = theirs::compose(a, b).map(u32::from);
                assert_eq!(pair(first, second), theirs, "{a:?} {b:?}");
            }
        }
    }

    /// All parts of syllables and what is beside them; some syllables with and without a trail.
    fn hangul() -> impl Iterator<Item = u32> {
        (0x10FF..0x1200).chain(0xABFF..0xAC40).chain(0xD780..0xD7A5)
    }

    /// What compositions are made of and made to, in front of and behind all kinds of marks.
    fn texts() -> impl Strategy<Value = String> {
        let in_tables = PAIRS.iter().chain(&ONE_WAY).flatten().copied();
        let marks = CLASSES.iter().flat_map(|range| range[0]..=range[1]);
        let all: BTreeSet<u32> = in_tables.chain(marks).chain(hangul()).collect();
        let all: Vec<char> = all.into_iter().filter_map(char::from_u32).collect();
        let latin: Vec<char> = "aeiou\u{300}\u{301}\u{323}\u{327}\u{328}\u{345}".chars().collect();
        let c = prop_oneof![prop::sample::select(all), prop::sample::select(latin)];
        prop::collection::vec(c, 0..24).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn any_text_is_as_in_the_tokenisers_crate(text in texts()) {
            prop_assert_eq!(nfc(&text), text.nfc().map(|c| c.0).collect::<String>());
        }
    }
}

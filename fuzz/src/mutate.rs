//! Changes to inputs, without knowing what they reach: what stable Rust can do.

use crate::Target;

/// xorshift: the same inputs on every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Under `end`, 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end.max(1)
    }

    /// Under 2 to the power of `bits`, and rather small.
    fn small(&mut self, bits: usize) -> usize {
        let bits = self.below(bits);
        self.below(1 << bits)
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }
}

/// Numbers at borders, as bytes and as text.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// One of `inputs`, changed in one to some places.
pub fn mutate(target: &Target, inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(inputs).cloned().unwrap_or_default();
    for _ in 0..=random.below(4) {
        change(&mut input, target.words, inputs, random);
    }
    input.truncate(target.longest);
    input
}

fn change(input: &mut Vec<u8>, words: &[&str], inputs: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + 1 + random.small(8)).min(input.len()).max(at);
    match random.below(10) {
        0 | 1 => input.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << random.below(8)),
        2 => input.iter_mut().skip(at).take(1).for_each(|b| *b = random.below(256) as u8),
        3 => drop(input.drain(at..end)),
        4 => {
            let part = input[at..end].to_vec();
            insert(input, at, &part.repeat(1 + random.small(10)));
        }
        5 => {
            if let Some(word) = random.pick(words) {
                insert(input, at, word.as_bytes());
            }
        }
        6 => {
            // In the place of a word that is there already.
            let found = random.pick(words).and_then(|word| {
                let at = input.windows(word.len().max(1)).position(|w| w == word.as_bytes())?;
                Some(at..at + word.len())
            });
            if let (Some(range), Some(word)) = (found, random.pick(words)) {
                input.splice(range, word.bytes());
            }
        }
        7 => {
            let number = random.pick(&NUMBERS).copied().unwrap_or_default();
            let bytes = &number.to_le_bytes()[..1 << random.below(4)];
            input.iter_mut().skip(at).zip(bytes).for_each(|(b, new)| *b = *new);
        }
        8 => {
            let digits = input.iter().skip(at).position(u8::is_ascii_digit).map(|n| at + n);
            let number = random.pick(&NUMBERS).copied().unwrap_or_default();
            if let Some(first) = digits {
                let len = input[first..].iter().take_while(|b| b.is_ascii_digit()).count();
                input.splice(first..first + len, number.to_string().into_bytes());
            }
        }
        _ => {
            let other = random.pick(inputs).cloned().unwrap_or_default();
            let from = random.below(other.len() + 1);
            let len = random.small(12).min(other.len() - from);
            insert(input, at, &other[from..from + len]);
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

//! How a text is split before byte-pair encoding: the patterns behind the names in
//! `tokenizer.ggml.pre`. Each pattern cuts the pieces that the one before it left.

use anyhow::{Result, bail};

/// A way of splitting.
pub struct Pre {
    names: &'static [&'static str],
    pub patterns: &'static [&'static str],
    /// A piece that is a token as a whole is not put together from merges.
    pub ignore_merges: bool,
    /// A prompt begins with `bos` where the file does not say.
    pub add_bos: bool,
}

/// English contractions, then words, numbers and runs of other characters, each with at most one
/// space in front; white space before a word keeps its last character for the word.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// As [`GPT2`], but: contractions in either case, a word may take any one character in front, line
/// ends stay with the punctuation before them and close a run of white space. `$digits` is how
/// numbers are cut.
macro_rules! line_aware {
    ($digits:literal) => {
        concat!(
            r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]",
            r"|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

const ALL: &[Pre] = &[
    Pre { names: &["gpt-2"], patterns: &[GPT2], ignore_merges: false, add_bos: false },
    Pre {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell"],
        patterns: &[r"\p{N}", GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    Pre {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[line_aware!(r"\p{N}")],
        ignore_merges: false,
        add_bos: false,
    },
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3"],
        patterns: &[line_aware!(r"\p{N}{1,3}")],
        ignore_merges: true,
        add_bos: true,
    },
    Pre {
        names: &["default"],
        patterns: &[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
    },
];

/// The way `name` stands for.
pub fn find(name: &str) -> Result<&'static Pre> {
    if let Some(pre) = ALL.iter().find(|pre| pre.names.contains(&name)) {
        return Ok(pre);
    }
    let known: Vec<_> = ALL.iter().flat_map(|pre| pre.names).copied().collect();
    bail!("tokenizer.ggml.pre {name} is not supported; supported are {}", known.join(", "))
}

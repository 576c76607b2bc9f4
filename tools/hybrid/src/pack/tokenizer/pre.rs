//! How a text is split before byte-pair encoding: the patterns behind the names in
//! `tokenizer.ggml.pre`. Each pattern cuts the pieces that the one before it left.
//!
//! The patterns cut as llama.cpp does, which is not always as the model's own tokenizer: llama.cpp
//! tells upper from lower case in ASCII alone, for one. Every pattern runs in time linear in the
//! text, but for a factor that does not grow with it: no repetition repeats what is repeated, and
//! what looks ahead looks at one character.

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

/// Contractions in either case.
macro_rules! contractions {
    () => {
        "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    };
}

/// What follows words and numbers: punctuation, with what may follow it, then white space. Line
/// ends close a run of white space.
macro_rules! rest {
    ($after_punctuation:literal) => {
        concat!(r"| ?[^\s\p{L}\p{N}]+", $after_punctuation, r"|\s*[\r\n]+|\s+(?!\S)|\s+")
    };
}

/// As [`GPT2`], but: contractions in either case, a word may take any one character in front, line
/// ends stay with the punctuation before them. `$digits` is how numbers are cut.
macro_rules! line_aware {
    ($digits:literal) => {
        concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|", $digits, rest!(r"[\r\n]*"))
    };
}

/// As [`line_aware`], but a word also ends where upper case follows lower case, and a contraction
/// is part of the word before it. `$after` is what may end a word.
macro_rules! case_aware {
    ($digits:literal, $after:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+",
            $after,
            r"|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*",
            $after,
            "|",
            $digits,
            rest!(r"[\r\n/]*")
        )
    };
}

/// Chinese characters and what Japanese writes beside them.
macro_rules! han_and_kana {
    () => {
        r"[\u{4E00}-\u{9FA5}\u{3040}-\u{30FF}]+"
    };
}

/// DeepSeek's words: a word takes its marks, ASCII punctuation the ASCII letters behind it.
/// `$after_punctuation` and `$line_ends` are how line ends are cut.
macro_rules! deepseek_words {
    ($after_punctuation:literal, $line_ends:literal) => {
        concat!(
            r"[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+",
            $after_punctuation,
            "|",
            $line_ends,
            r"|\s+(?!\S)|\s+"
        )
    };
}

/// Letters with case, as far as Unicode 11 had them in scripts of today.
const DEEPSEEK_LLM_WORD: &str = concat!(
    r"\s?[[\p{Lu}\p{Ll}\p{Lt}]--[\u{560}-\u{588}\u{10C7}\u{10CD}\u{10D0}-\u{10FF}",
    r"\u{1C80}-\u{1C8F}\u{2D00}-\u{2D2F}\u{A790}-\u{A7FF}\u{AB30}-\u{AB6F}\u{10570}-\u{105BF}",
    r"\u{10D40}-\u{10D8F}\u{16E40}-\u{16E7F}\u{1D400}-\u{1D7FF}\u{1DF00}-\u{1DFFF}]]+"
);

/// East Asian characters, most of them; white space in between is none of them.
const DEEPSEEK_EAST_ASIAN: &str = r"[[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]&&\S]+";

/// Runs between the characters that end sentences or parts of them, in several scripts.
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

/// Chinese characters, as a class without its brackets.
macro_rules! han {
    () => {
        concat!(
            r"\u{3400}-\u{4DBF}\u{4E00}-\u{9FFF}\u{F900}-\u{FAFF}\u{20000}-\u{2A6DF}",
            r"\u{2A700}-\u{2EBEF}\u{2F800}-\u{2FA1F}"
        )
    };
}

const ALL: &[Pre] = &[
    Pre::new(&["default"], &[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    Pre::new(
        &[
            "gpt-2",
            "phi-2",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "mpt",
            "olmo",
            "jais",
            "exaone4",
            "trillion",
            "granite-docling",
        ],
        &[GPT2],
    ),
    Pre::new(
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        &[r"\p{N}", GPT2],
    ),
    Pre::new(&["falcon"], &[r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"]),
    Pre::new(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        &[line_aware!(r"\p{N}")],
    ),
    Pre::new(&["laguna"], &[r"[^\n]+|\n+", line_aware!(r"\p{N}")]),
    Pre::new(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[line_aware!(r"\p{N}{1,3}")]),
    Pre::new(
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        &[line_aware!(r"\p{N}{1,3}")],
    )
    .whole_pieces()
    .with_bos(),
    Pre::new(&["minicpm5"], &[r"\p{N}{1,3}", line_aware!(r"\p{N}+")]).whole_pieces(),
    Pre::new(
        &["seed-coder"],
        &[concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}", rest!(""))],
    ),
    Pre::new(&["ufakzeka"], &[concat!(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}", rest!(r"[\r\n]*"))]),
    Pre::new(
        &["qwen35"],
        &[concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
            r"|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
    ),
    Pre::new(&["tekken"], &[case_aware!(r"\p{N}", "")]).whole_pieces().with_bos(),
    Pre::new(
        &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        &[case_aware!(r"\p{N}{1,3}", concat!("(?:", contractions!(), ")?"))],
    ),
    Pre::new(
        &["kimi-k2"],
        &[concat!(
            "[",
            han!(),
            r"]+|[^\r\n\p{L}\p{N}]?[\p{L}--[",
            han!(),
            "]]+(?:",
            contractions!(),
            r")?|\p{N}{1,3}",
            rest!(r"[\r\n]*")
        )],
    ),
    Pre::new(
        &["youtu"],
        &[
            concat!(
                r"[\u{AC00}-\u{D7A3}\u{3131}-\u{318E}]+",
                r"|[！…“”‘’—：；，\u{3001}-\u{303F}\u{FE30}-\u{FE4F}]+",
                r"|[\u{3105}-\u{312F}]+|",
                han_and_kana!()
            ),
            concat!(
                r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:",
                contractions!(),
                r")?|\p{N}",
                rest!(r"[\r\n/]*")
            ),
        ],
    )
    .whole_pieces(),
    Pre::new(
        &["exaone-moe"],
        &[concat!(
            contractions!(),
            r"|[^\r\n\p{L}\p{N}]?\p{L}\p{M}*(?: ?\p{L}\p{M}*)*|\p{N}",
            rest!(r"[\r\n/]?")
        )],
    ),
    Pre::new(
        &["deepseek-llm"],
        &[
            r"[\r\n]",
            DEEPSEEK_LLM_WORD,
            r"\s?[!-/:-~！-／：-～‘-‟、-。]+",
            r"\s+$",
            DEEPSEEK_EAST_ASIAN,
            r"\p{N}+",
        ],
    ),
    Pre::new(
        &["deepseek-coder"],
        &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_EAST_ASIAN, r"\p{N}"],
    ),
    Pre::new(
        &["deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"],
        &[r"\p{N}{1,3}", han_and_kana!(), deepseek_words!(r"[\r\n]*", r"\s*[\r\n]+")],
    ),
    Pre::new(
        &["spark2_5"],
        &[r"\p{N}{1,3}", han_and_kana!(), deepseek_words!("", r"[\r\n]"), r"\p{N}"],
    ),
    Pre::new(&["bloom", "poro-chat", "gpt3-finnish"], &[BLOOM]),
    Pre::new(&["viking"], &[BLOOM, r"\p{N}"]),
];

impl Pre {
    const fn new(names: &'static [&'static str], patterns: &'static [&'static str]) -> Pre {
        Pre { names, patterns, ignore_merges: false, add_bos: false }
    }

    const fn whole_pieces(self) -> Pre {
        Pre { ignore_merges: true, ..self }
    }

    const fn with_bos(self) -> Pre {
        Pre { add_bos: true, ..self }
    }
}

/// The way `name` stands for.
pub fn find(name: &str) -> Result<&'static Pre> {
    if let Some(pre) = ALL.iter().find(|pre| pre.names.contains(&name)) {
        return Ok(pre);
    }
    bail!("tokenizer.ggml.pre {name} is not supported; supported are {}", names().join(", "))
}

pub fn names() -> Vec<&'static str> {
    ALL.iter().flat_map(|pre| pre.names).copied().collect()
}

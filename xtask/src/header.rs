//! `include/hybrid.h`: the conventions of cbindgen.toml, then a section for each file of src/ffi.
//!
//! cbindgen is run on one file at a time, since it would otherwise sort all types before all
//! functions; within a section the order is the source's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Parts of the header and the files of src/ffi that are their sections, simple things first. A
/// type's section comes before those that use it.
const PARTS: &[(&str, &[&str])] = &[
    ("Basics", &["status", "last_error", "objects", "version"]),
    ("Simple", &["model", "session", "outcome", "result", "step"]),
    ("Explicit", &["network", "cloud", "gate", "consult", "budget", "sampling"]),
    ("Advanced", &["tokens", "context", "state", "corrections", "cancel", "log"]),
];

const GUARD: &str = "HYBRID_H";

/// Columns of a line at most.
const WIDTH: usize = 100;

/// What every section uses. `@...@` are parts of the version.
const MACROS: &str = r#"
/// The version of this header.
#define HYBRID_VERSION "@VERSION@"
/// The first number of HYBRID_VERSION.
#define HYBRID_VERSION_MAJOR @MAJOR@
/// The second number of HYBRID_VERSION.
#define HYBRID_VERSION_MINOR @MINOR@
/// The third number of HYBRID_VERSION.
#define HYBRID_VERSION_PATCH @PATCH@
/// The C ABI of this header: before 1.0 the second number, from then on 1000 times the first.
#define HYBRID_ABI_VERSION @ABI@

#ifndef HYBRID_API
#ifdef __GNUC__
/// Stands before each function, which is visible in a shared library. Define it to change that.
#define HYBRID_API __attribute__((visibility("default")))
#else
#define HYBRID_API
#endif
#endif

#ifndef HYBRID_DEPRECATED
#ifdef __GNUC__
/// Stands before a function that a later release will drop. The text names a better one.
#define HYBRID_DEPRECATED(text) __attribute__((deprecated(text)))
#else
#define HYBRID_DEPRECATED(text)
#endif
#endif

/// An enum that is an int32_t with every compiler; see *Enums* above.
#if defined(__cplusplus)
#define HYBRID_ENUM(name) enum name : int32_t
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L
#define HYBRID_ENUM(name) enum name : int32_t; typedef enum name name; enum name : int32_t
#else
#define HYBRID_ENUM(name) typedef int32_t name; enum name
#endif
"#;

pub fn write() -> Result<()> {
    std::fs::write(path(), generate()?).with_context(|| format!("writing {}", path().display()))
}

pub fn check() -> Result<()> {
    let committed =
        std::fs::read_to_string(path()).with_context(|| format!("reading {}", path().display()))?;
    let generated = generate()?;
    if committed == generated {
        return Ok(());
    }
    let same = committed.lines().zip(generated.lines()).take_while(|(a, b)| a == b).count();
    bail!(
        "include/hybrid.h is not what src/ffi says, from line {} on; run `cargo xtask header`",
        same + 1
    )
}

fn generate() -> Result<String> {
    let mut config = read_config()?;
    let conventions = config.header.take().context("cbindgen.toml has no `header`")?;
    let mut out = String::from("/// @file\n");
    out += &comment(conventions.trim());
    out += &format!("\n#ifndef {GUARD}\n#define {GUARD}\n\n");
    out += "#include <stddef.h>\n#include <stdint.h>\n";
    out += &macros()?;
    out += "\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n";
    for (part, files) in PARTS {
        for file in *files {
            out += &section(part, file, &config)?;
        }
    }
    out += "\n#ifdef __cplusplus\n}\n#endif\n\n";
    out += &format!("#endif // {GUARD}\n");
    check_style(&out)?;
    Ok(out)
}

fn comment(text: &str) -> String {
    text.lines().map(|line| format!("/// {line}").trim_end().to_owned() + "\n").collect()
}

/// [`MACROS`] for the version of the library.
fn macros() -> Result<String> {
    let file = root().join("Cargo.toml");
    let manifest =
        std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .with_context(|| format!("{} has no version", file.display()))?;
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let [major, minor, patch] = numbers.split('.').collect::<Vec<_>>()[..] else {
        bail!("{}: the version {version} is not of three numbers", file.display());
    };
    let abi = if major == "0" { minor.to_owned() } else { format!("{major}000") };
    Ok(MACROS
        .replace("@ABI@", &abi)
        .replace("@VERSION@", version)
        .replace("@MAJOR@", major)
        .replace("@MINOR@", minor)
        .replace("@PATCH@", patch))
}

/// ASCII, in lines that are not too long.
fn check_style(header: &str) -> Result<()> {
    for line in header.lines() {
        if !line.is_ascii() || line.len() > WIDTH {
            bail!("a line is over {WIDTH} columns or not ASCII; change its source: {line}");
        }
    }
    Ok(())
}

fn read_config() -> Result<cbindgen::Config> {
    let file = root().join("cbindgen.toml");
    cbindgen::Config::from_file(file.to_string_lossy().as_ref()).map_err(anyhow::Error::msg)
}

/// A banner with the module's documentation, and the file's items.
fn section(part: &str, name: &str, config: &cbindgen::Config) -> Result<String> {
    let file = root().join(format!("src/ffi/{name}.rs"));
    let source =
        std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let mut docs = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim_start);
    let title = docs.next().with_context(|| format!("{} has no //! title", file.display()))?;

    let rule = "-".repeat(96);
    let mut out = format!("\n// {rule}\n/// @defgroup {name} {part}: {title}\n");
    out += &comment(docs.collect::<Vec<_>>().join("\n").trim_end());
    out += "/// @{\n";
    let mut items = items(&file, config)?;
    items.sort_by_key(|item| position(item, &source));
    for item in items {
        out.push('\n');
        out += &tidy(&item);
    }
    out += "\n/// @}\n";
    Ok(out)
}

/// cbindgen's output for one file, item by item.
fn items(file: &Path, config: &cbindgen::Config) -> Result<Vec<String>> {
    let mut bytes = Vec::new();
    cbindgen::Builder::new()
        .with_config(config.clone())
        .with_src(file)
        .generate()
        .with_context(|| format!("cbindgen on {}", file.display()))?
        .write(&mut bytes);
    let text = String::from_utf8(bytes)?;
    Ok(text
        .split("\n\n")
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Where the source defines the item. Its code names other items too, so the kind that only the
/// item itself can be is tried first.
fn position(item: &str, source: &str) -> Option<usize> {
    let code = item.lines().filter(|line| !line.trim_start().starts_with("//"));
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: Vec<&str> = code.flat_map(|line| line.split(|c| !is_of_a_name(c))).collect();
    let names = || words.iter().filter(|word| word.to_ascii_lowercase().starts_with("hybrid_"));
    let definition = |word: &str, name: &str| {
        let starts = format!("{word} {name}");
        source.match_indices(&starts).map(|(at, _)| at).find(|at| {
            let next = source[at + starts.len()..].chars().next();
            next.is_some_and(|c| !(c.is_ascii_alphanumeric() || c == '_'))
        })
    };
    ["fn", "pub const", "pub type", "pub struct", "pub enum"]
        .iter()
        .find_map(|word| names().find_map(|name| definition(word, name)))
}

/// cbindgen's item as we write it: types by their typedef, enums by the macro that makes them an
/// `int32_t`, functions with their arguments filled into lines.
fn tidy(item: &str) -> String {
    let (docs, code): (Vec<&str>, Vec<&str>) =
        item.lines().partition(|line| line.starts_with("///"));
    let mut out = String::new();
    for line in docs {
        out += line;
        out.push('\n');
    }
    let code = match code[..] {
        [first, ..] if first.starts_with("enum ") => enumeration(&code),
        [first, ..] if first.starts_with("typedef struct") || first.starts_with('#') => {
            code.join("\n")
        }
        _ => function(&code),
    };
    out + &typedefs(&code) + "\n"
}

/// `struct hybrid_x` and `Number<hybrid_x>` are both `hybrid_x`.
fn typedefs(code: &str) -> String {
    let mut out = String::new();
    for line in code.lines() {
        match line.strip_prefix("typedef struct ") {
            Some(rest) => out += &format!("typedef struct {rest}\n"),
            None => out += &format!("{}\n", line.replace("struct hybrid_", "hybrid_")),
        }
    }
    while let Some((before, (name, after))) =
        out.split_once("Number<").and_then(|(before, rest)| Some((before, rest.split_once('>')?)))
    {
        out = format!("{before}{name}{after}");
    }
    out.trim_end().to_owned()
}

/// Without what cbindgen does to have an enum of a fixed size in every language.
fn enumeration(code: &[&str]) -> String {
    let name = code.first().and_then(|line| line.strip_prefix("enum ")).unwrap_or_default();
    let mut out = format!("HYBRID_ENUM({name}) {{\n");
    for line in code.iter().filter(|line| line.starts_with("  ") && line.trim() != ": int32_t") {
        out += line;
        out.push('\n');
    }
    out + "};"
}

/// On one line if it fits, or else its arguments on lines of their own.
fn function(code: &[&str]) -> String {
    let code = typedefs(&code.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "));
    let code = code.replace("( ", "(");
    // The last group of parentheses has the arguments.
    let Some(open) = code.rfind('(').filter(|_| code.len() > WIDTH) else { return code };
    let (head, arguments) = code.split_at(open + 1);
    let mut lines = vec![head.to_owned()];
    let mut line = String::from("   ");
    for argument in arguments.split_inclusive(", ").map(str::trim) {
        if line.len() + 1 + argument.len() > WIDTH {
            lines.push(std::mem::replace(&mut line, String::from("   ")));
        }
        line += &format!(" {argument}");
    }
    lines.push(line);
    lines.join("\n")
}

fn path() -> PathBuf {
    root().join("include/hybrid.h")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

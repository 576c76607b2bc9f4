//! `include/hybrid.h`: the conventions of cbindgen.toml, then a section for each file of src/ffi.
//!
//! cbindgen is run on one file at a time, since it would otherwise sort all types before all
//! functions; within a section the order is the source's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Parts of the header and the files of src/ffi that are their sections, simple things first. A
/// type's section comes before those that use it.
const PARTS: &[(&str, &[&str])] = &[
    ("Basics", &["status", "objects"]),
    ("Simple", &["model", "options", "session"]),
    ("Explicit", &["outcome", "step", "cloud"]),
    ("Advanced", &["context", "state", "cancel", "log", "version"]),
];

const GUARD: &str = "HYBRID_H";

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
    let mut out = conventions.trim_start().to_owned();
    out += &format!("\n#ifndef {GUARD}\n#define {GUARD}\n\n");
    out += "#include <stddef.h>\n#include <stdint.h>\n\n";
    out += "#ifdef __cplusplus\nextern \"C\" {\n#endif\n";
    for (part, files) in PARTS {
        for file in *files {
            out += &section(part, file, &config)?;
        }
    }
    out += "\n#ifdef __cplusplus\n}\n#endif\n\n";
    out += &format!("#endif // {GUARD}\n");
    Ok(out)
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
    let mut out = format!("\n// {rule}\n// {part}: {title}\n// {rule}\n");
    for line in docs {
        out += format!("// {line}").trim_end();
        out.push('\n');
    }
    let mut items = items(&file, config)?;
    items.sort_by_key(|item| position(item, &source));
    let mut after_define = false;
    for item in items {
        // Constants of one kind stand together; their documentation separates them well enough.
        let define = item.contains("#define");
        out += if define && after_define { "" } else { "\n" };
        out += &tidy(&item);
        after_define = define;
    }
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

/// Where the source defines the item. A line of C names other items too, so the kind that only the
/// item itself can be is tried first.
fn position(item: &str, source: &str) -> Option<usize> {
    let code = item.lines().find(|line| !line.starts_with("//"))?;
    let words = || code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let names = || words().filter(|word| word.to_ascii_lowercase().starts_with("hybrid_"));
    let definition = |word: &str, name: &str| {
        let starts = format!("{word} {name}");
        source.match_indices(&starts).map(|(at, _)| at).find(|at| {
            let next = source[at + starts.len()..].chars().next();
            next.is_some_and(|c| !(c.is_ascii_alphanumeric() || c == '_'))
        })
    };
    ["fn", "pub const", "pub type", "pub struct"]
        .iter()
        .find_map(|word| names().find_map(|name| definition(word, name)))
}

/// Parentheses around negative numbers; types by their typedef.
fn tidy(item: &str) -> String {
    let mut out = String::new();
    for line in item.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["#define", name, value] = words[..]
            && value.starts_with('-')
        {
            out += &format!("#define {name} ({value})");
        } else if line.starts_with("typedef struct") {
            out += line;
        } else {
            out += &line.replace("struct hybrid_", "hybrid_");
        }
        out.push('\n');
    }
    out
}

fn path() -> PathBuf {
    root().join("include/hybrid.h")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

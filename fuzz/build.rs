//! Makes of `tests/c/abi.txt`, which states the C ABI of the header, what `targets/calls.rs` needs
//! to call every function with any arguments.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

const ABI: &str = "../tests/c/abi.txt";

fn main() {
    println!("cargo::rerun-if-changed={ABI}");
    let abi = fs::read_to_string(ABI).expect("the ABI is stated");
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("abi.rs"), generate(&abi)).expect("the generated file");
}

fn generate(abi: &str) -> String {
    let opaque: Vec<&str> = abi.lines().filter_map(|line| line.strip_prefix("opaque ")).collect();
    let structs: Vec<&str> =
        abi.lines().filter_map(|line| line.strip_prefix("struct ")?.split(' ').next()).collect();
    let kind = |c_type: &str| kind(c_type, &opaque, &structs);
    let (mut declared, mut functions, mut layouts) = (String::new(), String::new(), String::new());
    for line in abi.lines() {
        if let Some(function) = line.strip_prefix("function ") {
            let (before, parameters) = function.split_once('(').expect("parameters");
            let (returned, name) = before.rsplit_once(' ').expect("a name");
            let parameters: Vec<&str> =
                parameters.trim_end_matches(')').split(", ").filter(|one| *one != "void").collect();
            let word = |one: &&str| {
                if one.contains("callback") || one.contains('*') { "usize" } else { number(one) }
            };
            let of = |text: &dyn Fn(usize, &&str) -> String| {
                parameters
                    .iter()
                    .enumerate()
                    .map(|(n, p)| text(n, p))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let returns = match returned {
                "void" => String::new(),
                text if text.contains('*') => " -> usize".into(),
                _ => " -> i32".into(),
            };
            writeln!(
                declared,
                "    fn {name}({}){returns};",
                of(&|n, p| format!("a{n}: {}", word(p)))
            )
            .unwrap();
            let call = format!("{name}({})", of(&|n, p| format!("words[{n}] as {}", word(p))));
            let result = match returned {
                "hybrid_status" => format!("Some({call})"),
                _ => format!("{{ {call}; None }}"),
            };
            writeln!(
                functions,
                "    Function {{ name: {name:?}, parameters: &[{}], \
                 call: |{}| unsafe {{ {result} }} }},",
                of(&|_, p| kind(p)),
                if parameters.is_empty() { "_" } else { "words" }
            )
            .unwrap();
        } else if let Some(head) = line.strip_prefix("struct ") {
            let (name, size) = head.split_once(' ').expect("a size");
            if !layouts.is_empty() {
                layouts.push_str("    ] },\n");
            }
            writeln!(layouts, "    Struct {{ name: {name:?}, size: {size}, fields: &[").unwrap();
        } else if let Some(field) =
            line.strip_prefix("  ").filter(|field| !field.starts_with("HYBRID"))
        {
            let mut parts = field.splitn(3, ' ');
            let (offset, size) = (parts.next().expect("offset"), parts.next().expect("size"));
            let (c_type, name) = parts.next().expect("type").rsplit_once(' ').expect("name");
            writeln!(
                layouts,
                "        Field {{ offset: {offset}, size: {size}, name: {name:?}, kind: {} }},",
                kind(c_type)
            )
            .unwrap();
        }
    }
    format!(
        "unsafe extern \"C\" {{\n{declared}}}\n\n/// Every function of the header.\npub const \
         FUNCTIONS: &[Function] = &[\n{functions}];\n\n/// Every struct of the header.\npub const \
         STRUCTS: &[Struct] = &[\n{layouts}    ] }},\n];\n"
    )
}

/// The Rust type of a number.
fn number(c_type: &str) -> &'static str {
    match c_type {
        "size_t" => "usize",
        "uint32_t" => "u32",
        "uint64_t" => "u64",
        // Enums too.
        name if name == "int32_t" || name.starts_with("hybrid_") => "i32",
        other => panic!("tests/c/abi.txt has a parameter of the type {other}: say here what it is"),
    }
}

/// What an argument or a field of this type must be.
fn kind(c_type: &str, opaque: &[&str], structs: &[&str]) -> String {
    let bare = c_type.replace("const ", "").replace("const", "");
    let name = bare.trim_end_matches([' ', '*']);
    let stars = bare.matches('*').count();
    match (name, stars) {
        (callback, 0) if callback.ends_with("_callback") => format!("Kind::Callback({callback:?})"),
        ("size_t", 0) => "Kind::Size".into(),
        (_, 0) => "Kind::Number".into(),
        ("char", 1) if c_type.starts_with("const") => "Kind::Text".into(),
        ("char", 2) if c_type.starts_with("const char *const") => "Kind::Texts".into(),
        ("void", 1) => "Kind::User".into(),
        (object, 1) if opaque.contains(&object) => format!("Kind::Object({object:?})"),
        (object, 2) if opaque.contains(&object) => format!("Kind::NewObject({object:?})"),
        (name, 1) if structs.contains(&name) => format!("Kind::Struct({name:?})"),
        _ => "Kind::Memory".into(),
    }
}

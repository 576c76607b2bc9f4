//! A chat template: parsed and rendered.

use std::sync::LazyLock;

use hybrid::tokens::{ChatTemplate, Message, Tokens};
use serde_json::Value;

use crate::Target;
use crate::parts::text;
use crate::small::Files;

pub const TARGET: Target = Target {
    name: "template",
    run,
    seeds,
    words: &[
        "{{",
        "}}",
        "{%",
        "%}",
        "{%-",
        "-%}",
        "{#",
        "#}",
        " if ",
        " elif ",
        " else ",
        "endif",
        " for ",
        " in ",
        "endfor",
        " set ",
        "endset",
        "macro ",
        "endmacro",
        "namespace(",
        "range(",
        "raise_exception(",
        "strftime_now(",
        "generation",
        "endgeneration",
        "break",
        "continue",
        "loop.",
        "messages",
        "|tojson",
        "|tojson(indent=4)",
        "|join",
        "|replace",
        "|batch(",
        "|slice(",
        "|indent(",
        "|upper",
        "|list",
        "|length",
        "|map(attribute=",
        "|selectattr(",
        "|sort",
        "|unique",
        "|format(",
        ".split(",
        ".strip()",
        ".items()",
        ".replace(",
        "[::-1]",
        "[1:2]",
        " not ",
        " and ",
        " or ",
        " is ",
        "defined",
        "~",
        "**",
        "//",
        "%",
        "999999999",
        "'a'",
        "\"b\"",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
        "recursive",
        "caller()",
        "filter ",
        "call ",
    ],
    longest: 16 << 10,
};

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    let files = Files::small();
    let json = files.file(hybrid::bundle::FileRole::Tokenizer);
    Tokens::new(json, files.manifest().tokens).unwrap()
});

fn run(input: &[u8]) {
    let Ok(template) = ChatTemplate::new(&text(input), &TOKENS) else { return };
    let message =
        |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    let talk = [
        message("system", "Be brief."),
        message("user", "<b>\u{e9}\"'\\ \n</b> {{ 1 }}"),
        message("assistant", "<think>x</think>Yes."),
        message("user", &"word ".repeat(200)),
    ];
    for messages in [&talk[..1], &talk[..]] {
        let _ = template.render(messages);
    }
}

/// Every template that the tests compare with Jinja2, in pieces of some kilobytes, and what once
/// ended processes.
fn seeds() -> Vec<Vec<u8>> {
    let mut templates = Vec::new();
    let cases: Value = serde_json::from_str(CASES).unwrap();
    collect(&cases, &mut templates);
    templates.extend(BOMBS.map(String::from));
    templates.extend([
        format!("{{{{ {}1 }}}}", "1+".repeat(2000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(2000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(2000), ")".repeat(2000)),
        format!("{{{{ a{} }}}}", "|upper".repeat(1000)),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(1000)),
    ]);
    templates.into_iter().map(String::into_bytes).collect()
}

const CASES: &str = include_str!("../../../tests/data/chat-templates.json");

/// Every text with a tag in it.
fn collect(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) if text.contains("{{") || text.contains("{%") => out.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|one| collect(one, out)),
        Value::Object(fields) => fields.values().for_each(|one| collect(one, out)),
        _ => {}
    }
}

const BOMBS: [&str; 10] = [
    "{% set ns=namespace() %}{% set ns.a=ns %}{{ ns }}",
    "{% set ns=namespace() %}{% set ns.a=ns %}{{ ns|tojson }}",
    "{% for i in range(100000) %}{{ range(100000)|list|length }}{% endfor %}",
    "{% set ns=namespace(s='a') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{{ [1]|batch(1000000000,0)|list }}{{ [1]|slice(1000000000)|list }}",
    "{{ {'a':[1]}|tojson(indent=1000000000) }}{{ 'a\\nb'|indent(100000) }}",
    "{{ '%999999999s'|format('a') }}{{ 'a' * 999999999 }}",
    "{{ ('a'*9999)|replace('a', 'b'*9999)|replace('b', 'c'*9999) }}",
    "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(200) }}",
    "{% set n=namespace(l=[]) %}{% for i in range(9999) %}{% set n.l=[n.l] %}{% endfor %}{{ n.l }}",
];

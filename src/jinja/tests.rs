use serde_json::Value as Json;

use super::*;

/// What Jinja2 renders, by `scripts/tools/chat_templates.py`.
const CASES: &str = include_str!("../../tests/data/chat-templates.json");

/// Less than a thread needs for anything else in this library.
const SMALL_STACK: usize = 128 << 10;

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::Float(number.as_f64().unwrap()), Value::Int)
        }
        Json::String(text) => Value::text(text.as_str()),
        Json::Array(items) => Value::list(items.iter().map(value).collect()),
        Json::Object(entries) => {
            Value::dict(entries.iter().map(|(key, item)| (key.as_str(), value(item))).collect())
        }
    }
}

fn variables(json: &Json) -> Vec<(&str, Value)> {
    let entries = json.as_object().into_iter().flatten();
    entries.map(|(key, item)| (key.as_str(), value(item))).collect()
}

fn render(source: &str, variables: Vec<(&str, Value)>, now: u64) -> Result<String, String> {
    let rendered = Template::parse(source)?.render(variables, now, &Cancel::new());
    rendered.map_err(|fault| match fault {
        Fault::Cancelled => "cancelled".into(),
        Fault::Failed(text) => text,
    })
}

/// As Jinja2 does, in what its table does not say yet.
#[test]
fn loops_and_namespaces() {
    let rows = [
        (
            "{% for a in [1, 2] %}{% for b in [] %}{% else %}{% break %}{% endfor %}x{% endfor %}",
            "",
        ),
        ("{% for a in [1, 2] %}{% for b in [3] %}{% break %}{% endfor %}x{% endfor %}", "xx"),
        ("{% set n = namespace({'a': 1}, a=2) %}{{ n.a }}", "2"),
    ];
    for (source, want) in rows {
        assert_eq!(render(source, Vec::new(), 0).as_deref(), Ok(want), "{source}");
    }
}

#[test]
fn renders_what_jinja2_renders() {
    let data: Json = serde_json::from_str(CASES).unwrap();
    let now = data["now"].as_u64().unwrap();
    let mut wrong = Vec::new();
    let cases = data["cases"].as_array().unwrap();
    assert!(cases.len() > 200);
    for case in cases {
        let source = case["template"].as_str().unwrap();
        // The later value of a name counts.
        let mut all = variables(&case["variables"]);
        let own: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        all.extend(variables(&data["variables"]).into_iter().filter(|(n, _)| !own.contains(n)));
        let got = render(source, all, now);
        match (&got, case["want"].as_str()) {
            (Ok(got), Some(want)) if got == want => {}
            (Err(_), None) => {}
            (got, want) => wrong.push(format!("{source}\n  want {want:?}\n  got  {got:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// What a template is given where nothing depends on it.
fn some() -> Vec<(&'static str, Value)> {
    vec![("x", Value::dict(vec![("x", Value::text("a"))])), ("t", Value::text("aA".repeat(5000)))]
}

/// Hostile sources, and a part of the error; `None` where the template is fine.
fn hostile() -> Vec<(String, Option<&'static str>)> {
    let many = |count: usize, part: &str| part.repeat(count);
    let around = |count: usize, before: &str, inner: &str, after: &str| {
        [&before.repeat(count), inner, &after.repeat(count)].concat()
    };
    let output = |inner: String| format!("{{{{ {inner} }}}}");
    let levels = Some("levels deep");
    let (work, memory) = (Some("units of work"), Some("bytes of memory"));
    let mut all = vec![
        // Long chains are flat.
        (output("1".to_owned() + &many(29_700, "+1")), None),
        (output("1".to_owned() + &many(29_700, "~1")), None),
        (output("1".to_owned() + &many(29_700, " and 1")), None),
        (output("1".to_owned() + &many(29_700, " == 1")), None),
        (output("1".to_owned() + &many(29_700, "*1")), None),
        (output("1".to_owned() + &many(29_700, "**1")), None),
        (output("1".to_owned() + &many(19_000, " if 1 else 1")), None),
        (output(many(29_700, "not ") + "1"), None),
        (output(many(29_700, "-") + "1"), None),
        (output("x".to_owned() + &many(9_000, ".x")), Some("undefined")),
        (output("t".to_owned() + &many(9_000, "|upper")), Some("allowed")),
        (output("1".to_owned() + &many(9_000, "()")), Some("called")),
        (output("'a'".to_owned() + &many(9_000, "[0]")), None),
        (format!("{{% if 0 %}}{}{{% endif %}}", many(9_000, "{% elif 0 %}")), None),
        (many(20_000, "{{ 1 }}"), None),
        // What nests is refused.
        (output(around(9_000, "(", "1", ")")), levels),
        (output(around(9_000, "[", "1", "]")), levels),
        (output(around(9_000, "{1:", "1", "}")), levels),
        (output(around(9_000, "x[", "1", "]")), levels),
        (output(around(9_000, "x(", "1", ")")), levels),
        (output(around(9_000, "1|f(", "1", ")")), levels),
        (output(around(9_000, "1 is f(", "1", ")")), levels),
        (output(around(9_000, "1 if (", "1", ")")), levels),
        (around(9_000, "{% if 1 %}", "", "{% endif %}"), levels),
        (around(9_000, "{% for i in x %}", "", "{% endfor %}"), levels),
        (around(9_000, "{% macro f() %}", "", "{% endmacro %}"), levels),
        (around(5_000, "{% generation %}", "", "{% endgeneration %}"), levels),
        (format!("{{% set {} = 1 %}}", around(9_000, "(", "a", ",)")), levels),
        // As deep as it goes, with operators of every strength around each bracket.
        (output(around(16, "(0 or 1 and not 2 == 3 + 4 ~ 5 * 6 ** ", "1", ")")), levels),
        (output(around(12, "(", "1", " ** 1 * 1 + 1 == 1 and 1 or 1)")), None),
        // What nests while rendering.
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(), levels),
        ("{% macro f(n) %}{{ f(n - 1) if n else 'end' }}{% endmacro %}{{ f(20) }}".into(), None),
        ("{% macro f(a=f()) %}{% endmacro %}{{ f() }}".into(), levels),
        ("{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}".into(), levels),
        ("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".into(), Some("cannot be put")),
        (
            "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns|tojson }}".into(),
            Some("cannot be"),
        ),
        ("{% set ns = namespace(a=1) %}{% set ns.f = ns.a.b %}{{ [ns.f] == ns }}".into(), None),
        (
            "{% set ns = namespace(a=1) %}{% for i in range(90000) %}{% set ns.a = [ns.a] %}\
             {% endfor %}{{ ns.a }}"
                .into(),
            levels,
        ),
        (
            "{% set ns = namespace(a=1) %}{% for i in range(30) %}{% set ns.a = [ns.a, ns.a] %}\
             {% endfor %}{{ ns.a }}"
                .into(),
            Some("allowed"),
        ),
        (
            "{% set ns = namespace(a=1, b=1) %}{% for i in range(30) %}\
             {% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}\
             {{ ns.a == ns.b }}"
                .into(),
            work,
        ),
        // Work.
        (
            "{% set k = 'ab' * 2000000 %}{% for i in range(100000) %}{{ ''.find(k) }}{% endfor %}"
                .into(),
            work,
        ),
        (
            "{% set k = 'ab' * 2000000 %}{% for i in range(100000) %}{{ ''.split(k) }}{% endfor %}"
                .into(),
            work,
        ),
        (
            "{% set k = 'é' * 500000 %}{% for i in range(90) %}{{ ('b' * 255).strip(k) }}\
             {% endfor %}"
                .into(),
            work,
        ),
        (
            "{% for i in range(100000) %}{{ range(100000)|list|length }}{% endfor %}".into(),
            Some("allowed"),
        ),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}".into(),
            work,
        ),
        (
            "{% for i in t %}{% for j in t %}{{ i == j }}{% endfor %}{% endfor %}".into(),
            Some("allowed"),
        ),
        ("{% for i in range(99999) %}{{ t is upper }}{% endfor %}".into(), memory),
        ("{% for i in range(99999) %}{{ t.isupper() }}{{ 'z' in t }}{% endfor %}".into(), work),
        ("{% for i in range(99999) %}{{ t[t|length - 1] }}{% endfor %}".into(), work),
        ("{% for i in range(99999) %}{{ x[t] }}{{ x[t ~ i] }}{% endfor %}".into(), memory),
        ("{% for i in range(99999) %}{{ (t * 100).strip(t) }}{% endfor %}".into(), Some("allowed")),
        ("{{ (t * 90).strip((t * 90)[1:]) }}".into(), work),
        ("{% for i in range(99999) %}{{ nothing.at.all|d }}{% endfor %}".into(), Some("undefined")),
        (
            format!(
                "{{% macro f({0}) %}}{{% endmacro %}}{{% for i in range(9999) %}}{{{{ f({1}) }}}}\
                 {{% endfor %}}",
                (0..5000).map(|n| format!("p{n},")).collect::<String>(),
                (0..5000).map(|n| format!("p{n}=1,")).collect::<String>(),
            ),
            work,
        ),
        (
            (0..5000).map(|n| format!("{{% set v{n} = 1 %}}")).collect::<String>()
                + "{% for i in range(99999) %}{{ v1 }}{% endfor %}",
            work,
        ),
        // Memory.
        (
            "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(40) %}\
             {% set ns.s = ns.s ~ ns.s %}{% endfor %}"
                .into(),
            memory,
        ),
        (format!("{{% set s = t %}}{}", many(40, "{% set s = s + s %}")), memory),
        (format!("{{% set s = [1] %}}{}", many(40, "{% set s = s + s %}")), Some("allowed")),
        ("{% macro f(s) %}{{ f(s ~ s) }}{% endmacro %}{{ f(t) }}".into(), Some("allowed")),
        ("{{ [1]|batch(1000000000, 0) }}".into(), Some("allowed")),
        ("{{ [1]|slice(1000000000, 0) }}".into(), Some("allowed")),
        ("{{ [1]|slice(1000000000)|length }}".into(), Some("allowed")),
        ("{{ [[1]]|tojson(indent=1000000000) }}".into(), memory),
        ("{{ 'a\nb'|indent(100000000) }}".into(), memory),
        ("{{ (t * 99)|replace('a', t) }}".into(), memory),
        ("{{ t|replace('', t) }}".into(), memory),
        ("{{ t.replace('', t) }}".into(), memory),
        ("{{ t|join(t) }}".into(), memory),
        ("{{ t.join(t|list) }}".into(), memory),
        ("{{ '%999999999s'|format('a') }}".into(), Some("1000 characters")),
        ("{{ '%.999999999f' % 1.5 }}".into(), Some("1000 characters")),
        ("{{ 'a'.ljust(999999999999) }}".into(), memory),
        ("{{ 'a'.center(9223372036854775807) }}".into(), memory),
        ("{{ '1'.zfill(999999999) }}".into(), memory),
        ("{{ 'a'|center(999999999) }}".into(), memory),
        ("{{ 'a' * 9223372036854775807 }}".into(), memory),
        ("{{ [1] * 9223372036854775807 }}".into(), memory),
        ("{{ range(999999999)|length }}".into(), Some("100000")),
        ("{{ 2 ** 999999999 }}".into(), Some("64 bits")),
        ("{{ 9223372036854775807 + 1 }}".into(), Some("64 bits")),
        ("{{ -9223372036854775807 - 2 }}".into(), Some("64 bits")),
        ("{{ (-9223372036854775807 - 1) // -1 }}".into(), Some("64 bits")),
        ("{{ (-9223372036854775807 - 1)|abs }}".into(), Some("abs")),
        ("{{ -(-9223372036854775807 - 1) }}".into(), Some("64 bits")),
        ("{{ 99999999999999999999 }}".into(), Some("64 bits")),
        ("{{ 1.5|round(999999999) }}".into(), Some("precision")),
        (
            "{{ nums[9223372036854775807:-9223372036854775807:-9223372036854775807] }}".into(),
            Some("undefined"),
        ),
        ("{{ 'abc'[9223372036854775807:-9223372036854775807:-9223372036854775807] }}".into(), None),
        ("{{ range(9223372036854775806, 9223372036854775807, 9)|list }}".into(), None),
        ("{{ [0.0, 1e999 - 1e999, 1]|sort }}".into(), None),
        ("{{ t * 200 }}{{ t * 200 }}".into(), Some("it writes more")),
        ("{{ strftime_now('%Y' * 999999) }}".into(), Some("allowed")),
        ("{{ strftime_now('%') }}{{ strftime_now('%-') }}".into(), None),
        ("{{ strftime_now('%q') }}".into(), Some("%q")),
        // Broken ones.
        ("{{".into(), Some("does not end")),
        ("{%".into(), Some("does not end")),
        ("{#".into(), Some("does not end")),
        ("{{ '\\".into(), Some("closing quote")),
        ("{{ \u{0} }}".into(), Some("unexpected")),
        ("{{ (] }}".into(), Some("unexpected")),
        ("{% raw %}{% endraw".into(), Some("does not end")),
        ("{% for a in x recursive %}{% endfor %}".into(), Some("recursive")),
        ("{{ f(*x) }}".into(), Some("not supported")),
        ("{% extends 'a' %}".into(), Some("not supported")),
        ("x".repeat(MAX_SOURCE + 1), Some("bytes allowed")),
    ];
    // Every length of a deep one, so that the deepest that is accepted is among them.
    for count in 1..60 {
        all.push((output(around(count, "(", "1", " ** 1 * 1 + 1 == 1 and 1 or 1)")), None));
        all.push((output(around(count, "[x.y|d(", "1", ")]")), None));
        all.push((
            around(count, "{% if 1 %}{% for i in [1] %}", "x", "{% endfor %}{% endif %}"),
            None,
        ));
        let call = format!(
            "{{% macro f(n) %}}{{% if n %}}{{{{ [f(n - 1)] }}}}{{% endif %}}\
                            {{% endmacro %}}{{{{ f({count}) }}}}"
        );
        all.push((call, None));
    }
    all
}

#[test]
fn hostile_templates_end_in_errors() {
    let mut wrong = Vec::new();
    for (source, want) in hostile() {
        let got = render(&source, some(), 0);
        let right = match (&got, want) {
            (Err(error), Some(part)) => error.contains(part),
            (Err(error), None) => error.contains("levels deep"),
            (Ok(_), want) => want.is_none(),
        };
        if !right {
            let shown: String = source.chars().take(90).collect();
            let got = got.map(|text| text.len());
            wrong.push(format!("{shown}\n  want {want:?}\n  got  {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whatever is accepted: parsed, rendered and dropped on a small stack, where an overflow would end
/// the process.
#[test]
fn fits_a_small_stack() {
    let data: Json = serde_json::from_str(CASES).unwrap();
    let cases = data["cases"].as_array().unwrap();
    let published = cases.iter().filter_map(|case| case["template"].as_str()).map(str::to_owned);
    let sources: Vec<String> =
        published.chain(hostile().into_iter().map(|(source, _)| source)).collect();
    let thread = std::thread::Builder::new().stack_size(SMALL_STACK).spawn(move || {
        sources.iter().map(|source| usize::from(render(source, some(), 0).is_ok())).sum::<usize>()
    });
    assert!(thread.unwrap().join().unwrap() > 100);
}

#[test]
fn published_depths_are_accepted() {
    let rows = [
        "{{ ((((((((((1)))))))))) }}",
        "{{ [[[[[[[[[[1]]]]]]]]]]|first|first }}",
        "{{ (((x and (x or (x.x == ('a' ~ ('b' if (x.x in ['a', ('b')]) else 'c'))))))) }}",
        "{% macro f(n) %}{% if n %}{% for i in [1] %}{% if i %}{{ '(' ~ f(n - 1) }}{% endif %}\
         {% endfor %}{% endif %}{% endmacro %}{{ f(5) }}",
    ];
    for source in rows {
        assert!(render(source, some(), 0).is_ok(), "{source}");
    }
}

#[test]
fn a_raised_flag_ends_it() {
    let template = Template::parse("{% for i in range(99999) %}{{ i }}{% endfor %}").unwrap();
    let cancel = Cancel::new();
    cancel.raise();
    let ended = template.render(Vec::new(), 0, &cancel);
    assert!(matches!(ended, Err(Fault::Cancelled)));
    assert!(template.render(Vec::new(), 0, &Cancel::new()).is_ok());
}

#[test]
fn errors_name_the_line() {
    for source in ["a\n{% if %}", "a\n{{ none.x.y }}", "{{ 1 }}\n{{ 'a' + 1 }}\n\n"] {
        let error = render(source, some(), 0).unwrap_err();
        assert!(error.ends_with("(line 2)"), "{error}");
    }
}

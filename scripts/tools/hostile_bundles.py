"""Makes copies of a small bundle with hostile chat templates and tokenizer files, under right
hashes, as strangers could publish them.

    hostile_bundles.py BUNDLE FOLDER

Each folder's name says what is in it; those that begin with `error-` must end in an error.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

from blake3 import blake3

MESSAGES = "{% for m in messages %}{{ m.content }}{% endfor %}"


def chained(part, count, start="{{ 1", end=" }}"):
    return start + part * count + end


TEMPLATES = {
    # While parsing.
    "sum": chained("+1", 29700),
    "not": chained("not ", 5000, "{{ ", "1 }}"),
    "minus": chained("-", 5000, "{{ ", "1 }}"),
    "error-parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "error-lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "dots": chained(".x", 5000, "{{ messages"),
    "error-filters": chained("|upper", 200000, "{{ 'a'"),
    "joined": chained("~'a'", 5000),
    "and": chained(" and 1", 5000),
    "elif": "{% if 0 %}" + "{% elif 0 %}" * 3000 + "{% endif %}" + MESSAGES,
    "error-nested-if": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    # While rendering.
    "error-cycle": "{% set ns=namespace() %}{% set ns.a=ns %}{{ ns }}",
    "error-cycle-json": "{% set ns=namespace() %}{% set ns.a=ns %}{{ ns|tojson }}",
    "error-deep": "{% set ns=namespace(a=[]) %}{% for i in range(99999) %}"
                  "{% set ns.a=[ns.a] %}{% endfor %}{{ ns.a }}",
    "error-deep-equal": "{% set ns=namespace(a=[],b=[]) %}{% for i in range(99999) %}"
                        "{% set ns.a=[ns.a] %}{% set ns.b=[ns.b] %}{% endfor %}"
                        "{{ ns.a == ns.b }}",
    "error-macro": "{% macro m(n) %}{{ m(n+1) }}{% endmacro %}{{ m(0) }}",
    "error-ranges": "{% for i in range(100000) %}{{ range(100000)|list|length }}{% endfor %}",
    "error-doubling": "{% set ns=namespace(a='aa') %}{% for i in range(40) %}"
                      "{% set ns.a=ns.a~ns.a %}{% endfor %}{{ ns.a }}",
    "error-batch": "{{ [1]|batch(1000000000,0)|list }}",
    "error-slice": "{{ [1]|slice(1000000000,0)|list }}",
    "json": "{{ [[1]]|tojson(1000000000) }}",
    "error-indent": "{{ ('a\n' * 100000)|indent(100000) }}",
    "error-replace": "{% set a='a'*1000 %}{{ a|replace('a',a)|replace('a',a)|replace('a',a) }}",
    "error-joins": "{{ range(100000)|join('a'*100000) }}",
    "error-format": "{{ '%999999999s'|format('a') }}",
    "error-case": "{% set ns=namespace(a='a'*100000) %}{% for i in range(99999) %}"
                  "{% set ns.a=ns.a|upper|lower|replace('a','a') %}{% endfor %}",
}


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def normalizers(steps):
    return lambda file: file.update(normalizer={"type": "Sequence", "normalizers": steps})


def split(regex):
    return lambda file: file["pre_tokenizer"]["pretokenizers"].__setitem__(
        0, {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated",
            "invert": False})


TOKENIZERS = {
    "error-normalizers": normalizers([replace({"String": "a"}, "aa")] * 34),
    "error-growth": normalizers([replace({"String": "a"}, "a" * 100000)]),
    "error-deletes": normalizers([replace({"Regex": "(?s)."}, "")]),
    "error-empty-pattern": normalizers([replace({"String": ""}, "a")]),
    "error-lookahead": split(r"(?=(a+))\1+b"),
    "error-nested-regex": split("(" * 3000 + "a" + ")" * 3000),
    "error-counted-regex": split("(((a{1,99}){1,99}){1,99}){1,99}"),
    "backtracking": split("(a+)+$"),
    "error-prefix": lambda file: file["model"].update(continuing_subword_prefix="##"),
    "error-dropout": lambda file: file["model"].update(dropout=0.5),
}


def written(source, folder, change):
    """A copy of the bundle whose manifest and tokenizer file `change` has had."""
    shutil.copytree(source, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    change(manifest, tokenizer)
    data = json.dumps(tokenizer, ensure_ascii=False).encode()
    (folder / "tokenizer.json").write_bytes(data)
    manifest["files"]["tokenizer"].update(
        bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), blake3=blake3(data))
    del manifest["manifest_blake3"]
    text = json.dumps(manifest)[:-1]
    (folder / "bundle.json").write_text(
        f'{text},\n  "manifest_blake3": "{blake3(text.encode())}"\n}}\n')


def main(source, target):
    written(source, target / "intact", lambda manifest, tokenizer: None)
    for name, template in TEMPLATES.items():
        written(source, target / f"{name}.template",
                lambda manifest, _, text=template: manifest.update(chat_template=text))
    for name, change in TOKENIZERS.items():
        written(source, target / f"{name}.tokenizer",
                lambda _, tokenizer, change=change: change(tokenizer))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Writes what Jinja2 renders for the templates in tests/data/chat-templates.json.

The tests of src/jinja compare with it. The templates are our own; each is one feature that
published chat templates use. Jinja2 is set up as transformers does it for chat templates.

    python3 scripts/tools/chat_templates.py          # needs Jinja2 3.1 (PyPI: jinja2)
    python3 scripts/tools/chat_templates.py --check  # only says whether the file is up to date
"""

import datetime
import json
import pathlib
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

FILE = pathlib.Path(__file__).parents[2] / "tests/data/chat-templates.json"


class Generation(Extension):
    """`{% generation %}` marks what is trained on; it renders its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.If(jinja2.nodes.Const(True), body, [], [], lineno=line)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def render(source, variables, now):
    """`None` where Jinja2 refuses."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    date = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
    environment.globals["strftime_now"] = date.strftime
    try:
        return environment.from_string(source).render(**variables)
    except (jinja2.exceptions.TemplateError, TypeError, ValueError, ArithmeticError, LookupError,
            SyntaxError):
        return None


def main():
    data = json.loads(FILE.read_text())
    for case in data["cases"]:
        variables = {**data["variables"], **case.get("variables", {})}
        case["want"] = render(case["template"], variables, data["now"])
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in data["cases"])
    variables = json.dumps(data["variables"], ensure_ascii=False)
    text = f'{{"now": {data["now"]},\n"variables": {variables},\n"cases": [\n{lines}\n]}}\n'
    if "--check" in sys.argv[1:]:
        sys.exit(0 if text == FILE.read_text() else f"{FILE.name} is not what Jinja2 renders")
    FILE.write_text(text)


main()

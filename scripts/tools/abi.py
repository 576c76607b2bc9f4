"""Prints the C ABI of a header: constants, enums, structs with offsets and sizes, functions.

    abi.py HEADER COMPILER...

The names come from the preprocessed text, the numbers from what the compiler makes of them. Nothing
has to run, so any compiler for a little-endian 64-bit machine will do.
"""

import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

# Say nothing of the ABI.
NO_CONSTANTS = r"HYBRID_(H|API|DEPRECATED|ENUM|VERSION\w*)$"
MARK = "HYBRID_FUNCTION"


def preprocess(header, compiler, *options):
    command = [*compiler, "-std=c11", "-E", "-P", f"-DHYBRID_API={MARK}", *options, header]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def types(parameters):
    """A list of parameters without their names, which are not part of the ABI."""
    return ", ".join(re.sub(r"(?<=[\s*])\w+$", "", one.strip()).strip() or one.strip()
                     for one in parameters.split(","))


def squeeze(text):
    return re.sub(r"\s+", " ", text).strip()


class Numbers:
    """Constant expressions of C, and what the compiler says they are."""

    def __init__(self):
        self.expressions = []

    def add(self, expression):
        self.expressions.append(expression)
        return len(self.expressions) - 1

    def evaluate(self, header, compiler):
        with tempfile.TemporaryDirectory() as folder:
            source, result = Path(folder, "abi.c"), Path(folder, "abi.o")
            source.write_text(
                f'#include "{Path(header).resolve()}"\n'
                "const long long abi_numbers[] __attribute__((section(\"abi\"))) = {\n"
                + "".join(f"  (long long)({one}),\n" for one in self.expressions)
                + "};\n"
            )
            subprocess.run([*compiler, "-std=c11", "-c", "-o", result, source], check=True)
            return struct.unpack(f"<{len(self.expressions)}q", section(result.read_bytes(), b"abi"))


def section(elf, name):
    """The content of a section of a little-endian 64-bit ELF file."""
    start, = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, start + n * size) for n in range(count)]
    strings = headers[names][4]
    for at, _, _, _, offset, length in headers:
        if elf[strings + at:].split(b"\0", 1)[0] == name:
            return elf[offset:offset + length]
    raise SystemExit(f"error: the compiler made no section {name.decode()}")


def main(header, compiler):
    text = preprocess(header, compiler)
    macros = preprocess(header, compiler, "-dM")
    numbers = Numbers()
    # Each entry: what it is sorted by, and its lines, in which {n} is the number n.
    entries = []
    for name in re.findall(r"^#define (HYBRID_\w+) ", macros, re.M):
        if not re.match(NO_CONSTANTS, name):
            entries.append((name, [f"constant {name} {{{numbers.add(name)}}}"]))
    for name, body in re.findall(r"\benum (hybrid_\w+) \{([^}]*)\}", text):
        values = re.findall(r"\b(HYBRID_\w+) =", body)
        lines = [f"enum {name} {{{numbers.add(f'sizeof({name})')}}}"]
        entries.append((name, lines + [f"  {one} {{{numbers.add(one)}}}" for one in values]))
    for name, body in re.findall(r"typedef struct (hybrid_\w+) \{([^}]*)\}", text):
        lines = [f"struct {name} {{{numbers.add(f'sizeof({name})')}}}"]
        for kind, field in re.findall(r"\s*([^;]*?)(\w+);", body):
            offset = numbers.add(f"__builtin_offsetof({name}, {field})")
            size = numbers.add(f"sizeof((({name} *)0)->{field})")
            lines.append(f"  {{{offset}}} {{{size}}} {squeeze(kind)} {field}")
        entries.append((name, lines))
    for name in re.findall(r"typedef struct (hybrid_\w+) \1;", text):
        entries.append((name, [f"opaque {name}"]))
    for kind, name, parameters in re.findall(r"typedef (\w+) \(\*(hybrid_\w+)\)\(([^)]*)\);", text):
        entries.append((name, [f"callback {kind} (*{name})({types(squeeze(parameters))})"]))
    for declaration in re.findall(rf"\b{MARK}\s+([^;]+);", text):
        kind, name, parameters = re.fullmatch(
            r"(.*?)(hybrid_\w+)\((.*)\)", squeeze(declaration)).groups()
        entries.append((name, [f"function {squeeze(kind)} {name}({types(parameters)})"]))
    values = numbers.evaluate(header, compiler)
    for _, lines in sorted(entries):
        for line in lines:
            print(line.format(*values))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])

"""Prints tables of a header for tests/c/sweep.c: every enum, struct, callback and function of it.

    sweep_tables.py HEADER >tables.h

A type or parameter that the sweep has no values for is an error, so no new function can be left
out.
"""

import re
import sys

from abi import MARK, preprocess, squeeze

# Integers by value, as parameters and fields.
INTEGERS = {"size_t": "SIZE", "uint64_t": "SIZE", "uint32_t": "U32", "int32_t": "I32"}
FLOATS = {"float": "FLOAT", "double": "DOUBLE"}
# What the elements of a buffer may be.
ELEMENTS = {"char", "uint8_t", "uint32_t"}
# Names of the number of elements behind a pointer, as parameters.
COUNTS = {"count", "size"}


class Header:
    def __init__(self, path):
        self.text = preprocess(path, ["gcc"])
        self.raw = open(path, encoding="utf-8").read()
        self.enums = {name: re.findall(r"\b(HYBRID_\w+) =", body) for name, body in
                      re.findall(r"\benum (hybrid_\w+) \{([^}]*)\}", self.text)}
        self.structs = {name: [(squeeze(kind), field) for kind, field in
                               re.findall(r"\s*([^;]*?)(\w+);", body)] for name, body in
                        re.findall(r"typedef struct (hybrid_\w+) \{([^}]*)\}", self.text)}
        self.opaque = set(re.findall(r"typedef struct (hybrid_\w+) \1;", self.text))
        self.callbacks = {name: (kind, split(parameters)) for kind, name, parameters in re.findall(
            r"typedef (\w+) \(\*(hybrid_\w+)\)\(([^)]*)\);", self.text)}
        self.functions = []
        for declaration in re.findall(rf"\b{MARK}\s+([^;]+);", self.text):
            kind, name, parameters = re.fullmatch(
                r"(.*?)(hybrid_\w+)\((.*)\)", squeeze(declaration)).groups()
            self.functions.append((squeeze(kind), name, split(parameters)))

    def is_sized(self, name):
        return name in self.structs and self.structs[name][0][1] == "struct_size"

    def documents_null(self, name):
        """Whether the text above a function says anything of NULL, or one that it is like."""
        found = re.search(rf"((?:^///.*\n)+)HYBRID_API [^;]*?\b{name}\(", self.raw, re.M)
        text = found.group(1) if found else ""
        like = re.findall(r"\b[Aa]s (?:in )?(hybrid_\w+)", text)
        return "NULL" in text or any(self.documents_null(other) for other in like if other != name)


def split(parameters):
    """Types and names of a list of parameters."""
    if parameters in ("", "void"):
        return []
    found = [re.fullmatch(r"(.*?)(\w+)", one.strip()) for one in parameters.split(",")]
    return [(squeeze(one.group(1)).replace(" *", "*"), one.group(2)) for one in found]


def unknown(what, kind, name):
    sys.exit(f"error: the sweep has no values for `{kind} {name}` of {what}: teach "
             "scripts/tools/sweep_tables.py and tests/c/sweep.c that kind")


def field_kind(header, struct, index):
    """The kind of a field, and the type it names."""
    fields = header.structs[struct]
    kind, name = fields[index]
    kind = kind.replace(" *", "*").strip()
    after = fields[index + 1][1] if index + 1 < len(fields) else ""
    before = fields[index - 1] if index else ("", "")
    if name == "struct_size":
        return "STRUCT_SIZE", None
    if name == "reserved":
        return "RESERVED", None
    if kind in header.enums:
        return "ENUM", kind
    if kind in FLOATS:
        return FLOATS[kind], None
    if kind == "size_t" and before[0].rstrip().endswith("*") and (
            name in COUNTS or re.fullmatch(r".*_(count|size)", name)):
        return "COUNT", None
    if kind in INTEGERS:
        return INTEGERS[kind], None
    if kind in header.callbacks:
        return "CALLBACK", kind
    if kind == "void*":
        return "USER", None
    if not kind.endswith("*"):
        unknown(struct, kind, name)
    if re.fullmatch(r".*_?(count|size)", after) and after != "struct_size":
        return "ARRAY", element(header, struct, kind, name)
    if kind == "const char*":
        return "STRING", None
    return "STRUCT_IN", element(header, struct, kind, name)


def element(header, what, kind, name):
    """What an array or a struct pointer points to: a struct, a plain type or a string."""
    pointed = kind.removeprefix("const ").removesuffix("*").strip()
    if pointed in header.structs or pointed in ELEMENTS:
        return pointed
    if pointed == "char*const":
        return "string"
    unknown(what, kind, name)


def parameter_kind(header, function, index):
    """The kind of a parameter, and the type it names."""
    parameters = function[2]
    kind, name = parameters[index]
    after = parameters[index + 1][1] if index + 1 < len(parameters) else ""
    before = parameters[index - 1][0] if index else ""
    pointed = kind.removeprefix("const ").removesuffix("*")
    if kind in header.enums:
        return "ENUM", kind
    if kind in header.callbacks:
        return "CALLBACK", kind
    if kind == "void*":
        return "USER", None
    if kind == "size_t" and before.endswith("*"):
        if name == "struct_size":
            return "INIT_SIZE", before.removesuffix("*")
        if name == "capacity":
            return "CAPACITY", None
        if name in COUNTS and before.startswith("const ") and before != "const char**":
            return "COUNT", None
    if kind in INTEGERS:
        return INTEGERS[kind], None
    if pointed in header.opaque:
        return "OBJECT", pointed
    if kind.endswith("**") and kind.removesuffix("**") in header.opaque:
        return "OBJECT_OUT", kind.removesuffix("**")
    if kind == "const char**":
        return "STRING_OUT", None
    if not kind.endswith("*"):
        unknown(function[1], kind, name)
    if kind.startswith("const "):
        if after in COUNTS:
            return "ARRAY", element(header, function[1], kind, name)
        if pointed == "char":
            return "STRING", None
        if header.is_sized(pointed):
            return "STRUCT_IN", pointed
    elif after == "struct_size":
        return "STRUCT_INIT", pointed
    elif after == "capacity" and pointed in ELEMENTS:
        return "BUFFER", pointed
    elif header.is_sized(pointed):
        return "STRUCT_OUT", pointed
    elif pointed in header.enums or pointed == "size_t":
        return "SCALAR_OUT", pointed
    unknown(function[1], kind, name)


def quoted(text):
    return f'"{text}"' if text else "NULL"


def print_enums(header):
    for name, values in header.enums.items():
        print(f"static const int32_t VALUES_{name}[] = {{{', '.join(values)}}};")
    print("static const enumeration ENUMS[] = {")
    for name, values in header.enums.items():
        print(f'  {{"{name}", VALUES_{name}, {len(values)}}},')
    print("};\n")


def print_structs(header):
    inits = {parameters[0][0].removesuffix("*"): name for _, name, parameters in header.functions
             if len(parameters) == 2 and parameters[1][1] == "struct_size"}
    for name, function in inits.items():
        print(f"static hybrid_status init_{name}(void *p, size_t n) {{ return {function}(p, n); }}")
    for name, fields in header.structs.items():
        print(f"static const field FIELDS_{name}[] = {{")
        for index, (_, field) in enumerate(fields):
            kind, of = field_kind(header, name, index)
            print(f'  {{"{field}", {kind}, {quoted(of)}, offsetof({name}, {field}), '
                  f"sizeof((({name} *)0)->{field})}},")
        print("};")
    print("static const structure STRUCTS[] = {")
    for name, fields in header.structs.items():
        init = f"init_{name}" if name in inits else "NULL"
        sized = str(header.is_sized(name)).lower()
        print(f'  {{"{name}", sizeof({name}), {sized}, FIELDS_{name}, {len(fields)}, {init}}},')
    print("};\n")


def print_callbacks(header):
    for name, (kind, parameters) in header.callbacks.items():
        if parameters[-1] != ("void*", "user"):
            unknown(name, *parameters[-1])
        listed = ", ".join(f"{type_} {one}" for type_, one in parameters)
        ignored = " ".join(f"(void){one};" for _, one in parameters[:-1])
        answer = "(void)" if kind == "void" else "return "
        print(f"static {kind} stub_{name}({listed}) {{ {ignored} {answer}called_back(user); }}")
    print("static const callback CALLBACKS[] = {")
    for name in header.callbacks:
        print(f'  {{"{name}", (void (*)(void))stub_{name}}},')
    print("};\n")


def argument(header, function, index):
    kind, _ = function[2][index]
    if kind in header.callbacks:
        return f"({kind})v[{index}].call"
    if kind.endswith("*"):
        return f"v[{index}].at"
    if kind in header.enums:
        return f"({kind})(int32_t)v[{index}].number"
    return f"({kind})v[{index}].number"


def print_functions(header):
    results = {"hybrid_status": "o.status = ", "void": "", "const char *": "o.text = ",
               "int32_t": "o.number = "}
    for function in header.functions:
        kind, name, parameters = function
        if kind not in results:
            unknown(name, kind, "its result")
        arguments = ", ".join(argument(header, function, i) for i in range(len(parameters)))
        print(f"static outcome call_{name}(const value *v) {{")
        print("  outcome o = {0};")
        print("  (void)v;")
        print(f"  {results[kind]}{name}({arguments});")
        print("  return o;\n}")
        print(f"static const parameter PARAMETERS_{name}[] = {{")
        for index, (_, parameter) in enumerate(parameters):
            of = parameter_kind(header, function, index)
            print(f'  {{"{parameter}", {of[0]}, {quoted(of[1])}}},')
        print("  {NULL, END, NULL}};")
    print("static const function FUNCTIONS[] = {")
    for kind, name, parameters in header.functions:
        gives = {"hybrid_status": "STATUS", "const char *": "TEXT"}.get(kind, "OTHER")
        null = str(header.documents_null(name)).lower()
        print(f'  {{"{name}", call_{name}, PARAMETERS_{name}, {len(parameters)}, {gives}, '
              f"{null}}},")
    print("};")


def main(path):
    header = Header(path)
    print("// Made by scripts/tools/sweep_tables.py.\n")
    print_enums(header)
    print_structs(header)
    print_callbacks(header)
    print_functions(header)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

"""Finds circles between Rust source files: A uses what B defines, and B what A does.

A file uses another when it names an item that is defined there, whatever re-exports lie between.
`mod x;` and a re-export alone are no use. Tests are left out.
"""

import re
import sys
from pathlib import Path

ITEM = re.compile(
    r"^\s*(?:pub(?:\([^)]*\))?\s+)?(?:default\s+|const\s+|async\s+|unsafe\s+|extern\s+\"C\"\s+)*"
    r"(?:fn|struct|enum|union|trait|type|const|static|macro_rules!)\s+(?:mut\s+)?(\w+)", re.M)
USE = re.compile(r"^\s*(?:pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", re.M)
PATH = re.compile(r"(?<![\w:])((?:[a-z_]\w*|crate|self|super)(?:::\w+)+)")


def expand(tree):
    """The paths of a use tree: a::{b, c as d} gives a::b and (a::c, d)."""
    tree = tree.strip()
    at = tree.find("{")
    if at < 0:
        path, _, name = tree.partition(" as ")
        path = path.strip().removesuffix("::self")
        return [(path, name.strip() or path.split("::")[-1])]
    prefix, parts, depth, part = tree[:at], [], 0, ""
    for char in tree[at + 1:tree.rindex("}")]:
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += char
    parts.append(part)
    return [(path if path else prefix, name) for each in parts if each.strip()
            for path, name in expand(prefix + each.strip())]


class Crate:
    """The files of one crate by module, what each defines and which paths it names."""

    def __init__(self, folder):
        self.files, self.defined, self.imports, self.paths = {}, {}, {}, {}
        for path in sorted(Path(folder).rglob("*.rs")):
            module = list(path.relative_to(folder).with_suffix("").parts)
            if any(re.search(r"(^|_)tests?$", part) for part in module):
                continue
            if module[-1] in ("mod", "lib", "main"):
                module = module[:-1]
            self.read(tuple(module), path)

    def read(self, module, path):
        text = re.sub(r"//.*", "", path.read_text().split("#[cfg(test)]\nmod tests {")[0])
        text = re.sub(r"#\[cfg\(test\)\]\s*(pub(\([^)]*\))? )?(use|mod)[^;]*;", "", text)
        self.files.setdefault(module, str(path))
        if self.files[module] != str(path):
            return
        self.defined[module] = set(ITEM.findall(text))
        self.imports[module] = {}
        for tree in USE.findall(text):
            for target, name in expand(tree):
                self.imports[module].setdefault(name, target)
        body = re.sub(r"\bmod \w+;", "", USE.sub("", text))
        self.paths[module] = PATH.findall(body)
        for use in USE.finditer(text):
            for target, name in expand(use.group(1)):
                exported = use.group(0).lstrip().startswith("pub")
                if not exported or re.search(rf"\b{re.escape(name)}\b", body):
                    self.paths[module].append(target)

    def resolve(self, module, path, depth=0):
        """The module whose file defines what `path` names in `module`, or None."""
        parts = path.split("::")
        if parts[0] == "crate":
            at, parts = (), parts[1:]
        elif parts[0] in ("self", "super"):
            at = module
            while parts and parts[0] in ("self", "super"):
                at, parts = (at[:-1] if parts[0] == "super" else at), parts[1:]
        elif module + (parts[0],) in self.files:
            at = module
        elif parts[0] in self.imports[module] and depth < 8:
            target = self.imports[module][parts[0]]
            if target.split("::")[0] == parts[0]:
                return None
            return self.resolve(module, "::".join([target] + parts[1:]), depth + 1)
        else:
            return None
        while parts and at + (parts[0],) in self.files:
            at, parts = at + (parts[0],), parts[1:]
        if at not in self.files:
            return None
        if parts and parts[0] not in self.defined[at]:
            target = self.imports[at].get(parts[0])
            if target and depth < 8:
                found = self.resolve(at, "::".join([target] + parts[1:]), depth + 1)
                if found is not None:
                    return found
                return None
            for name, target in self.imports[at].items():  # use child::*
                if name == "*" and depth < 8:
                    base = self.resolve(at, target.removesuffix("::*"), depth + 1)
                    if base is not None and parts[0] in self.defined[base]:
                        return base
        return at

    def edges(self):
        """For each file the files it uses, each with one path that does."""
        found = {}
        for module in self.files:
            targets = {}
            for path in self.paths.get(module, []):
                to = self.resolve(module, path)
                if to is not None and to != module:
                    targets.setdefault(to, path)
            found[module] = targets
        return found


def circles(edges):
    """Tarjan's strongly connected components of more than one file."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for to in edges[node]:
            if to not in index:
                visit(to)
                low[node] = min(low[node], low[to])
            elif to in stack:
                low[node] = min(low[node], index[to])
        if low[node] == index[node]:
            at = stack.index(node)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                found.append(group)

    sys.setrecursionlimit(10000)
    for node in edges:
        if node not in index:
            visit(node)
    return found


def main():
    bad = 0
    for folder in sys.argv[1:]:
        crate = Crate(folder)
        edges = crate.edges()
        for group in circles(edges):
            bad += 1
            print(f"a circle of {len(group)} files in {folder}:")
            for module in group:
                for to, path in edges[module].items():
                    if to in group:
                        print(f"  {crate.files[module]} -> {crate.files[to]} by {path}")
    print(f"{bad} circles between files" if bad else "no circle between files")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

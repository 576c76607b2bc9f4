#!/usr/bin/env python3
"""Packs tiny random models and holds their logits to llama.cpp's. `scripts/check-models` calls it.

    check_models.py --programs DIRECTORY [--all] [--family NAME...] [--type NAME...]
    check_models.py --programs DIRECTORY --real MODEL.gguf TEXT

A model is a family in a shape, with or without an output of its own, in a tensor type. What is
exact is what llama.cpp makes of the same weights as floats, with float activations and a float
cache. The distance from it is the mean difference of log-probabilities in nats, over all tokens
after each position, and the divergence in nats; the worst of all shapes and kernels counts.

Float weights must be exact to LIMIT. With quantised weights both round their activations to
8 bits: ours may be no further from exact than llama.cpp is, by more than SLACK, and its divergence
from exact at most LIMIT. Without --all every family is checked in every shape, but only the first
in every type. Exit status 1: a row is not ok.

The first model of each family also lives a session: see examples/life.rs.

--real measures the same on the first tokens of a text with a model of its own, on the best kernels.
It takes minutes, and a file of all its weights as floats.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

import llama_native
from random_gguf import FAMILIES, MIXES, SHAPES, USABLE, Family, Mix, Model, Shape, Type

LIMIT = 1e-3
SLACK = 1.25
TOKENS = 48
REAL_TOKENS = 256

# What `hybrid pack` takes.
TYPES = [
    *[Type[name] for name in "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0".split()],
    *[Type[name] for name in "Q2_K Q3_K Q4_K Q5_K Q6_K".split()],
    *[Type[name] for name in "IQ4_NL IQ4_XS MXFP4 TQ1_0 TQ2_0 Q1_0".split()],
    *MIXES,
]
# In these every family is checked: floats show the arithmetic, the other that of kernels.
FEW = [Type.F32, Type.Q4_K]
# So many families are checked in every shape, tied and not; of the others one or the other.
WHOLE = 2
FLOATS = [Type.F32, Type.F16, Type.BF16]


class Case(NamedTuple):
    family: Family
    kind: Type | Mix
    shape: Shape
    tied: bool

    @property
    def label(self) -> str:
        return self.family.label or self.family.name

    @property
    def file(self) -> str:
        output = "tied" if self.tied else "untied"
        return f"{self.label}-{self.kind.name}-{self.shape.name}-{output}"


class Distance(NamedTuple):
    """From exact, in nats."""

    mean: float
    divergence: float


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", required=True, type=Path, help="target/release")
    parser.add_argument("--all", action="store_true", help="every family in every type")
    parser.add_argument("--family", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--type", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--real", nargs=2, metavar=("MODEL", "TEXT"))
    options = parser.parse_args()
    if options.real:
        return real(*map(Path, options.real), options)
    cases = chosen(options)
    if not cases:
        parser.error("there is no such family or type")
    ids = [int(id) for id in np.random.default_rng(1).integers(1, USABLE, TOKENS)]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "ids.json").write_text(json.dumps(ids))
        # llama.cpp is called from one thread; packing waits for other programs.
        references = [references_of(case, folder, ids) for case in cases]
        with ThreadPoolExecutor(2) as pool:
            first = {case.label: case for case in reversed(cases)}
            found = pool.map(
                lambda case: ours(case, folder, options.programs, first[case.label] is case), cases
            )
            return show(list(zip(cases, references, found)))


def chosen(options: argparse.Namespace) -> list:
    cases = []
    for place, family in enumerate(FAMILIES):
        if options.family and (family.label or family.name) not in options.family:
            continue
        every = options.all or place == 0 or options.type
        for kind in TYPES if every else FEW:
            if options.type and kind.name not in options.type:
                continue
            shapes = [shape for shape in SHAPES if shape.name in family.shapes]
            found = [Case(family, kind, *rest) for rest in itertools.product(shapes, family.tied)]
            if not every and place >= WHOLE:
                # Floats show what is wrong with a shape, and one model the rest.
                found = found[:: len(family.tied)] if kind is Type.F32 else found[:1]
            cases += found
    return cases


def references_of(case: Case, folder: Path, ids: list) -> tuple | str:
    """What is exact and llama.cpp's distance from it, or why llama.cpp cannot say. Leaves the file
    to be packed."""
    model = Model(case.family, case.shape, case.tied)
    path, decoded = folder / f"{case.file}.gguf", folder / "decoded.gguf"
    model.write(path, case.kind)
    model.write(decoded, case.kind, decoded=True)
    try:
        exact = log_probabilities(llama_native.logits(decoded, ids, float_cache=True))
        theirs = log_probabilities(llama_native.logits(path, ids))
    except RuntimeError as error:
        return str(error)
    return exact, distance(exact, theirs)


def real(path: Path, text: Path, options: argparse.Namespace) -> int:
    """A table of one row; it is no test."""
    ids = llama_native.tokenize(path, text.read_text(), REAL_TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "ids.json").write_text(json.dumps(ids))
        decoded, bundle = folder / "decoded.gguf", folder / "bundle"
        tool = Path(__file__).with_name("requantize.py")
        subprocess.run([sys.executable, tool, path, "F32", decoded], check=True)
        exact = llama_native.logits(decoded, ids, float_cache=True)
        decoded.unlink()
        programs = options.programs
        subprocess.run([programs / "hybrid", "pack", path, "-o", bundle], check=True)
        ids_file = folder / "ids.json"
        subprocess.run([programs / "examples/logits", "best", ids_file, bundle], check=True)
        (file,) = folder.glob("bundle.*.logits")
        rows = np.fromfile(file, "<f4").astype(np.float64).reshape(len(ids), -1)
    usable = np.isfinite(rows[0])
    exact, theirs, ours = [
        log_probabilities(logits, usable)
        for logits in (exact, llama_native.logits(path, ids), rows)
    ]
    print(f"{path.name}, {len(ids)} tokens; from exact, in nats:")
    for name, found in [("ours", ours), ("llama.cpp", theirs)]:
        at_next = [(exact - found)[i, id] for i, id in enumerate(ids[1:])]
        near = distance(exact, found)
        print(
            f"{name:10} divergence {near.divergence:.6f}, of the next token: mean difference "
            f"{np.abs(at_next).mean():.5f}, of the sum {np.mean(at_next):+.5f} a token"
        )
    return 0


def ours(case: Case, folder: Path, programs: Path, lives: bool) -> dict | str:
    """Our logits for each table of kernels, or what went wrong."""
    bundle = folder / case.file
    commands = [
        [programs / "hybrid", "pack", f"{bundle}.gguf", "-o", bundle, *case.family.pack],
        [programs / "examples/logits", "all", folder / "ids.json", bundle],
        *([[programs / "examples/life", bundle]] if lives else []),
    ]
    for command in commands:
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            return run.stderr.strip()
    tables = {}
    for file in folder.glob(f"{case.file}.*.logits"):
        rows = np.fromfile(file, "<f4").astype(np.float64).reshape(TOKENS, -1)
        tables[file.name.split(".")[-2]] = log_probabilities(rows)
    return tables


def log_probabilities(logits: np.ndarray, usable=slice(USABLE)) -> np.ndarray:
    """Of the ids that stand for something."""
    logits = logits[:, usable]
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def distance(exact: np.ndarray, other: np.ndarray) -> Distance:
    divergence = (np.exp(exact) * (exact - other)).sum(axis=1).mean()
    return Distance(np.abs(exact - other).mean(), divergence)


def show(results: list) -> int:
    """A line for each family and type."""
    print(f"{'family':14} {'type':8} models  from exact: ours  llama.cpp  divergence")
    failed = 0
    for (label, kind), group in itertools.groupby(results, lambda r: (r[0].label, r[0].kind)):
        group = list(group)
        errors, worst, theirs = [], Distance(0, 0), 0
        for case, reference, tables in group:
            problem = next((part for part in (reference, tables) if isinstance(part, str)), None)
            if problem:
                errors.append(f"{case.file}: {problem}")
                continue
            exact, llama = reference
            theirs = max(theirs, llama.mean)
            for table, found in tables.items():
                ours = distance(exact, found)
                worst = Distance(*map(max, worst, ours))
                if not is_close(kind, ours, llama):
                    errors.append(
                        f"{case.file} on {table}: {ours.mean:.5f} nats from exact, llama.cpp "
                        f"{llama.mean:.5f}; divergence {ours.divergence:.6f}"
                    )
        verdict = "FAILED" if errors else "ok"
        failed += bool(errors)
        print(
            f"{label:14} {kind.name:8} {len(group):6}  {worst.mean:16.5f} {theirs:10.5f} "
            f"{worst.divergence:11.6f}  {verdict}"
        )
        for error in errors:
            print(f"  {error}")
    print(f"models: {len(results)}, rows that are not ok: {failed}")
    return min(failed, 1)


def is_close(kind: Type | Mix, ours: Distance, llama: Distance) -> bool:
    if not np.isfinite(ours.mean):
        return False
    if kind in FLOATS:
        return ours.mean <= LIMIT
    return ours.mean <= SLACK * llama.mean and ours.divergence <= LIMIT


if __name__ == "__main__":
    sys.exit(main())

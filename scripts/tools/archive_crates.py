"""The crates that are linked into an archive, for licences and SBOM: what cargo says, without build tools,
procedural macros and crates of other targets or features.
"""

import json
import os
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Crate:
    name: str
    version: str
    license: str  # an SPDX expression
    folder: Path  # its sources
    repository: str
    description: str
    checksum: str | None  # SHA-256 of the .crate file; None for what is in this repository
    ours: bool  # in this repository, under its licence
    needs: list["Crate"] = field(default_factory=list)  # those of the archive that it uses


def load(target: str, features: list[str]) -> list[Crate]:
    """All crates, ourselves first, then by name and version. `features`: cargo's flags."""
    options = ["--locked", *features]
    metadata = json.loads(
        cargo("metadata", "--format-version=1", f"--filter-platform={target}", *options)
    )
    checksums = {
        (entry["name"], entry["version"]): entry.get("checksum")
        for entry in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    }
    linked = linked_crates(target, options)
    crates = {}
    for package in metadata["packages"]:
        key = (package["name"], package["version"])
        if key in linked:
            crates[package["id"]] = Crate(
                name=package["name"],
                version=package["version"],
                license=expression(package),
                folder=Path(package["manifest_path"]).parent,
                repository=package["repository"] or "",
                description=" ".join((package["description"] or "").split()),
                checksum=checksums[key],
                ours=package["source"] is None,
            )
    if len(crates) != len(linked):
        raise SystemExit("cargo metadata and cargo tree do not name the same crates")
    for node in metadata["resolve"]["nodes"]:
        if crate := crates.get(node["id"]):
            crate.needs = [crates[d["pkg"]] for d in node["deps"] if is_linked(d, crates)]
    ours = crates[metadata["resolve"]["root"]]
    others = sorted((c for c in crates.values() if c is not ours), key=lambda c: (c.name, c.version))
    return [ours, *others]


def linked_crates(target: str, options: list[str]) -> set[tuple[str, str]]:
    """cargo tree, unlike cargo metadata, keeps the features of build tools and of tests apart."""
    edges = "--edges=normal,no-proc-macro"
    lines = cargo("tree", "--package=libhybrid", edges, "--prefix=none", "--format={p}", f"--target={target}", *options)
    words = (line.split() for line in lines.splitlines() if line)
    return {(name, version.removeprefix("v")) for name, version, *_ in words}


def is_linked(dependency: dict, crates: dict) -> bool:
    normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
    return normal and dependency["pkg"] in crates


def expression(package: dict) -> str:
    """Old crates write `MIT/Apache-2.0` where SPDX has `MIT OR Apache-2.0`."""
    license = package["license"]
    if not license:
        raise SystemExit(f"{package['name']} {package['version']} names no SPDX licence")
    return " OR ".join(part.strip() for part in license.split("/"))


def cargo(*arguments: str) -> str:
    command = [os.environ.get("CARGO", "cargo"), *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout

#!/usr/bin/env python3
"""Writes a CycloneDX SBOM of an archive: ourselves, the crates in it, and Rust's standard
library. It is valid by CycloneDX's schema, and equal for equal archives: SOURCE_DATE_EPOCH is its
time, and its serial number comes from the archive.

    sbom.py TARGET ARCHIVE RUST_VERSION OUT.json [CARGO_FEATURE_FLAG...]
"""

import hashlib
import os
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from archive_crates import Crate, load


def main() -> None:
    target, archive, rust_version, out, *features = sys.argv[1:]
    ours, *crates = load(target, features)
    digest = hashlib.sha256(Path(archive).read_bytes()).hexdigest()
    root = component(ours, digest)
    bom = Bom(
        serial_number=uuid.uuid5(
            uuid.NAMESPACE_URL, f"{root.bom_ref.value}?target={target}#{digest}"
        ),
        metadata=BomMetaData(
            component=root,
            timestamp=datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC),
        ),
    )
    components = {(crate.name, crate.version): component(crate, crate.checksum) for crate in crates}
    components["libhybrid", ours.version] = root
    standard_library = rust(rust_version)
    bom.components.update(c for c in components.values() if c is not root)
    bom.components.add(standard_library)
    for crate in [ours, *crates]:
        needs = [components[need.name, need.version] for need in crate.needs]
        bom.register_dependency(components[crate.name, crate.version], [*needs, standard_library])
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise SystemExit(f"not a valid SBOM: {error}")
    Path(out).write_text(text + "\n")


def component(crate: Crate, sha256: str | None) -> Component:
    """`sha256`: of what is distributed, so of the .crate file, or of our archive."""
    # A package URL would say that it is the registry's crate of that name.
    purl = None if crate.ours else PackageURL("cargo", name=crate.name, version=crate.version)
    links = [(ExternalReferenceType.VCS, crate.repository)] if crate.repository else []
    return Component(
        type=ComponentType.LIBRARY,
        name=crate.name,
        version=crate.version,
        description=crate.description or None,
        licenses=[LicenseFactory().make_from_string(crate.license)],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else [],
        external_references=[ExternalReference(type=kind, url=XsUri(url)) for kind, url in links],
        purl=purl,
        bom_ref=str(purl or f"{crate.name}@{crate.version}"),
    )


def rust(version: str) -> Component:
    return Component(
        type=ComponentType.LIBRARY,
        name="rust-std",
        version=version,
        description="Rust's standard library, with the crates it contains",
        licenses=[LicenseFactory().make_from_string("MIT OR Apache-2.0")],
        bom_ref=f"rust-std@{version}",
    )


if __name__ == "__main__":
    main()

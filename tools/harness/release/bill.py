"""The bill of materials, as CycloneDX 1.5: what is in the program, what has built it, and what the image has beside it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import crates, image
from .binaries import HOST
from .release import Release


def write(release: Release) -> Path:
    """Without a serial number, which would be another one each time."""
    ours, *others = crates.of(release)
    components = [component(crate) for crate in others]
    components += [
        {
            "type": "library",
            "bom-ref": f"deb:{package.name}",
            "name": package.name,
            "version": package.version,
            "purl": f"pkg:deb/debian/{package.name}@{package.version}?arch={package.architecture}",
            "scope": "optional",
            "description": "in the image alone",
        }
        for package in image.packages(release)
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(release.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {**component(ours), "type": "application", "hashes": []},
        },
        "components": components,
        "dependencies": [{"ref": crate.id, "dependsOn": list(crate.needs)} for crate in (ours, *others)],
    }
    file = release.into / f"rowcast-{release.version}-{HOST.triple}.cdx.json"
    file.write_text(json.dumps(bill, indent=1) + "\n", encoding="utf-8")
    return file


def component(crate: crates.Crate) -> dict[str, Any]:
    """One crate."""
    return {
        "type": "library",
        "bom-ref": crate.id,
        "name": crate.name,
        "version": crate.version,
        "purl": f"pkg:cargo/{crate.name}@{crate.version}",
        # excluded: it builds the program and is not in it
        "scope": "required" if crate.linked else "excluded",
        "licenses": [{"expression": crate.licence}],
        "hashes": [{"alg": "SHA-256", "content": crate.checksum}] if crate.checksum else [],
        "externalReferences": [{"type": "vcs", "url": crate.repository}] if crate.repository else [],
    }

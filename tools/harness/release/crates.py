"""The crates that a program is made of, from cargo's own graph: those that are in it, and those that only build it."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import cluster as kit

from .binaries import HOST
from .release import Release


@dataclass(frozen=True)
class Crate:
    name: str
    version: str
    licence: str
    repository: str
    folder: Path
    checksum: str
    linked: bool
    """in the program; else it runs while that is built: build scripts, macros, and what those need"""
    needs: tuple[str, ...]
    """name@version of each"""

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"


def of(release: Release) -> list[Crate]:
    """Sorted by name and version; rowcast itself is the first."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", HOST.triple]
    known: dict[str, Any] = json.loads(kit.output(command, cwd=release.root))
    packages = {package["id"]: package for package in known["packages"]}
    nodes = {node["id"]: node["deps"] for node in known["resolve"]["nodes"]}
    lock = tomllib.loads(release.text("Cargo.lock"))
    checksums = {(each["name"], each["version"]): each.get("checksum", "") for each in lock["package"]}
    root = known["resolve"]["root"]
    linked: set[str] = set()
    building: set[str] = set()

    def walk(id_: str, is_linked: bool) -> None:
        is_linked = is_linked and not any("proc-macro" in target["kind"] for target in packages[id_]["targets"])
        seen = linked if is_linked else building
        if id_ in seen:
            return
        seen.add(id_)
        for needed in nodes[id_]:
            kinds = {kind["kind"] for kind in needed["dep_kinds"]}
            if None in kinds:
                walk(needed["pkg"], is_linked)
            if "build" in kinds:
                walk(needed["pkg"], False)

    walk(root, True)
    crates = []
    for id_ in linked | building:
        package = packages[id_]
        key = (package["name"], package["version"])
        needs = {
            f"{packages[each['pkg']]['name']}@{packages[each['pkg']]['version']}"
            for each in nodes[id_]
            if {kind["kind"] for kind in each["dep_kinds"]} & {None, "build"}
        }
        licence = package["license"] or f"see {package['license_file']}"
        folder = Path(package["manifest_path"]).parent
        repository = package["repository"] or ""
        crates.append(
            Crate(
                *key,
                licence.replace("/", " OR "),
                repository,
                folder,
                checksums[key],
                id_ in linked,
                tuple(sorted(needs)),
            )
        )
    crates.sort(key=lambda crate: (crate.folder != release.root, crate.name, crate.version))
    return crates

"""Of which commit, and where to; and archives whose bytes depend on their content alone."""

import gzip
import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness import cluster as kit


@dataclass(frozen=True)
class Release:
    """One commit of one repository."""

    root: Path
    into: Path
    """the folder of the files"""
    version: str
    epoch: int
    """seconds: when it was committed, and the time of each file in each archive"""

    @classmethod
    def of(cls, root: Path, into: Path) -> Self:
        version = re.search(r'^version = "([^"]+)"', (root / "Cargo.toml").read_text(encoding="utf-8"), re.M)
        if not version:
            raise kit.Failure("Cargo.toml says no version")
        epoch = int(kit.output(["git", "log", "-1", "--format=%ct"], cwd=root))
        return cls(root, into, version[1], epoch)

    @property
    def work(self) -> Path:
        """What is made on the way."""
        return self.root / "target/release-work"

    def text(self, name: str) -> str:
        return (self.root / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Entry:
    """A file of an archive; a folder where it has no content, a symbolic link where it says where to."""

    name: str
    content: bytes | None = None
    mode: int = 0o644
    link: str | None = None


def tar(entries: list[Entry], epoch: int) -> bytes:
    """Sorted, of root, at one time; with the folders that its names have."""
    known = {entry.name: entry for entry in entries}
    for entry in entries:
        for parent in Path(entry.name).parents:
            if str(parent) != ".":
                known.setdefault(str(parent), Entry(str(parent), mode=0o755))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(known):
            entry = known[name]
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = epoch, entry.mode
            info.uname = info.gname = "root"
            if entry.link is not None:
                info.type, info.linkname = tarfile.SYMTYPE, entry.link
                archive.addfile(info)
            elif entry.content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(entry.content)
                archive.addfile(info, io.BytesIO(entry.content))
    return packed.getvalue()


def compressed(content: bytes) -> bytes:
    """gzip, without a name and a time of its own."""
    return gzip.compress(content, compresslevel=9, mtime=0)

"""The source, in another folder than it was released from: `cargo install` makes the very program of the release, and make the very
libraries of native capture.
"""

import hashlib
import os
import subprocess
from pathlib import Path

from harness import cluster as kit
from harness.release import binaries, native

from .native import major_of
from .stage import Stage, unpack


def run(stage: Stage) -> str:
    archive = stage.file("rowcast-*-source.tar.gz")
    root = unpack(archive, stage.folder / "source")
    env = binaries.environment(root, stage.folder / "built", binaries.HOST)
    command = [
        os.environ.get("CARGO", "cargo"),
        "install",
        "--locked",
        "--path",
        root,
        "--root",
        stage.folder / "cargo",
    ]
    done = subprocess.run(
        [*map(str, command), "--target", binaries.HOST.triple],
        env=env,
        cwd=stage.folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise kit.Failure(f"cargo install says:\n{done.stderr[-3000:]}")
    built = hashlib.sha256((stage.folder / "cargo/bin/rowcast").read_bytes()).hexdigest()
    released = hashlib.sha256(stage.linked.read_bytes()).hexdigest()
    if built != released:
        raise kit.Failure(f"cargo install of {archive.name} makes {built}, and the release has {released}")
    said = f"cargo install of {archive.name} makes the same program, {built[:16]}"
    same = libraries(stage, root)
    return f"{said}; the same library for Postgres {', '.join(map(str, same))}" if same else said


def libraries(stage: Stage, root: Path) -> list[int]:
    """The versions of Postgres whose library is built here, as it lies in its package."""
    same = []
    for package in stage.files.glob("postgresql-*-rowcast-capture_*.deb"):
        major = major_of(package)
        pg_config = native.headers(major)
        if not pg_config:
            continue
        unpacked = stage.folder / f"package-{major}"
        kit.run(["dpkg-deb", "--extract", package, unpacked])
        released = next(unpacked.rglob(native.LIBRARY))
        if released.read_bytes() != native.build(root, stage.folder / f"library-{major}", pg_config).read_bytes():
            raise kit.Failure(f"{package.name} has another library than the source makes")
        same.append(major)
    return sorted(same)

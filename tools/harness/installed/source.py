"""The source, in another folder than it was released from: `cargo install` makes the very program of the release."""

import hashlib
import os
import subprocess

from harness import cluster as kit
from harness.release import binaries

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
    return f"cargo install of {archive.name} makes the same program, {built[:16]}"

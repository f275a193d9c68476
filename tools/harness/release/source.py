"""The source, as git has it: what `cargo install` and a distribution's packager build from."""

import subprocess
from pathlib import Path

from .release import Release, compressed


def write(release: Release) -> Path:
    folder = f"rowcast-{release.version}"
    packed = subprocess.run(
        ["git", "archive", "--format=tar", f"--prefix={folder}/", "HEAD"],
        cwd=release.root,
        check=True,
        capture_output=True,
    )
    file = release.into / f"{folder}-source.tar.gz"
    file.write_bytes(compressed(packed.stdout))
    return file

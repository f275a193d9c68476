"""Makes what there is to download of the checked-out commit, in target/release-files: programs, a Debian package, those of the library of
native capture, an image, the source, the clients, the chart, and what is said of them: SHA256SUMS, a bill of materials, licences.

The same commit gives the same bytes with the same tools, in whichever folder: times are the commit's, names are sorted, no path of
the machine is in a program. Needs Rust, a C compiler, make, dpkg-dev, Node with npm, and Python with venv; asks the network for
packages alone. A Postgres whose headers are not here is named, and gets no library. Standard library only.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import cluster as kit
from harness.repository import ROOT

from . import bill, binaries, chart, clients, debian, image, licences, native, source
from .release import Release

FILES = ROOT / "target/release-files"


def main(_stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--into", type=Path, default=FILES, help="the folder of the files (default: target/release-files)"
    )
    parser.add_argument("--dirty", action="store_true", help="also of a working tree that is no commit, to try it")
    arguments = parser.parse_args()
    release = Release.of(ROOT, arguments.into.resolve())
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    if changed and not arguments.dirty:
        raise kit.Failure(f"the working tree is no commit; commit it, or try it with --dirty:\n{changed.rstrip()}")
    shutil.rmtree(release.into, ignore_errors=True)
    release.into.mkdir(parents=True)
    release.work.mkdir(parents=True, exist_ok=True)
    os.environ["SOURCE_DATE_EPOCH"] = str(release.epoch)
    os.environ["TZ"] = "UTC"
    os.umask(0o022)
    for file in made(release):
        print(f"{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}  {size(file):>9}  {file.name}", flush=True)
    sums = "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(release.into.iterdir())
    )
    (release.into / "SHA256SUMS").write_text(sums, encoding="utf-8")
    print(f"{len(sums.splitlines())} files in {release.into}: sha256sum --check SHA256SUMS", flush=True)
    return 0


def made(release: Release) -> Iterator[Path]:
    """Each file, when it is there."""
    third_party = licences.write(release)
    yield third_party
    linked = binaries.build(release, binaries.HOST)
    yield binaries.archive(release, linked, third_party)
    yield step("the Debian package", lambda: debian.write(release, linked.program, third_party))
    yield from native.write(release)
    yield step("the image", lambda: image.write(release, linked.program, third_party))
    yield bill.write(release)
    alone = binaries.build(release, binaries.alone())
    yield binaries.archive(release, alone, third_party)
    yield source.write(release)
    yield step("the browser client", lambda: clients.npm(release))
    yield step("the Python client", lambda: clients.wheel(release))
    yield chart.write(release)


def step(what: str, make: Callable[[], Path]) -> Path:
    began = time.monotonic()
    result = make()
    kit.note(f"{what}: {time.monotonic() - began:.0f} s")
    return result


def size(file: Path) -> str:
    return f"{file.stat().st_size / 1000:,.0f} kB"


if __name__ == "__main__":
    kit.main(main)

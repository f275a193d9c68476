"""Installs and runs each file of target/release-files in a root, a folder or a container that has nothing else of rowcast, on a
private Postgres: the schema is installed, a server serves, a row that is written arrives. Exit code 1 where anything is wrong.

`make release` makes the files and runs this. The parts lie beside it. What is missing on this machine (root, debootstrap, a Docker
engine, npm) is skipped and said, or with CI=true a failure. Standard library only; needs Linux.
"""

import argparse
import contextlib
import hashlib
import os
import re
import time
from pathlib import Path

from harness import cluster as kit
from harness.release.binaries import HOST
from harness.repository import ROOT

from . import clients, engine, inventory, native, roots, source
from .stage import Missing, Stage, unpack

PARTS = {
    "inventory": inventory.run,
    "empty": roots.empty,
    "debian": roots.debian,
    "booted": roots.booted,
    "native": native.run,
    "npm": clients.npm,
    "wheel": clients.wheel,
    "image": engine.image,
    "compose": engine.compose,
    "source": source.run,
}


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, default=ROOT / "target/release-files", help="the folder of the files")
    parser.add_argument(
        "--parts", default=",".join(PARTS), help=f"with commas between them (default: {','.join(PARTS)})"
    )
    parser.add_argument(
        "--debian", default=codename(), help="the release that roots are made of (default: this machine's)"
    )
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    files = arguments.files.resolve()
    sums = checked(files)
    folder = Path(kit.temporary_parent(arguments.dir)) / f"rowcast-installed-{os.getpid()}"
    folder.mkdir()
    # containers and roots are read by users that do not exist here
    folder.chmod(0o755)
    stack.callback(lambda: kit.run(["rm", "-rf", "--one-file-system", folder]))
    arguments.rowcast = unpack(next(files.glob(f"rowcast-*-{HOST.triple}.tar.gz")), folder / "linked") / "rowcast"
    print(f"ok       {len(sums)} files are those of SHA256SUMS", flush=True)
    stage = Stage(stack, arguments, files, folder)
    wrong = 0
    for name in arguments.parts.split(","):
        began = time.monotonic()
        try:
            said, verdict = PARTS[name](stage), "ok"
        except Missing as missing:
            said, verdict = f"skipped: {missing}", "skipped"
            wrong += os.environ.get("CI") == "true"
        except kit.Failure as failure:
            said, verdict = str(failure), "WRONG"
            wrong += 1
        print(f"{verdict:8} {name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    print("Nothing is wrong." if not wrong else f"{wrong} WRONG.")
    return 1 if wrong else 0


def codename() -> str:
    """Of this Debian; of the one that releases are made on, where this is another distribution."""
    said = dict(re.findall(r"^(ID|VERSION_CODENAME)=(\w+)$", Path("/etc/os-release").read_text(encoding="utf-8"), re.M))
    return said["VERSION_CODENAME"] if said.get("ID") == "debian" else "bookworm"


def checked(files: Path) -> dict[str, str]:
    """What SHA256SUMS says of each file, which is so."""
    if not (files / "SHA256SUMS").exists():
        raise kit.Failure(f"there is no {files}/SHA256SUMS; run: scripts/release")
    lines = (files / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    there = {file.name for file in files.iterdir()} - {"SHA256SUMS"}
    if there != set(sums):
        raise kit.Failure(f"SHA256SUMS and the folder differ in {', '.join(sorted(there ^ set(sums)))}")
    for name, digest in sums.items():
        if hashlib.sha256((files / name).read_bytes()).hexdigest() != digest:
            raise kit.Failure(f"{name} is not the file that SHA256SUMS says")
    return sums


if __name__ == "__main__":
    kit.main(main)

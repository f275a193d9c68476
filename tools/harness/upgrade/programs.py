"""The program of the version before: named, or built from a commit of this repository, once for each commit.

Owns which commit that is. Knows nothing of what is done with the program.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness import cluster as kit
from harness.repository import ROOT

# The last commit whose schema is version 6, before claims that stand in tables (7): the youngest that differs in its tables, and
# one of those that an operator may go back to. Version 0.1.0 itself (93e6fbe, the same tables) refuses a later schema:
# `tests/upgrade --before-commit 93e6fbe --no-way-back --without-pages`. Once a version is tagged, this is the last tag.
BEFORE = "4db77d6b8149"
BUILT = ROOT / "target/upgrade"


def built(commit: str) -> Path:
    """The program as it was at a commit, with the profile that compiles fastest."""
    if not (whole := commit_of(commit)):
        raise kit.Failure(f"there is no commit {commit} here: fetch the whole history, or name a program with --before")
    program = BUILT / whole / "rowcast"
    if program.exists():
        return program
    kit.note(f"building rowcast as it was at {commit}: minutes at the first time, then it is kept in {program}")
    with tempfile.TemporaryDirectory(prefix="source-", dir=made(BUILT)) as folder:
        unpack(whole, Path(folder))
        build(Path(folder))
    made(program.parent)
    shutil.move(BUILT / "build/debug/rowcast", program)
    return program


def is_known(commit: str) -> bool:
    """Whether this repository has it."""
    return commit_of(commit) is not None


def has_history() -> bool:
    """Whether this is a whole repository: an archive of the source has no history, a shallow clone a short one."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--is-shallow-repository"]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "false"
    return False


def commit_of(name: str) -> str | None:
    """The commit's whole name."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    return None


def unpack(commit: str, folder: Path) -> None:
    """The files of a commit, and nothing of what this folder has besides."""
    archive = folder.with_suffix(".tar")
    try:
        kit.run(["git", "-C", ROOT, "archive", f"--output={archive}", commit])
        kit.run(["tar", "-xf", archive, "-C", folder])
    finally:
        archive.unlink(missing_ok=True)


def seed(folder: Path) -> None:
    """Dependencies as they are compiled already, in a folder that has none: most are the same, and take two minutes."""
    compiled, unfinished = ROOT / "target/debug", folder.with_name("unfinished")
    if folder.exists() or not compiled.exists():
        return
    shutil.rmtree(unfinished, ignore_errors=True)
    # another build may take away what is being copied; then all is compiled
    with contextlib.suppress(shutil.Error, OSError):
        for part in ("deps", "build", ".fingerprint"):
            ignore = shutil.ignore_patterns("*rowcast*", "tests-*")
            shutil.copytree(compiled / part, unfinished / part, ignore=ignore)
        unfinished.rename(folder)
    shutil.rmtree(unfinished, ignore_errors=True)


def build(folder: Path) -> None:
    """Dependencies stay in one folder for all commits: most of them are the same."""
    seed(BUILT / "build/debug")
    cargo = os.environ.get("CARGO", "cargo")
    command = [cargo, "build", "--locked", "--bin", "rowcast"]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "CARGO_TARGET_DIR": str(BUILT / "build")}, check=False
    )
    if done.returncode != 0:
        raise kit.Failure(f"cargo build of the version before ended with code {done.returncode}")


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder

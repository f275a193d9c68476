"""The Debian packages: that of the program that is tested, installed by dpkg into a root of its own, with what its scripts do, updated
where the operator has changed its settings, and removed without a trace; and those of native capture, the same bytes twice, where
Postgres looks for a library. tests/installed does it with the released ones, in a Debian.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness.release import debian, native
from harness.release.release import Release
from harness.repository import ROOT

SETTINGS = "etc/rowcast/rowcast.env"


def run(stack: contextlib.ExitStack, arguments: argparse.Namespace, missing: Any) -> Any:
    """How many things are wrong."""
    if not shutil.which("dpkg-shlibdeps"):
        return missing("the Debian package: there is no dpkg-dev")
    if subprocess.run([*as_root(), "true"], capture_output=True).returncode:
        return missing("the Debian package: this is not root, and may not take its place")
    folder = Path(kit.temporary_parent(arguments.dir)) / f"rowcast-package-{os.getpid()}"
    folder.mkdir()
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    wrong = told("the Debian package: installed, updated, purged", judge(folder, arguments.rowcast))
    known = {major: pg_config for major in native.VERSIONS if (pg_config := native.headers(major))}
    for major, pg_config in known.items():
        said = f"native capture for Postgres {major}: packed twice, installed, purged"
        wrong += told(said, judge_native(folder / native.name(major), major, pg_config))
    return wrong if known else wrong + missing("the packages of native capture: there are no headers of a server")


def told(said: str, judged: Iterator[str]) -> int:
    """How many things are wrong, after they were said."""
    mistakes = [*judged]
    for mistake in mistakes:
        print(f"WRONG  {mistake}", flush=True)
    print(f"{'ok' if not mistakes else 'WRONG':6} {said}", flush=True)
    return len(mistakes)


def as_root() -> list[str]:
    """dpkg gives files to root. Another user is root in a name space of its own."""
    return [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]


def dpkg(root: Path, *action: str | Path) -> None:
    """In a root that dpkg knows nothing of before."""
    if not (root / "var/lib/dpkg").exists():
        (root / "var/lib/dpkg").mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
    # what a package depends on is this machine's
    forced = ["--force-depends", "--force-script-chrootless", "--force-confold"]
    command = [*as_root(), "dpkg", f"--root={root}", *forced, *action]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise kit.Failure(f"dpkg {' '.join(map(str, action))}:\n{done.stdout}{done.stderr}")


def left(root: Path) -> list[Path]:
    """What of rowcast a root has, but for what dpkg writes down."""
    found = (path.relative_to(root) for path in root.rglob("*rowcast*"))
    return [path for path in found if not path.is_relative_to("var/lib/dpkg")]


def judge_native(folder: Path, major: int, pg_config: Path) -> Iterator[str]:
    """What is wrong."""
    made = []
    for name in ("once", "again"):
        (folder / name).mkdir(parents=True)
        made.append(native.package(Release.of(ROOT, folder / name), major, pg_config, "-Znone"))
    if made[0].read_bytes() != made[1].read_bytes():
        yield f"{made[0].name} has other bytes when it is made again"
    root = folder / "root"
    dpkg(root, "--install", made[0])
    place = native.said(pg_config, "--pkglibdir").lstrip("/")
    if not (root / place / native.LIBRARY).exists():
        yield f"{made[0].name} has no {place}/{native.LIBRARY}, where Postgres looks"
    dpkg(root, "--purge", native.name(major))
    if left(root):
        yield f"purged, it leaves {', '.join(map(str, left(root)))}"


def judge(folder: Path, program: Path) -> Iterator[str]:
    """What is wrong."""
    release = Release.of(ROOT, folder)
    licences = folder / "THIRD-PARTY.txt"
    licences.write_text("of no crate\n", encoding="utf-8")
    file = debian.write(release, program, licences, "-Znone")
    root = folder / "root"
    dpkg(root, "--install", file)
    said = subprocess.run([root / "usr/bin/rowcast", "--version"], capture_output=True, text=True).stdout.strip()
    if said != f"rowcast {release.version}":
        yield f"the installed program says that it is {said}"
    unit = (root / "lib/systemd/system/rowcast.service").read_text(encoding="utf-8")
    started = re.search(r"^ExecStart=(\S+)", unit, re.M)
    if not started or not (root / started[1].lstrip("/")).exists():
        yield f"the unit starts {started and started[1]}, which the package does not have"
    settings = root / SETTINGS
    if settings.stat().st_mode & 0o777 != 0o600 or f"EnvironmentFile=/{SETTINGS}" not in unit.splitlines():
        yield f"{SETTINGS} is not the unit's, or can be read by others"
    if any(line and not line.startswith("#") for line in settings.read_text(encoding="utf-8").splitlines()):
        yield f"{SETTINGS} sets something before the operator does"
    settings.write_text("DATABASE_URL=postgres:///mine\n", encoding="utf-8")
    dpkg(root, "--install", file)
    if "mine" not in settings.read_text(encoding="utf-8"):
        yield "an update forgets the operator's settings"
    dpkg(root, "--purge", "rowcast")
    if left(root):
        yield f"purged, it leaves {', '.join(map(str, left(root)))}"

"""The Debian package, of the program that is tested: installed by dpkg into a root of its own, with what its scripts do, updated
where the operator has changed its settings, and removed without a trace. tests/installed does it with the released one, in a Debian.
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
from harness.release import debian
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
    mistakes = [*judge(folder, arguments.rowcast)]
    for mistake in mistakes:
        print(f"WRONG  {mistake}", flush=True)
    print(f"{'ok' if not mistakes else 'WRONG':6} the Debian package: installed, updated, purged", flush=True)
    return len(mistakes)


def as_root() -> list[str]:
    """dpkg gives files to root. Another user is root in a name space of its own."""
    return [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]


def judge(folder: Path, program: Path) -> Iterator[str]:
    """What is wrong."""
    release = Release.of(ROOT, folder)
    licences = folder / "THIRD-PARTY.txt"
    licences.write_text("of no crate\n", encoding="utf-8")
    file = debian.write(release, program, licences, "-Znone")
    root = folder / "root"
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()

    def dpkg(*action: str | Path) -> str:
        # its libraries are this machine's
        forced = ["--force-depends", "--force-script-chrootless", "--force-confold"]
        command = [*as_root(), "dpkg", f"--root={root}", *forced, *action]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise kit.Failure(f"dpkg {' '.join(map(str, action))}:\n{done.stdout}{done.stderr}")
        return done.stdout

    dpkg("--install", file)
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
    dpkg("--install", file)
    if "mine" not in settings.read_text(encoding="utf-8"):
        yield "an update forgets the operator's settings"
    dpkg("--purge", "rowcast")
    left = [str(path.relative_to(root)) for path in root.rglob("*rowcast*") if "var/lib/dpkg" not in str(path)]
    if left:
        yield f"purged, it leaves {', '.join(left)}"

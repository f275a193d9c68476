"""The units of deploy/, rowcast.service and rowcast.socket, alone and with each of its drop-ins, in the real systemd-analyze; and that it has what
docs/reference/operations.md says of settings under systemd. No systemd runs for it.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from harness.repository import ROOT

EXPOSURE = 20  # of 100: what systemd-analyze security says, and what a change of the unit may not exceed
NEEDED = (
    "Type=notify",
    "StartLimitIntervalSec=0",
    "ExecReload=/bin/kill -HUP $MAINPID",
    "LogsDirectory=rowcast",
    "Restart=always",
)


def run(_stack: Any, arguments: argparse.Namespace, missing: Any) -> Any:
    """How many things are wrong."""
    wrong = 0
    text = (ROOT / "deploy/rowcast.service").read_text(encoding="utf-8")
    for line in NEEDED:
        if line not in text.splitlines():
            wrong += 1
            print(f"WRONG  deploy/rowcast.service has no line {line}", flush=True)
    page = (ROOT / "docs/reference/operations.md").read_text(encoding="utf-8")
    section = re.search(r"^## Under systemd\n(.*?)(?=^## )", page, re.M | re.S)
    drop_ins = sorted((ROOT / "deploy/rowcast.service.d").iterdir())
    for file in drop_ins:
        if not section or file.name not in section[1]:
            wrong += 1
            print(f"WRONG  docs/reference/operations.md does not name {file.name}", flush=True)
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        return wrong + missing("the unit: there is no systemd-analyze")
    for chosen in ([], *([file] for file in drop_ins), drop_ins):
        wrong += examine(analyze, text, chosen, arguments.rowcast.resolve())
    return wrong


def examine(analyze: Any, text: str, drop_ins: Any, program: Any) -> int:
    """Whether systemd understands every line, and how much the service could do if it were taken over."""
    name = " and ".join(["deploy/rowcast.service", *(file.name for file in drop_ins)])
    with tempfile.TemporaryDirectory() as folder:
        unit = Path(folder) / "rowcast.service"
        unit.write_text(text.replace("/usr/local/bin/rowcast", str(program)), encoding="utf-8")
        (Path(folder) / "rowcast.service.d").mkdir()
        for file in drop_ins:
            shutil.copy(file, Path(folder) / "rowcast.service.d")
        socket = Path(folder) / "rowcast.socket"
        shutil.copy(ROOT / "deploy/rowcast.socket", socket)
        verify = subprocess.run([analyze, "verify", "--man=no", unit, socket], capture_output=True, text=True)
        # lines of other units of this machine are not ours to mend
        said = [line for line in verify.stderr.splitlines() if "rowcast" in line]
        security = subprocess.run(
            [analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", unit],
            capture_output=True,
            text=True,
        )
    verdict = "ok" if verify.returncode == 0 and not said and security.returncode == 0 else "WRONG"
    print(f"{verdict:6} {name}: {(security.stdout.strip().splitlines() or ['no answer'])[-1].strip('→ ')}", flush=True)
    for line in said or (verify.stderr.splitlines() if verify.returncode else []):
        print(f"       {line}", flush=True)
    return int(verdict != "ok")

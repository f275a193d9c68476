"""The client end of the benchmarks, `benches/load`: where it lies, what it is told and what it answers, one at a time or
several at once. Knows nothing of what is measured."""

import argparse
import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness.repository import ROOT

LOAD = ROOT / "benches/load/target/release/load"


def add_argument(parser: argparse.ArgumentParser) -> None:
    """The argument that names the program."""
    parser.add_argument(
        "--load",
        metavar="FILE",
        type=Path,
        default=LOAD,
        help="the client end (default: benches/load/target/release/load)",
    )


def check(program: Path) -> None:
    """Says how it is built where it is not there."""
    if not os.access(program, os.X_OK):
        raise kit.Failure(f"there is no {program}; run: cargo build --release --manifest-path benches/load/Cargo.toml")


def command(program: Path, mode: str, server: Any, path: str, sockets: int, *options: Any) -> list[str]:
    """How it is called for a server."""
    url = f"ws://127.0.0.1:{server.port}{path}"
    words = (program, mode, "--url", url, "--connections", sockets, "--server-pid", server.pid, *options)
    return [str(word) for word in words]


def run(words: list[str]) -> Any:
    """Runs it to its end; its figures."""
    done = kit.run(words)
    if done.stderr:
        kit.note(f"warning: {done.stderr.strip()}")
    return json.loads(done.stdout)


class Several:
    """Loads that run at once; those that still run end with it."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Several":
        return self

    def __exit__(self, *_: object) -> None:
        for load in self._started:
            if load.poll() is None:
                load.kill()
            load.wait()
            for pipe in (load.stdout, load.stderr):
                pipe.close()

    def start(self, words: list[str]) -> subprocess.Popen[str]:
        """One more."""
        load = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._started.append(load)
        return load


def wait_until_open(load: subprocess.Popen[str], seconds: float) -> None:
    """Until all sockets of one that follows are open, which it says in a line."""
    if not select.select([load.stdout], [], [], seconds)[0]:
        raise kit.Failure(f"the sockets of a load were not open within {seconds:.0f} s")
    if load.stdout.readline() != "open\n":
        answer(load, 10)
        raise kit.Failure("a load that should follow has ended before its sockets were open")


def answer(load: subprocess.Popen[str], seconds: float) -> Any:
    """The figures of one that was started."""
    try:
        out, errors = load.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as late:
        raise kit.Failure(f"a load did not end within {seconds} s") from late
    if load.returncode != 0:
        raise kit.Failure(f"a load ended with code {load.returncode}:\n{errors.strip()}")
    if errors:
        kit.note(f"warning: {errors.strip()}")
    return json.loads(out)

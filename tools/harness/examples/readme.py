"""An example, copied to where its files can be made, and its README typed.

Owns the copy, the addresses in it and the processes. Knows no browser.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from harness import cluster as kit
from harness.machinery.stage import Database, Wrong
from harness.repository import ROOT

KEPT = ROOT / "target/examples"
TYPED_WITHIN = 300  # seconds: npm and pip fetch something
SAYS_WITHIN = 30  # seconds


class Example:
    """A folder of examples/ beside a database with rowcast in it, whose server runs."""

    def __init__(self, stack: ExitStack, database: Database, name: str, env: Mapping[str, str] | None = None) -> None:
        self._stack, self.database, self.name = stack, database, name
        self.port = kit.free_port()
        self.folder: Path = KEPT / name
        self._env = {**database.env, "DATABASE_URL": database.url_of(database.installer), **(env or {})}
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(ROOT / "examples" / name, self.folder)
        for file in self.folder.rglob("*.*"):
            if file.is_file():
                text = file.read_text(encoding="utf-8").replace("127.0.0.1:8000", f"127.0.0.1:{database.relay.port}")
                file.write_text(re.sub(r"\b3000\b", str(self.port), text), encoding="utf-8")
        self.readme = (self.folder / "README.md").read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        """Where its page is."""
        return f"http://127.0.0.1:{self.port}/"

    def state(self) -> None:
        """Runs its SQL."""
        self.database.script(self._block("sql"))

    def type(self) -> None:
        """Types its shell commands, to their end."""
        command = ["sh", "-euc", self._block("sh")]
        self.database.tool(command, env=self._env, cwd=self.folder, within=TYPED_WITHIN)

    def start(self) -> Program:
        """Types its shell commands, of which the last one goes on."""
        return Program(self._stack, self._block("sh"), self._env, self.folder)

    def run(self, text: str) -> Program:
        """Another program beside it."""
        return Program(self._stack, text, self._env, self.folder)

    def write(self) -> None:
        """Types the line of psql with which it says to write."""
        found = re.search(r'`(psql "\$DATABASE_URL" -c "[^`]+")`', self.readme)
        if not found:
            raise Wrong(f"examples/{self.name}/README.md has no line of psql")
        self.database.tool(["sh", "-euc", found[1]], env=self._env)

    def follow(self, channel: str) -> Program:
        """`rowcast tail`, once it is heard."""
        rowcast = Path(self.database.stage.cluster.rowcast_program).resolve()
        program = self.run(
            f"exec {rowcast} tail {channel} --url http://127.0.0.1:{self.database.relay.port} --snapshot"
        )
        program.says('"type":"subscribed"')
        return program

    def _block(self, language: str) -> str:
        found = re.search(rf"^```{language}\n(.*?)^```$", self.readme, re.M | re.S)
        if not found:
            raise Wrong(f"examples/{self.name}/README.md has no block of {language}")
        return found[1].replace("../../", f"{ROOT}/")


class Program:
    """A process and its children, and what they print."""

    def __init__(self, stack: ExitStack, text: str, env: Mapping[str, str], folder: Path) -> None:
        self._log = folder / f"printed-{time.monotonic_ns()}.log"
        with open(self._log, "wb") as out:
            self._process = subprocess.Popen(
                ["sh", "-euc", text],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                env=env,
                cwd=folder,
                start_new_session=True,
            )
        stack.callback(self.end)

    def printed(self) -> str:
        """What was printed until now."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def says(self, text: str, within: float = SAYS_WITHIN) -> None:
        """Waits until it is printed."""
        deadline = time.monotonic() + within
        while text not in self.printed():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise Wrong(f"{text!r} is not printed, but:\n{self.printed()[-2000:]}")
            time.sleep(0.02)

    def end(self) -> None:
        """Ends it with all that it has started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

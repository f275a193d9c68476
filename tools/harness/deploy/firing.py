"""Alerts of deploy/alerts.yml caused on purpose, and seen firing and ending in a real Prometheus that scrapes as
deploy/prometheus.yml says. The expressions are the published ones. Only time runs faster: each duration of the rules is
divided by FASTER, and a scrape is every second, so that what takes ten minutes on call takes six seconds here.
"""

import argparse
import contextlib
import json
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness import cluster as kit
from harness.repository import ROOT
from harness.websocket import Inbox, Refused

from .alerts import SECRET, token_of_the_docs

FASTER = 100
SCRAPE = "1s"
WITHIN = 90  # seconds until an alert fires, or ends: fifteen for a trigger that is off, and what a busy machine adds
# Descriptors that the server may have: what a login has by default; and so few that it is full before it has used nine of
# ten, since it keeps 96 back
SOME, FEW = 1024, 512
# Seconds that a transaction stays open after its change: more than the one of RowcastSlow. Four at a time, so that one ends
# in each second, however long the test itself is held up
LATE, LATEST = 1.2, 1.6
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Cause:
    """What goes wrong, and which alerts it has to fire, and no others: by name, and by reason or finding where they have one.

    They need not fire at one moment: a gap of a moment ago ends before a server tells what lasts, every fifteen seconds.
    """

    what: str
    alerts: set[str]
    begin: Callable[[], object]
    mend: Callable[[], object]
    goes_on: Callable[[], object] = lambda: None  # again and again, until they fire


def run(stack: contextlib.ExitStack, arguments: argparse.Namespace, missing: Callable[[str], bool]) -> int:
    """How many things are wrong."""
    if not shutil.which("prometheus"):
        return int(missing("alerts that fire: there is no prometheus"))
    began = time.monotonic()
    server = Server(stack, arguments)
    prometheus = Prometheus(stack, server)
    mistakes = prometheus.wait_for(set(), "nothing is wrong yet")
    for cause in server.causes():
        if mistakes:
            break  # what still fires would be seen in the next one
        cause.begin()
        mistakes += prometheus.wait_for(cause.alerts, cause.what, cause.goes_on)
        cause.mend()
        mistakes += prometheus.wait_for(set(), f"no longer: {cause.what}")
    for mistake in mistakes:
        print(f"WRONG  {mistake}", flush=True)
    took, names = time.monotonic() - began, ", ".join(prometheus.seen)
    print(f"{'WRONG' if mistakes else 'ok':6} caused, fired and ended in {took:.0f} s: {names}", flush=True)
    return len(mistakes)


class Server:
    """A server on a database of its own, and what can be done to both."""

    def __init__(self, stack: contextlib.ExitStack, arguments: argparse.Namespace) -> None:
        self._stack = stack
        self.cluster = kit.Cluster(stack, arguments, fsync="off")
        self.cluster.rowcast("migrate")
        self.cluster.psql(
            "create table pets (pet_id serial primary key)",
            "select rowcast.watch('pets')",
            "select rowcast.allow('pets', 'admin')",
        )
        self.token = token_of_the_docs(self.cluster)
        self._program = arguments.rowcast.resolve()
        self.listen, self.operators = kit.free_port(), kit.free_port()
        self._serve(SOME)
        stack.callback(lambda: self.relay.__exit__())
        self.inbox = Inbox()
        stack.callback(lambda: self.inbox.close())

    def _serve(self, descriptors: int) -> None:
        # it raises its limit as far as it may
        limited = self.cluster.file("limited", f'#!/bin/sh\nulimit -n {descriptors}\nexec "{self._program}" "$@"\n')
        limited.chmod(0o755)
        self.cluster.rowcast_program = limited
        self.relay = kit.Relay(
            self.cluster,
            *("--jwt-secret", SECRET, "--admin-listen", f"127.0.0.1:{self.operators}", "--max-sockets-per-user", 0),
            *("--ping-seconds", 600),  # the sockets of this test answer no ping
            port=self.listen,
        )

    def causes(self) -> list[Cause]:
        """In an order in which each leaves what the next one needs."""
        return [
            Cause("nine of ten descriptors are used", {"RowcastDescriptors"}, self._fill, self._empty),
            Cause(
                "the server was killed",
                {"RowcastDown", "RowcastAbsent"},
                self.relay.kill,
                lambda: self._serve(FEW),
            ),
            Cause("connections are refused", {"RowcastDescriptors"}, self._fill, self._empty, self._knock),
            Cause("Postgres is away", {"RowcastSourceDown"}, self.cluster.stop, self.cluster.start),
            Cause(
                "capture was paused, and a trigger is off",
                {"RowcastGap retention", "RowcastGap trigger_off", "RowcastNotCaptured triggers"},
                lambda: self.cluster.psql(
                    "select rowcast.pause(); select rowcast.resume()",
                    "alter table pets disable trigger all",
                ),
                lambda: self.cluster.psql("alter table pets enable trigger all"),
            ),
            Cause("transactions stay open", {"RowcastSlow"}, self._write_slowly, self._write_no_more),
        ]

    def _connect(self) -> None:
        self.inbox.open("127.0.0.1", self.listen, f"/ws/pets?token={self.token}")

    def _fill(self) -> None:
        """Sockets until the server has room for no more."""
        with contextlib.suppress(Refused):
            while True:
                self._connect()

    def _knock(self) -> None:
        with contextlib.suppress(Refused):
            self._connect()

    def _empty(self) -> None:
        self.inbox.close()
        self.inbox = Inbox()

    def _write_slowly(self) -> None:
        self._connect()
        script = self.cluster.file(
            "slowly.sql",
            f"\\set ms random({LATE * 1000:.0f}, {LATEST * 1000:.0f})\n"
            "begin;\ninsert into pets default values;\n\\sleep :ms ms\ncommit;\n",
        )
        self._writing = subprocess.Popen(
            [self.cluster.pgbench_program, "-n", "-c", "4", "-T", str(2 * WITHIN), "-f", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.cluster.env,
        )
        self._stack.callback(self._writing.kill)

    def _write_no_more(self) -> None:
        self._writing.terminate()
        self._writing.wait(30)
        self._empty()


class Prometheus:
    """The program, with the published files."""

    def __init__(self, stack: contextlib.ExitStack, server: Server) -> None:
        self.seen: list[str] = []
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # not one of the environment
        self._port = kit.free_port()
        folder = server.cluster.dir / "prometheus"
        folder.mkdir()
        shutil.copy(server.cluster.dir / "rowcast-token", folder)
        (folder / "alerts.yml").write_text(quick_rules(), encoding="utf-8")
        (folder / "prometheus.yml").write_text(quick_scrapes([server.listen, server.operators]), encoding="utf-8")
        self._log = folder / "log"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [
                    *("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"),
                    *(f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=warn"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        stack.callback(kit.stop, self._process, signal.SIGTERM, "prometheus", 10)

    def wait_for(self, wanted: set[str], when: str, goes_on: Callable[[], object] = lambda: None) -> list[str]:
        """Until each of these alerts has fired and no other one fires; what is wrong, if that does not come in time."""
        began = time.monotonic()
        fired: set[str] = set()
        while (firing := self._firing()) is None or not firing <= wanted <= (fired := fired | self._has_fired(began)):
            if self._process.poll() is not None:
                raise kit.Failure(f"prometheus ended:\n{kit.tail(self._log)}")
            if time.monotonic() - began > WITHIN:
                now, before = sorted(firing or []), sorted(fired)
                return [f"{when}: after {WITHIN} s {now} fire, and {before} have fired, not {sorted(wanted)}"]
            goes_on()
            time.sleep(0.1)
        kit.note(f"{when}: {', '.join(sorted(wanted)) or 'nothing'} after {time.monotonic() - began:.1f} s")
        self.seen += sorted(wanted - set(self.seen))
        return []

    def _firing(self) -> set[str] | None:
        """What fires now; None before each target was scraped and the rules were looked at."""
        try:
            targets = self._ask("/api/v1/targets")["activeTargets"]
            alerts = self._ask("/api/v1/alerts")["alerts"]
        except OSError:
            return None
        if not targets or any(target["health"] == "unknown" for target in targets):
            return None
        return names([alert["labels"] for alert in alerts if alert["state"] == "firing"])

    def _has_fired(self, since: float) -> set[str]:
        """What has fired at some moment, also while nobody looked."""
        seconds = max(int(time.monotonic() - since), 1)
        query = urllib.parse.quote(f'last_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])')
        return names([each["metric"] for each in self._ask(f"/api/v1/query?query={query}")["result"]])

    def _ask(self, path: str) -> Any:
        with self._opener.open(f"http://127.0.0.1:{self._port}{path}", timeout=10) as answer:
            return json.load(answer)["data"]


def names(alerts: list[dict[str, str]]) -> set[str]:
    """Of alerts by their labels: the name, and the reason or finding where one has it."""
    return {" ".join(filter(None, (each["alertname"], each.get("reason") or each.get("finding")))) for each in alerts}


def quick_rules() -> str:
    """deploy/alerts.yml with every duration divided by FASTER, and nothing else."""

    def quicker(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * UNITS[found[3]] * 1000 // FASTER}ms"

    rules = (ROOT / "deploy/alerts.yml").read_text(encoding="utf-8")
    return re.sub(r"((?:for: |offset |\[))(\d+)([smhd])\b", quicker, rules)


def quick_scrapes(ports: list[int]) -> str:
    """deploy/prometheus.yml with a quicker pace and the two listeners of the server as targets."""
    text = (ROOT / "deploy/prometheus.yml").read_text(encoding="utf-8")
    targets = json.dumps([f"127.0.0.1:{port}" for port in ports])
    for pattern, replacement in (
        (r"scrape_interval: \w+", f"scrape_interval: {SCRAPE}"),
        (r"targets: \[.*\]", f"targets: {targets}"),
    ):
        text, count = re.subn(pattern, replacement, text)
        if count != 1:
            raise kit.Failure(f"deploy/prometheus.yml has {count} times {pattern}")
    return f"global: {{ evaluation_interval: {SCRAPE} }}\n{text}"

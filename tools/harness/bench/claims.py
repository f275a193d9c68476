"""What claims that stand in tables cost: CPU time of a change beside a claim of the token, memory of a million values,
how soon a membership that changes is told, and what a bulk change of members asks of the database."""

import argparse
import contextlib
import http.client
import re
import select
import statistics
import time
from typing import Any

from harness import cluster as kit
from harness import report
from harness.bench import access, fanout, loads
from harness.websocket import WebSocket

HOLDERS = 10_000
PATH = "/ws/fan?token={token}"
# of each holder: its own rows by one value, and so many values that no row has
VALUES = (1, 10, 100, 1000)
# the end of what a change of memberships tells
TOLD = b'"type":"cut"'
CLAIM = "select rowcast.claim('groups', 'select g.id from public.members g where g.user_id = {sub}::int')"


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="rows are written in each run (default: 4)")
    loads.add_argument(parser)
    parser.add_argument(
        "--quick", action="store_true", help="one round, 1 s each, a tenth of the sockets: to see that it works"
    )
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1
    loads.check(arguments.load)
    cpus, files = fanout.pin(), fanout.raise_file_limit()
    load = report.load_average()
    cluster = kit.Cluster(stack, arguments, autovacuum="off")
    cluster.rowcast("migrate")
    cluster.psql(*fanout.TABLES)
    cluster.psql(
        "create table public.members (user_id int not null, id int not null, primary key (user_id, id))",
        CLAIM,
        "select rowcast.allow('fan', 'owner', 'owner=eq.{sub}')",
        "select rowcast.allow('fan', 'token', 'owner=in.{ids}')",
        "select rowcast.allow('fan', 'member', 'owner=in.{groups}')",
    )
    bench = Claims(cluster, arguments, cpus, files)
    print(report.table(["what", "figure", "ratio"], [*bench.changes(), *bench.memory(), *bench.memberships()]))
    print(
        f"\n- {'Nothing was lost, repeated, out of order or told to others.' if not bench.wrong else f'{bench.wrong} FAULTS: see stderr.'} "
        f"Figures of changes are medians of {arguments.rounds} rounds (least-greatest)."
    )
    print(
        f"- {f'The server had CPU {cpus[0]}, everything else CPU {cpus[1]}' if cpus else 'Nothing was pinned to a CPU'}; open files: {files:,} each."
    )
    print(report.origin(cluster, load))
    return 1 if bench.wrong else 0


class Claims(access.Access):
    """Runs with members of a table, and with lists in tokens."""

    def members(self, holders: int, values: int) -> None:
        """Each holder has its own number, and values of nobody: 1,000 holders share each."""
        # captured, a million of these rows would take longer to write than all else here takes
        self.cluster.psql(
            "truncate public.members",
            "set rowcast.mute = on; "
            f"insert into public.members select h, h from generate_series(0, {holders - 1}) h; "
            "insert into public.members select h, 1000000 + v * 10 + h / 1000 "
            f"from generate_series(0, {holders - 1}) h, generate_series(1, {values - 1}) v",
            "analyze public.members",
        )

    def tokens_of(self, role: str, holders: int) -> Any:
        claims = [{"role": role, "sub": str(holder), "ids": [holder]} for holder in range(holders)]
        return self.tokens(f"{role}.tokens", claims, access.hs256)

    def changes(self) -> list[Any]:
        """100 changes a second, each for one holder."""
        holders = self.scaled(HOLDERS)
        runs = []
        for title, role, values in (
            ("own rows, by sub", "owner", 1),
            ("a list of the token", "token", 1),
            *((f"{values} values of a table", "member", values) for values in VALUES),
        ):
            self.members(holders, values)
            tokens = self.tokens_of(role, holders)
            runs.append(
                (
                    f"a change, CPU µs, {holders:,} holders: {title}",
                    self.measure(
                        title,
                        ("--jwt-secret", access.SECRET, "--claim-bytes", 1 << 30),
                        lambda server, tokens=tokens: self.fanout(
                            server,
                            holders,
                            server.feed(1, 1),
                            "--rate",
                            100,
                            "--tokens",
                            tokens,
                            "--addressed",
                            "--ready",
                            '"subscribed"',
                            path=PATH,
                        ),
                        "cpu_us_per_message",
                    ),
                )
            )
        return self.against(runs)

    def memory(self) -> list[Any]:
        """What the server has more where each holder has 100 values instead of one: a million."""
        holders = self.scaled(HOLDERS)
        tokens = self.tokens_of("member", holders)
        found = {}
        for values in (1, 101):
            self.members(holders, values)
            with contextlib.ExitStack() as stack:
                with self.on_server_cpu():
                    server = stack.enter_context(
                        # without the changes that filled the table, which are kept for those who come back
                        access.Server(
                            self.cluster,
                            "--jwt-secret",
                            access.SECRET,
                            "--claim-bytes",
                            1 << 30,
                            "--history-bytes",
                            1 << 16,
                        )
                    )
                line = self.load(
                    "idle", server, holders, "--hold", 1, "--tokens", tokens, "--ready", '"subscribed"', path=PATH
                )
                found[values] = (
                    line,
                    metric(server, "rowcast_claim_bytes"),
                    metric(server, "rowcast_claim_reads_total"),
                )
        more = (found[101][0]["memory_open_kib"] - found[1][0]["memory_open_kib"]) / 1024
        pairs = holders * 100
        held = (found[101][1] - found[1][1]) / (1 << 20)
        return [
            [f"{pairs:,} values of {holders:,} holders: MiB of the process", f"{more:.1f}", ""],
            ["of which are counted for claim-bytes", f"{held:.1f}", ""],
            [
                f"s to open {holders:,} sockets with 1 / 101 values",
                f"{found[1][0]['open_seconds']:.1f} / {found[101][0]['open_seconds']:.1f}",
                "",
            ],
            ["statements that read them, 1 / 101 values", f"{found[1][2]:.0f} / {found[101][2]:.0f}", ""],
        ]

    def memberships(self) -> list[Any]:
        """From commit to what is told to the socket of one of many holders; and a bulk change of all members at once."""
        holders = self.scaled(HOLDERS) // 2
        self.members(holders, 10)
        tokens = self.tokens_of("member", holders)
        with contextlib.ExitStack() as stack:
            with self.on_server_cpu():
                server = stack.enter_context(access.Server(self.cluster, "--jwt-secret", access.SECRET))
            lines = tokens.read_text(encoding="utf-8").splitlines()
            sockets = [WebSocket(server.host, server.port, PATH.format(token=line)) for line in lines[:1000]]
            for socket in sockets:
                stack.callback(socket.close)
            for socket in sockets:
                self.wait_for(socket, b'"subscribed"')
            took = []
            for n in range(10 if self.arguments.quick else 200):
                holder = n % len(sockets)
                self.cluster.psql(f"insert into public.members values ({holder}, {5_000_000 + n})")
                committed = time.monotonic()
                self.wait_for(sockets[holder], TOLD)
                took.append((time.monotonic() - committed) * 1000)
            before, cpu = metric(server, "rowcast_claim_reads_total"), server.cpu_seconds()
            bulk = 100_000 if not self.arguments.quick else 10_000
            began = time.monotonic()
            self.cluster.psql(
                f"insert into public.members select g % {holders}, 7000000 + g from generate_series(1, {bulk}) g"
            )
            written = time.monotonic() - began
            # a hundred are told row by row, the others load again
            for socket in sockets:
                self.wait_for(socket, TOLD, b'"gap"')
            told = time.monotonic() - began - written
            reads = metric(server, "rowcast_claim_reads_total") - before
            return [
                [
                    "a membership, commit to the rows at the socket, ms p50 / p99",
                    f"{statistics.median(took):.1f} / {quantile(took, 0.99):.1f}",
                    "",
                ],
                [
                    f"{bulk:,} members in one statement, {len(sockets):,} holders connected: statements that read",
                    f"{reads:.0f}",
                    "",
                ],
                ["the same: s to write it, and then until the last holder was told", f"{written:.1f} + {told:.2f}", ""],
                ["the same: CPU s of the server", f"{server.cpu_seconds() - cpu:.2f}", ""],
            ]

    def wait_for(self, socket: WebSocket, *texts: bytes) -> None:
        deadline = time.monotonic() + 30
        kept = getattr(socket, "kept", [])
        while True:
            while kept:
                message = kept.pop(0)
                if any(text in message for text in texts):
                    socket.kept = kept  # type: ignore[attr-defined]
                    return
            if time.monotonic() > deadline:
                raise kit.Failure(f"{texts} did not come")
            if select.select([socket.sock], [], [], 1)[0]:
                kept.extend(socket.feed(socket.sock.recv(65536)))


def metric(server: Any, name: str) -> float:
    """A number of /metrics, as an admin sees it."""
    token = access.hs256({"role": "admin", "exp": int(time.time()) + 60})
    connection = http.client.HTTPConnection(server.host, server.port, timeout=5)
    try:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    found = re.search(rf"^{name} ([0-9.e+]+)$", text, re.M)
    if not found:
        raise kit.Failure(f"/metrics has no {name}")
    return float(found[1])


def quantile(numbers: list[float], part: float) -> float:
    """The number below which that part of them lies."""
    return sorted(numbers)[min(len(numbers) - 1, int(len(numbers) * part))]


if __name__ == "__main__":
    kit.main(main)

"""The load that other projects of this field publish figures of, on rowcast: clients of one channel at a rate, users with a
policy each, 224,000 frames a second, thousands of filters, and a snapshot of a gigabyte."""

import argparse
import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness import report
from harness.bench import access, fanout, loads
from harness.bench.resume import Psql, greatest

WRITERS = 4  # at a rate: an INSERT that waits for its fsync does not delay the next one
CROWD, CROWD_RATE = 32_000, 7  # 224,000 frames a second
POLICIES = (10_000, 5)
FILTERS = (100, 10_000)
# a load gives up by then; opening 32,000 sockets takes a few seconds
PATIENCE = 300
# a row is about 1,000 bytes of JSON, and shorter than the 2 kB at which Postgres begins to compress it
ARCHIVE = (
    "create table public.archive (id bigint generated always as identity primary key, n bigint not null, body text)"
)
FILL = "insert into public.archive (n, body) select n, repeat(md5(n::text), 30) from generate_series(1, {rows}) n"
SESSIONS = "select pid from pg_stat_activity where application_name like 'rowcast replay%';"
Figures = dict[str, tuple[str, Callable[[float], str]]]
# columns: what they are called, the figure, how it is written
AT_A_RATE: Figures = {
    "changes/s": ("changes", "{:,.1f}".format),
    "frames/s": ("frames", "{:,.0f}".format),
    "row → frame, p50 ms": ("p50_ms", "{:.1f}".format),
    "p95 ms": ("p95_ms", "{:.1f}".format),
    "p99 ms": ("p99_ms", "{:.1f}".format),
    "cores of rowcast": ("server", "{:.2f}".format),
    "of Postgres": ("database", "{:.2f}".format),
    "of the busiest reader": ("reader", "{:.2f}".format),
    "most memory of rowcast, MiB": ("memory", "{:,.0f}".format),
}
FLAT_OUT: Figures = {
    "changes/s": ("changes", "{:,.0f}".format),
    "frames/s": ("deliveries_per_second", "{:,.0f}".format),
    "CPU µs a change": ("cpu_us_per_message", "{:,.1f}".format),
    "cores of rowcast": ("server_busy", "{:.2f}".format),
    "of the reader": ("generator_busy", "{:.2f}".format),
}
ALL_ROWS: Figures = {
    "connect → `subscribed`, s": ("seconds", "{:.2f}".format),
    "MB": ("mb", "{:,.0f}".format),
    "MB/s": ("mb_s", "{:,.0f}".format),
    "rows/s": ("rows_s", "{:,.0f}".format),
    "cores of rowcast": ("server", "{:.2f}".format),
    "of Postgres": ("database", "{:.2f}".format),
    "most memory of rowcast before, MiB": ("before", "{:,.1f}".format),
    "after": ("after", "{:,.1f}".format),
    "of its session of Postgres": ("session", "{:,.1f}".format),
}


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=20, help="rows are written at a rate; flat out a fifth of it (default: 20)"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the snapshot, 1 kB each (default: 1000000)")
    parser.add_argument(
        "--nodes", type=int, default=0, help="of 224k (default: as few as the limit of open files allows)"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=list(PARTS),
        default=list(PARTS),
        metavar="NAME",
        help=f"only these ({', '.join(PARTS)})",
    )
    parser.add_argument(
        "--pin", action="store_true", help="rowcast has one CPU, everything else another one, as in fanout"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round, 2 s, a tenth of the sockets: to see that it works"
    )
    loads.add_argument(parser)
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        parser.set_defaults(rounds=1, seconds=2, rows=10_000)
        arguments = parser.parse_args()
    loads.check(arguments.load)

    cpus = fanout.pin() if arguments.pin else None
    files = fanout.raise_file_limit(CROWD + 500)
    load = report.load_average()
    cluster = kit.Cluster(stack, arguments, autovacuum="off")
    cluster.rowcast("migrate")
    cluster.psql(*fanout.TABLES)
    bench = Scenarios(cluster, arguments, cpus, files)
    for name, part in PARTS.items():
        if name in arguments.parts:
            print(f"{part(bench)}\n", flush=True)
    print(
        f"- {'Nothing was lost, repeated, out of order or told to others.' if not bench.wrong else f'{bench.wrong:,} FAULTS: see stderr.'} "
        f"Each figure is the median of {arguments.rounds} rounds (least-greatest)."
    )
    print(
        f"- {f'rowcast had CPU {cpus[0]}, everything else CPU {cpus[1]}' if cpus else 'Nothing was pinned to a CPU'}; open files: {files:,} each."
    )
    print(report.origin(cluster, load))
    return 1 if bench.wrong else 0


class Scenarios(access.Access):
    """Runs of rowcast at a rate, on one node or several."""

    def serve(self, stack: contextlib.ExitStack, *flags: Any) -> access.Server:
        """With as many sockets as files: else each start warns that there are too few."""
        return super().serve(stack, "--max-sockets", self.files, *flags)

    def crowd(
        self,
        title: str,
        clients: int,
        rate: int,
        *options: Any,
        flags: tuple[str, ...] = (),
        path: str = "/ws/fan",
        nodes: int = 1,
    ) -> list[str]:
        """A line of a table: so many clients, and so many changes a second by the clock."""
        found = self.lines(
            title,
            flags,
            lambda first: self.at_rate(first, clients // nodes, rate, options, flags, path, nodes),
            *keys(AT_A_RATE),
        )
        return cells(title, found, AT_A_RATE)

    def at_rate(self, first: Any, each: int, rate: int, options: Any, flags: Any, path: str, nodes: int) -> Any:
        """One run. Each node has a load of its own, as a load has no more files than a node. That of the first one
        publishes, the others follow."""
        seconds = self.arguments.seconds
        options = [*first.options, "--timeout", PATIENCE + seconds, *options]
        expect = ["--expect", math.ceil(rate * seconds), "--publishers", WRITERS]
        publish = [*first.feed(WRITERS, 1), "--rate", rate, "--seconds", seconds, "--database-pid", self.cluster.pid]
        with contextlib.ExitStack() as stack:
            others = [self.serve(stack, *flags) for _ in range(nodes - 1)]
            several = stack.enter_context(loads.Several())

            def start(mode: str, node: Any, what: list[Any]) -> Any:
                return several.start(loads.command(self.arguments.load, mode, node, path, each, *options, *what))

            following = [start("follow", node, expect) for node in others]
            for load in following:
                loads.wait_until_open(load, PATIENCE)
            publisher = start("fanout", first, publish)
            published, *followed = [loads.answer(load, 2 * PATIENCE + seconds) for load in (publisher, *following)]
            memory = [node.peak_memory() for node in (first, *others)]
        for line in followed:
            line["lost"] = published["published"] * each - line["deliveries"]
        if published["writer_late_ms"] > 1000 / rate:
            kit.note(f"warning: the rate was not kept, a row was late by {published['writer_late_ms']:.0f} ms")
        return together([published, *followed], memory, seconds)


def together(lines: list[Any], memory: list[int | None], written_for: float) -> Any:
    """The figures of all nodes, of which the first one's load has published. A delay is that of the slowest node. The
    time ends with the last frame, where that came later than the last second of writing."""
    published = lines[0]
    seconds = max(written_for, *(line["seconds"] for line in lines))
    faults = ("lost", "repeated", "disordered", "misdirected", "ended")
    return {
        "changes": published["published"] / seconds,
        "frames": sum(line["deliveries"] for line in lines) / seconds,
        **{key: max(line[key] for line in lines) for key in ("p50_ms", "p95_ms", "p99_ms")},
        "server": sum(line["cpu_seconds"] for line in lines) / seconds,
        "database": published["database_cpu_seconds"] / seconds,
        "reader": max(line["generator_cpu_seconds"] for line in lines) / seconds,
        "memory": sum(peak or 0 for peak in memory) / 2**20,
        **{key: sum(line[key] for line in lines) for key in faults},
    }


def keys(figures: Figures) -> list[str]:
    """What the columns of a table are taken from."""
    return [key for key, _ in figures.values()]


def head(title: str, figures: Figures) -> list[str]:
    """The first line of a table."""
    return [title, *figures, "lost", "twice"]


def cells(title: str, found: list[Any], figures: Figures) -> list[str]:
    """A line of a table, of all its rounds."""
    spread = [report.spread([line[key] for line in found], form) for key, form in figures.values()]
    return [title, *spread, *(f"{sum(line[key] for line in found):,}" for key in ("lost", "repeated"))]


# the parts


def one_channel(name: str, clients: int, rate: int) -> Callable[[Scenarios], str]:
    """Clients that see all changes of one channel."""

    def part(bench: Scenarios) -> str:
        count = bench.scaled(clients)
        return report.table(head(name, AT_A_RATE), [bench.crowd(f"{count:,} clients × {rate} changes/s", count, rate)])

    return part


def policies(bench: Scenarios) -> str:
    """The same clients without tokens; as users who see own rows; and as users with a condition each that all rows
    satisfy."""
    clients, rate = bench.scaled(POLICIES[0]), POLICIES[1]
    bench.cluster.psql(
        "select rowcast.allow('fan', 'owner', 'owner=eq.{sub}')",
        "select rowcast.allow('fan', 'reader', 'owner=gte.{floor}')",
    )

    def tokens(role: str) -> Path:
        claims = [{"role": role, "sub": str(user), "floor": -user} for user in range(clients)]
        return bench.tokens(f"{role}.tokens", claims, access.hs256)

    key = ("--jwt-secret", access.SECRET)
    lines = [
        bench.crowd(f"{clients:,} clients × {rate} changes/s, no policy", clients, rate),
        bench.crowd(
            "a policy for each user: a change is for one of them",
            clients,
            rate,
            "--tokens",
            tokens("owner"),
            "--addressed",
            flags=key,
            path=access.PATH,
        ),
        bench.crowd(
            "a policy for each user: a change is for all of them",
            clients,
            rate,
            "--tokens",
            tokens("reader"),
            flags=key,
            path=access.PATH,
        ),
    ]
    return report.table(head("10000x5", AT_A_RATE), lines)


def large_crowd(bench: Scenarios) -> str:
    """As many sockets as one node may have, and all of them on as many nodes as that takes."""
    wanted = CROWD // 10 if bench.arguments.quick else CROWD
    alone = bench.scaled(CROWD)
    nodes = bench.arguments.nodes or math.ceil(wanted / alone)
    crowds = [(1, alone)] if alone < wanted else []
    crowds.append((nodes, min(wanted // nodes, alone) * nodes))
    lines = [
        bench.crowd(
            f"{sockets:,} sockets × {CROWD_RATE} changes/s on {count} {'node' if count == 1 else 'nodes'}",
            sockets,
            CROWD_RATE,
            nodes=count,
        )
        for count, sockets in crowds
    ]
    return report.table(head("224k", AT_A_RATE), lines)


def filters(bench: Scenarios) -> str:
    """Each socket has a filter of its own: a value; a range that no other one touches; a range that all rows are in."""
    # the lines of this file need not be tokens: each goes into one socket's path, and rows are for all sockets then
    floors = bench.cluster.file("floors", "".join(f"{-number}\n" for number in range(max(FILTERS))))
    wide, narrow = ["--window", 1024], ["--window", 8, "--tokens", floors]
    kinds: list[tuple[str, str, tuple[int, int], list[Any]]] = [
        ("`owner=eq.N`, each row for one", "/ws/fan?filter=owner=eq.{n}", (4, 64), wide),
        ("`N <= owner <= N`, each row for one", "/ws/fan?filter=owner=gte.{n}&filter=owner=lte.{n}", (4, 64), wide),
        ("`owner >= -N`, each row for all", "/ws/fan?filter=owner=gte.{token}", (2, 2), narrow),
    ]
    rows = []
    for kind, path, feed, options in kinds:
        for full in FILTERS:
            count = bench.scaled(full)

            def run(server: Any, path: str = path, count: int = count, feed: Any = feed, options: Any = options) -> Any:
                line = bench.fanout(
                    server, count, server.feed(*feed), *options, path=path, seconds=bench.arguments.seconds / 5
                )
                return {**line, "changes": line["published"] / line["seconds"]}

            title = f"{count:,} × {kind}"
            rows.append(cells(title, bench.lines(title, (), run, *keys(FLAT_OUT)), FLAT_OUT))
    return report.table(head("filters, a socket each, flat out", FLAT_OUT), rows)


def snapshot(bench: Scenarios) -> str:
    """All rows of a large table to one client: as they were at one moment, and in pages."""
    rows, cluster = bench.arguments.rows, bench.cluster
    cluster.psql(ARCHIVE, FILL.format(rows=rows), "vacuum analyze public.archive", "checkpoint")
    cluster.rowcast("watch", "public.archive")

    def run(server: Any, path: str) -> Any:
        server.wait_until_asleep()
        before, session = server.peak_memory(), greatest(cluster, 0.05, memory_of_sessions)
        options = ("--hold", 0, "--key", "id", "--database-pid", cluster.pid, "--timeout", 2 * PATIENCE)
        try:
            line = bench.load("idle", server, 1, *options, path=path)
        finally:
            own = session()
        seconds = line["open_seconds"]
        return {
            "seconds": seconds,
            "mb": line["open_bytes"] / 1e6,
            "mb_s": line["open_bytes"] / 1e6 / seconds,
            "rows_s": line["rows"] / seconds,
            "server": line["open_cpu_us_per_connection"] / 1e6 / seconds,
            "database": line["open_database_cpu_seconds"] / seconds,
            "before": (before or 0) / 2**20,
            "after": (server.peak_memory() or 0) / 2**20,
            "session": own / 2**20,
            "lost": rows - line["rows"],
            "repeated": line["rows_repeated"],
            "ended": line["ended"],
        }

    lines = []
    for title, path in (
        ("`snapshot=true`: one moment", "/ws/archive?snapshot=true"),
        ("and `partial=true`: pages", "/ws/archive?snapshot=true&partial=true"),
    ):
        found = bench.lines(title, (), lambda server, path=path: run(server, path), *keys(ALL_ROWS))
        lines.append(cells(title, found, ALL_ROWS))
    return report.table(head(f"snapshot of {rows:,} rows", ALL_ROWS), lines)


def memory_of_sessions(psql: Psql) -> float:
    """Bytes of the sessions that read snapshots, without what they share with others."""
    return sum(own_memory(int(pid)) for pid in psql.ask(SESSIONS).split())


def own_memory(pid: int) -> int:
    """Bytes that are no other process's; 0 where the system does not tell, or the process has ended."""
    with contextlib.suppress(OSError, StopIteration):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))
    return 0


PARTS: dict[str, Callable[[Scenarios], str]] = {
    "500x64": one_channel("500x64", 500, 64),
    "5000x10": one_channel("5000x10", 5000, 10),
    "10000x5": policies,
    "224k": large_crowd,
    "filters": filters,
    "snapshot": snapshot,
}

if __name__ == "__main__":
    kit.main(main)

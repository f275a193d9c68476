"""What the backbone costs and what it spares: nodes that read Postgres beside gateways that read a Redis Stream, in turn.
How late a change is, how many go through, what Postgres pays for each node, what several gateways deliver, and how long they
are silent when the publisher goes."""

import argparse
import contextlib
import gc
import json
import os
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from harness import cluster as kit
from harness import report
from harness.bench import fanout, intake, latency, loads
from harness.redis import STREAM, Redis, version
from harness.websocket import Inbox

NODE, GATEWAY = "node on Postgres", "gateway"
KINDS = (NODE, GATEWAY)
LATENCY_RATE, LATENCY_SOCKETS = 200, 100
VISIT = """\\set n random(1, 1000000)
insert into public.visit (clinic_id, pet_name, reason, note, price, closed, seen_at) values (:n % 100, 'Luna ' || :n::int,
  'annual check and vaccination', 'no findings; weight stable since the last visit, next vaccination due in twelve months',
  :n / 100.0, false, clock_timestamp());
"""
LOADS = 4
WINDOW, ROWS = 32, 8
TAKE_OVER_RATE = 50  # rows a second
TAKE_OVER_WITHIN = 12  # seconds
ENDS = {
    "is told to end": signal.SIGTERM,
    "is killed": signal.SIGKILL,
    "is stopped, as a machine that is suspended": signal.SIGSTOP,
}
# seconds that those who follow are there longer than the one who publishes
LONGER = 3
# what a relay that sleeps holds: src/source/sleep.rs
ASLEEP = (
    "select count(*) from pg_locks where locktype = 'advisory' and classid = 1919907683 and objid = 2 "
    "and mode = 'ShareLock' and granted"
)
BACKENDS = "select pid from pg_stat_activity where application_name like 'rowcast %'"


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of 1, 2, 4 and 5 (default: 3)")
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement; in 3 twice as long (default: 5)")
    parser.add_argument(
        "--parts",
        type=int,
        nargs="+",
        choices=range(1, len(PARTS) + 1),
        default=range(1, len(PARTS) + 1),
        metavar="N",
        help="only these: 1 latency, 2 throughput, 3 cost to Postgres, 4 fan-out, 5 take-over",
    )
    parser.add_argument("--inserts", type=int, default=300, help="one at a time, in 1 (default: 300)")
    parser.add_argument("--rows", type=int, default=200_000, help="of the one statement in 2 (default: 200000)")
    parser.add_argument("--rate", type=int, default=300, help="transactions a second in 3 (default: 300)")
    parser.add_argument(
        "--nodes", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="in 3 (default: 1 2 4 8)"
    )
    parser.add_argument(
        "--gateways",
        type=int,
        nargs="+",
        choices=(1, 2, 4),
        default=[1, 2, 4],
        metavar="N",
        help="in 4 (default: 1 2 4)",
    )
    parser.add_argument("--sockets", type=int, default=2000, help="in 4, of all gateways together (default: 2000)")
    loads.add_argument(parser)
    parser.add_argument(
        "--quick", action="store_true", help="one round, 1 s each, less of everything: to see that it works"
    )
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        parser.set_defaults(rounds=1, seconds=1, inserts=50, rows=20_000, nodes=[1, 2], gateways=[1, 4], sockets=200)
        arguments = parser.parse_args()
    if 4 in arguments.parts:
        loads.check(arguments.load)

    redis = version()
    give_up_after(600 + 150 * arguments.rounds * arguments.seconds)
    gc.disable()  # no cycles are made here, and a collection in the middle would look like a slow delivery
    fanout.raise_file_limit()
    load = report.load_average()
    # each node has up to twelve sessions
    cluster = kit.Cluster(stack, arguments, autovacuum="off", max_connections="200")
    cluster.rowcast("migrate")
    cluster.psql(
        latency.TABLE,
        "select rowcast.watch('public.reading')",
        *intake.TABLE.split(";\n", 2),
        *(f"create table public.{name} ({fanout.COLUMNS})" for name in ("fan", "unwatched")),
        "select rowcast.watch('public.fan')",
    )
    bench = Bench(cluster, arguments)
    for number in sorted(set(arguments.parts)):
        print(f"{PARTS[number - 1](bench)}\n", flush=True)
    print(
        f"- {'Nothing was lost, repeated or out of order.' if not bench.faults else f'{bench.faults:,} FAULTS: see stderr.'} "
        "Nothing was pinned to a CPU. A gateway has a database too, and its publisher is another process."
    )
    print(f"- {redis}; appendonly yes, appendfsync everysec, no rewrite of the append-only file.")
    print(report.origin(cluster, load))
    return 1 if bench.faults else 0


class Bench:
    """What all parts have in common."""

    def __init__(self, cluster: kit.Cluster, arguments: argparse.Namespace) -> None:
        self.cluster, self.arguments = cluster, arguments
        self.faults = 0

    def rounds(self) -> Iterator[Any]:
        """(round, kind) in turn; nobody is always first."""
        for number in range(self.arguments.rounds):
            for kind in KINDS if number % 2 == 0 else reversed(KINDS):
                yield number, kind

    @contextlib.contextmanager
    def fleet(self, kind: Any, count: int = 1) -> Iterator[Any]:
        """Started anew, over an empty outbox and an empty Redis."""
        self.cluster.psql("truncate public.reading, public.visit, public.fan, public.unwatched")
        self.cluster.clear_outbox()
        self.cluster.psql("checkpoint")
        with contextlib.ExitStack() as stack:
            fleet = Fleet(stack, self.cluster, kind, count)
            yield fleet
            if warnings := fleet.warnings():
                kit.note(f"warning: rowcast logged:\n{warnings}")

    def note(self, number: int, what: str, kind: Any, figures: Any) -> None:
        shown = ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value:,}" for name, value in figures.items()
        )
        kit.note(f"round {number + 1}/{self.arguments.rounds}  {what}  {kind}: {shown}")


class Fleet:
    """Nodes of one kind, with what feeds them."""

    def __init__(self, stack: contextlib.ExitStack, cluster: kit.Cluster, kind: Any, count: int) -> None:
        self.cluster = cluster
        self.redis = self.publisher = None
        if kind == GATEWAY:
            self.redis = stack.enter_context(Redis(cluster))
            self.publisher = stack.enter_context(kit.Relay(cluster, "--publish", self.redis.url))
        self.nodes = [
            stack.enter_context(Gateway(cluster, self) if self.redis else kit.Relay(cluster)) for _ in range(count)
        ]
        self.relays = 1 if self.publisher else count

    def wait_until_asleep(self) -> None:
        """All who read the outbox."""
        deadline = time.monotonic() + 15
        while (asleep := self.asleep()) != self.relays:
            if time.monotonic() > deadline:
                raise kit.Failure(f"{asleep} of {self.relays} relays sleep although nothing is written")
            time.sleep(0.2)

    def asleep(self) -> int:
        """How many of those who read the outbox sleep."""
        return int(self.cluster.psql(ASLEEP))

    def warnings(self) -> str:
        """What its processes logged: they share a log, and the first one was there from the beginning. It found no stream
        yet, which was to be expected."""
        first = self.publisher or self.nodes[0]
        return "\n".join(line for line in first.warnings().splitlines() if '"event":"no_stream"' not in line)


class Gateway(kit.Relay):
    """A node that is fed by the stream; so how Postgres is read for it, its publisher knows."""

    def __init__(self, cluster: kit.Cluster, fleet: Any) -> None:
        super().__init__(cluster, "--subscribe", fleet.redis.url)
        self._fleet = fleet

    def source(self) -> dict[Any, Any]:
        mode = "asleep" if self._fleet.asleep() else "awake"
        return {**self._fleet.publisher.source(), "mode": mode}


class Use:
    """What a fleet uses from now on."""

    def __init__(self, fleet: Any) -> None:
        self._fleet = fleet
        self._backends, self._counts = self._look()

    def taken(self) -> Any:
        """Seconds of the clock, seconds of processor time, and how often."""
        backends, counts = self._look()
        gone = len(set(self._backends) - set(backends))
        found = {name: count - self._counts[name] for name, count in counts.items()}
        found["backends"] = sum(used - self._backends.get(pid, 0) for pid, used in backends.items())
        found["connections"] = len(backends)
        if gone:
            kit.note(f"warning: {gone} backends of rowcast ended meanwhile; their time is not in it")
        return found

    def _look(self) -> tuple[Any, ...]:
        fleet = self._fleet
        pids = fleet.cluster.psql(BACKENDS).split()
        backends = {pid: used for pid in pids if (used := kit.exact_seconds(pid)) is not None}
        counts = {"seconds": time.monotonic(), "nodes": sum(node.cpu_seconds() for node in fleet.nodes)}
        if fleet.redis:
            calls = fleet.redis.calls()
            counts |= {
                "redis": kit.exact_seconds(fleet.redis.pid),
                "publisher": fleet.publisher.cpu_seconds(),
                "commands": fleet.redis.commands(),
                "appends": calls.get("evalsha", 0) + calls.get("eval", 0),
                "stream reads": calls.get("xread", 0),
            }
        counts["reads"] = sum(
            node.source()["reads"] for node in ([fleet.publisher] if fleet.publisher else fleet.nodes)
        )
        return backends, counts


# 1. latency


def lateness(bench: Any) -> Any:
    """One insert at a time while the relay sleeps, and many under a rate, as benches/latency measures them."""
    sizes = argparse.Namespace(
        inserts=bench.arguments.inserts, rate=LATENCY_RATE, seconds=bench.arguments.seconds, sockets=LATENCY_SOCKETS
    )
    found: dict[Any, Any] = {}
    for number, kind in bench.rounds():
        with bench.fleet(kind) as fleet:
            node = fleet.nodes[0]
            for name, figures in [
                *latency.one_at_a_time(bench.cluster, node, sizes),
                *latency.at_a_rate(bench.cluster, node, sizes),
            ]:
                found.setdefault(name, {each: [] for each in KINDS})[kind].append(figures)
                bench.faults += figures.get("lost", 0) + figures.get("twice", 0)
                bench.note(number, name, kind, figures)
    rows = []
    for name, kinds in found.items():
        for share in ("p50", "p99"):
            values = {kind: [figures[share] for figures in kinds[kind]] for kind in KINDS}
            node, gateway = (statistics.median(values[kind]) for kind in KINDS)
            rows.append(
                [
                    f"{name}, {share}",
                    *(report.spread(values[kind], "{:.2f}".format) for kind in KINDS),
                    f"{gateway - node:+.2f}",
                    f"{gateway / node:.2f}" if node > 0 else "",
                ]
            )
    return (
        f"1. Latency in milliseconds: medians of {bench.arguments.rounds} rounds (least-greatest), each of {sizes.inserts:,} inserts, "
        f"and of {sizes.seconds} s.\n\n" + report.table(["", *KINDS, "Redis adds", "ratio"], rows)
    )


# 2. throughput


def throughput(bench: Any) -> Any:
    """From the outbox to one socket that reads along."""
    found: dict[Any, Any] = {}
    for name, write in (
        (f"one statement of {bench.arguments.rows:,} rows", one_statement),
        ("transactions of one row, 8 clients", many_clients),
    ):
        for number, kind in bench.rounds():
            with bench.fleet(kind) as fleet:
                figures = through(bench, fleet, write)
            found.setdefault(name, {each: [] for each in KINDS})[kind].append(figures)
            bench.note(number, name, kind, figures)
    example = bench.cluster.psql("select octet_length(row_to_json(v)::text) from public.visit v limit 1")

    def cell(kinds: Any, kind: Any, key: Any, form: Any) -> Any:
        values = [figures[key] for figures in kinds[kind] if key in figures]
        return report.spread(values, form.format) if values else ""

    def ratio(kinds: Any, key: Any) -> str:
        node, gateway = (statistics.median(figures[key] for figures in kinds[kind]) for kind in KINDS)
        return f"{gateway / node:.2f}"

    rates = report.table(
        [
            "changes/s to one socket",
            *KINDS,
            "ratio",
            "written/s",
            "beside the gateway",
            "last one: ms after the writer, node",
            "gateway",
        ],
        [
            [
                name,
                *(cell(kinds, kind, "changes/s", "{:,.0f}") for kind in KINDS),
                ratio(kinds, "changes/s"),
                *(cell(kinds, kind, "written/s", "{:,.0f}") for kind in KINDS),
                *(cell(kinds, kind, "ms behind", "{:.0f}") for kind in KINDS),
            ]
            for name, kinds in found.items()
        ],
    )
    parts = ("backends", "publisher", "redis", "nodes", "all")
    used = report.table(
        ["CPU s for 100,000 changes", "Postgres", "publisher", "Redis", "node or gateway", "together", "ratio"],
        [
            [
                f"{name}, {kind}",
                *(cell(kinds, kind, key, "{:.2f}") for key in parts),
                ratio(kinds, "all") if kind == GATEWAY else "",
            ]
            for name, kinds in found.items()
            for kind in KINDS
        ],
    )
    size = report.table(
        ["the stream", "changes an entry", "bytes a change", f"ratio to the row, {example} bytes of JSON"],
        [
            [
                name,
                cell(kinds, GATEWAY, "an entry", "{:.1f}"),
                cell(kinds, GATEWAY, "stream bytes", "{:.0f}"),
                f"{statistics.median(figures['stream bytes'] for figures in kinds[GATEWAY]) / int(example):.2f}",
            ]
            for name, kinds in found.items()
        ],
    )
    return (
        f"2. Throughput: medians of {bench.arguments.rounds} rounds (least-greatest). One statement: from its commit until the last one was "
        "read. Many transactions: from the writers' start.\n\n" + "\n\n".join((rates, used, size))
    )


def through(bench: Any, fleet: Any, write: Any) -> Any:
    """The figures of one run."""
    reader = intake.Reader(fleet.nodes[0])
    try:
        if not reader.is_ready.wait(10):
            raise kit.Failure("the socket was not told within 10 s that changes follow")
        stream = stream_size(fleet)
        use = Use(fleet)
        count, begun, ended, rate = write(bench)
        reader.finish(count)
        last = reader.last
        taken = use.taken()
    finally:
        reader.close()
    figures = {"changes/s": count / (last - begun), "ms behind": max(last - ended, 0) * 1000}
    if rate:
        figures["written/s"] = rate
    used = {key: taken[key] * 1e5 / count for key in ("backends", "publisher", "redis", "nodes") if key in taken}
    figures |= {**used, "all": sum(used.values())}
    if fleet.redis:
        more = stream_size(fleet)
        figures |= {"an entry": count / (more[0] - stream[0]), "stream bytes": (more[1] - stream[1]) / count}
    return figures


def stream_size(fleet: Any) -> tuple[Any, ...]:
    """Entries of the stream, and bytes that they take."""
    if not fleet.redis:
        return 0, 0
    return fleet.redis.command("XLEN", STREAM), fleet.redis.command("MEMORY", "USAGE", STREAM, "SAMPLES", 0) or 0


def one_statement(bench: Any) -> tuple[Any, ...]:
    """Nothing of it can be read before its commit, so there its way begins."""
    bench.cluster.psql(f"call public.many(1, {bench.arguments.rows})")
    committed = time.monotonic()
    return bench.arguments.rows, committed, committed, None


def many_clients(bench: Any) -> tuple[Any, ...]:
    """As fast as they can, beside what follows them."""
    script = bench.cluster.file("visit.sql", VISIT)
    begun = time.monotonic()
    text = bench.cluster.pgbench("-n", "-M", "prepared", "-c", 8, "-j", 2, "-T", bench.arguments.seconds, "-f", script)
    ended = time.monotonic()
    written = int(re.search(r"transactions actually processed: (\d+)", text)[1])
    return written, begun, ended, float(re.search(r"^tps = ([\d.]+)", text, re.M)[1])


# 3. cost to Postgres


def cost(bench: Any) -> Any:
    """More and more nodes beside the same writers, and beside none."""
    idle, busy = "idle", f"{bench.arguments.rate} transactions/s"
    found: dict[Any, Any] = {load: {} for load in (idle, busy)}
    for count in bench.arguments.nodes:
        for kind in KINDS:
            with bench.fleet(kind, count) as fleet:
                fleet.wait_until_asleep()
                time.sleep(1)
                found[idle][count, kind] = measured(bench, fleet)
                with writers(bench, bench.arguments.rate):
                    time.sleep(1)
                    found[busy][count, kind] = measured(bench, fleet)
            if (rows := found[busy][count, kind]["rows"]) < 0.9 * bench.arguments.rate:
                kit.note(f"warning: beside {count} × {kind} only {rows:.0f} transactions a second were written")
            for load in (idle, busy):
                kit.note(
                    f"{count} × {kind}, {load}: "
                    + ", ".join(f"{key} {value:.4g}" for key, value in found[load][count, kind].items())
                )

    def line(load: Any, count: int) -> str:
        return f"{load}, {count} node{'s' if count > 1 else ''}"

    def ratio(node: Any, gateway: Any) -> str:
        return f"{gateway['backends'] / node['backends']:.2f}" if node["backends"] > 0 else ""

    pairs = [
        (line(load, count), by[count, NODE], by[count, GATEWAY])
        for load, by in found.items()
        for count in bench.arguments.nodes
    ]
    postgres = report.table(
        [
            "Postgres",
            "cores for nodes",
            "reads/s",
            "sessions",
            "cores for gateways",
            "reads/s",
            "sessions",
            "ratio of cores",
        ],
        [
            [
                name,
                *(
                    f"{each[key]:{form}}"
                    for each in (node, gateway)
                    for key, form in (("backends", ".4f"), ("reads", ",.0f"), ("connections", "d"))
                ),
                ratio(node, gateway),
            ]
            for name, node, gateway in pairs
        ],
    )
    others = report.table(
        [
            "the others",
            "core of a node",
            "of a gateway",
            "ratio",
            "of the publisher",
            "of Redis",
            "Redis: commands/s",
            "appends/s",
            "reads/s",
        ],
        [
            [
                name,
                f"{node['node']:.3f}",
                f"{gateway['node']:.3f}",
                f"{gateway['node'] / node['node']:.2f}" if node["node"] else "",
                f"{gateway['publisher']:.3f}",
                f"{gateway['redis']:.4f}",
                *(f"{gateway[key]:,.0f}" for key in ("commands", "appends", "stream reads")),
            ]
            for name, node, gateway in pairs
        ],
    )
    text = (
        f"3. What nodes cost Postgres: {bench.arguments.seconds * 2} s each, one watched table is written, no sockets. Cores are seconds of processor "
        "time a second; of Postgres those of rowcast's sessions.\n\n" + "\n\n".join((postgres, others))
    )
    least, most = min(bench.arguments.nodes), max(bench.arguments.nodes)
    if least == most:
        return text

    def slope(kind: Any, key: Any) -> Any:
        return (found[busy][most, kind][key] - found[busy][least, kind][key]) / (most - least)

    redis = slope(GATEWAY, "redis")
    return (
        f"{text}\n\n- At {busy} each node more costs Postgres {slope(NODE, 'backends'):.4f} of a core, each gateway more {slope(GATEWAY, 'backends'):.4f}; "
        f"each gateway more costs Redis {redis:.4f}, the rest, of which most is the append, {found[busy][least, GATEWAY]['redis'] - least * redis:.4f}: "
        f"by {least} and {most}."
    )


def measured(bench: Any, fleet: Any) -> Any:
    """What a second costs."""
    rows = written(bench)
    use = Use(fleet)
    time.sleep(bench.arguments.seconds * 2)
    taken = use.taken()
    seconds = taken["seconds"]
    figures = {
        key: value if key == "connections" else value / seconds for key, value in taken.items() if key != "seconds"
    }
    figures["node"] = figures["nodes"] / len(fleet.nodes)
    figures["rows"] = (written(bench) - rows) / seconds
    return figures


def written(bench: Any) -> int:
    """Rows that were ever inserted."""
    return int(bench.cluster.psql("select last_value from rowcast.outbox_id"))


@contextlib.contextmanager
def writers(bench: Any, rate: Any, clients: int = 4) -> Iterator[Any]:
    """pgbench at its rate, until the end of the block."""
    script = bench.cluster.file("insert.sql", f"\\set n random(1, 1000000)\n{latency.INSERT.format(n=':n')}\n")
    with open(bench.cluster.dir / "pgbench.log", "w+b") as log:
        pgbench = subprocess.Popen(
            [
                bench.cluster.pgbench_program,
                "-n",
                "-M",
                "prepared",
                "-c",
                str(clients),
                "-j",
                "1",
                "-R",
                str(rate),
                "-T",
                "3600",
                "-f",
                script,
            ],
            env=bench.cluster.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield
            if pgbench.poll() is not None:
                raise kit.Failure(f"pgbench ended too early:\n{kit.tail(bench.cluster.dir / 'pgbench.log')}")
        finally:
            pgbench.kill()
            pgbench.wait()


# 4. fan-out


def fan_out(bench: Any) -> Any:
    """The same rows to the same sockets, on one node and on more and more gateways."""
    each = bench.arguments.sockets // LOADS
    variants = {
        f"1 {NODE}": (NODE, 1),
        **{f"{n} gateway{'s' if n > 1 else ''}": (GATEWAY, n) for n in bench.arguments.gateways},
    }
    found: dict[Any, Any] = {name: [] for name in variants}
    for number in range(bench.arguments.rounds):
        for name in variants if number % 2 == 0 else reversed(variants):
            kind, count = variants[name]
            with bench.fleet(kind, count) as fleet:
                figures = flat_out(bench, fleet, each)
            bench.faults += figures["faults"]
            bench.note(number, "fan-out", name, figures)
            found[name].append(figures)
    columns = {
        "deliveries/s": "{:,.0f}",
        "µs": "{:.2f}",
        "a read": "{:.1f}",
        "p99 ms": "{:.0f}",
        "publisher": "{:.0f}",
        "redis": "{:.0f}",
    }
    base = {key: statistics.median(figures[key] for figures in found[f"1 {NODE}"]) for key in ("deliveries/s", "µs")}
    rows = []
    for name, runs in found.items():
        row = [name]
        for key, form in columns.items():
            row.append(report.spread([run[key] for run in runs], form.format) if key in runs[0] else "")
            if key in base:
                row.append(f"{statistics.median(run[key] for run in runs) / base[key]:.2f}")
        rows.append(row)
    return (
        f"4. Fan-out, flat out: {each * LOADS:,} sockets in all, {WINDOW} rows under way, transactions of {ROWS}; medians of "
        f"{bench.arguments.rounds} rounds (least-greatest). All share the cores.\n\n"
        + report.table(
            [
                "",
                "deliveries/s",
                "ratio",
                "CPU µs a delivery, node or gateways",
                "ratio",
                "messages a read",
                "row → frame, p99 ms",
                "CPU µs a change, publisher",
                "Redis",
            ],
            rows,
        )
    )


def flat_out(bench: Any, fleet: Any, each: Any) -> dict[Any, Any]:
    """A load connects to one address, so there are several. The first one publishes, and its window is about its own
    sockets. The others follow: they check the same rows, publish a few of their own where nobody watches, and are
    there before it and after it."""
    seconds, own = bench.arguments.seconds, fanout.Rowcast.options
    follow = ["--table", "public.unwatched", "--publishers", 2, "--rate", 1, "--seconds", seconds + LONGER]
    publish = ["--table", "public.fan", "--publishers", 2, "--rows", ROWS, "--window", WINDOW, "--seconds", seconds]
    with loads.Several() as several:

        def start(number: int, options: Any) -> tuple[Any, Any]:
            node = fleet.nodes[number % len(fleet.nodes)]
            feed = ["--publish", "pg", "--dsn", bench.cluster.url, *options]
            words = loads.command(bench.arguments.load, "fanout", node, "/ws/fan", each, *own, *feed)
            return node, several.start(words)

        following = [start(number, follow) for number in range(1, LOADS)]
        wait_for_sockets(fleet, each * (LOADS - 1))
        use = Use(fleet)
        publisher = start(0, publish)
        published = loads.answer(publisher[1], seconds + 60)
        if any(load.poll() is not None for _, load in following):
            kit.note("warning: some of those who follow were gone before the last row")
        followed = [loads.answer(load, seconds + 60) for _, load in following]
        taken = use.taken()
    lines = [*followed, published]
    wrong = {key: sum(line[key] for line in lines) for key in ("repeated", "disordered", "misdirected", "ended")}
    wrong["lost"] = sum(published["published"] * each - line["deliveries"] for line in lines)
    if any(wrong.values()):
        kit.note(f"FAULTS: {wrong}")
    deliveries = sum(line["deliveries"] for line in lines)
    # the time of all loads holds the rows, and that of the others a little besides
    cpu = sum(
        min(line["cpu_seconds"] for (node, _), line in zip([*following, publisher], lines) if node is each_node)
        for each_node in fleet.nodes
    )
    figures = {
        "deliveries/s": deliveries / published["seconds"],
        "µs": cpu * 1e6 / deliveries,
        "a read": statistics.mean(line["messages_per_read"] for line in lines),
        "p99 ms": max(line["p99_ms"] for line in followed),
    }
    if fleet.redis:
        figures |= {key: taken[key] * 1e6 / published["published"] for key in ("publisher", "redis")}
    return {**figures, "faults": sum(wrong.values())}


def wait_for_sockets(fleet: Any, count: int) -> None:
    """Until so many are open."""
    deadline = time.monotonic() + 30
    while (is_open := sum(node.status()["connections"] for node in fleet.nodes)) < count:
        if time.monotonic() > deadline:
            raise kit.Failure(f"{is_open:,} of {count:,} sockets opened within 30 s")
        time.sleep(0.05)


# 5. take-over


def take_over(bench: Any) -> Any:
    """How long a gateway's socket hears nothing when the publisher goes and there is another candidate."""
    found: dict[Any, Any] = {name: [] for name in ENDS}
    for number in range(bench.arguments.rounds):
        for name, how in ENDS.items():
            with bench.fleet(GATEWAY) as fleet, kit.Relay(bench.cluster, "--publish", fleet.redis.url):
                figures = silence(bench, fleet, how)
            bench.faults += figures["faults"]
            bench.note(number, "take-over", name, figures)
            found[name].append(figures)
    rows = [
        [
            name,
            report.spread([run["silence s"] for run in runs], "{:.2f}".format),
            f"{sum(run['told source_down'] for run in runs)} of {len(runs)}",
        ]
        for name, runs in found.items()
    ]
    return (
        f"5. Take-over: {TAKE_OVER_RATE} single rows a second, two candidates, one socket of a gateway; medians of {bench.arguments.rounds} rounds "
        "(least-greatest).\n\n" + report.table(["the publisher", "longest silence, s", "told source_down"], rows)
    )


def silence(bench: Any, fleet: Any, how: Any) -> dict[Any, Any]:
    """The longest time between two rows on the socket."""
    inbox, stamps, ids, told = Inbox(), [], [], 0

    def collect(seconds: float) -> None:
        nonlocal told
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            inbox.collect(left)
            for _, stamp, text in inbox.messages():
                message = json.loads(text)
                told += message.get("code") == "source_down"
                if message["type"] == "realtime_update":
                    stamps.append(stamp)
                    ids.append(message["data"]["id"])

    try:
        latency.subscribe(inbox, fleet.nodes[0], 1)
        with writers(bench, TAKE_OVER_RATE, clients=1):
            collect(1)
            os.kill(fleet.publisher.pid, how)
            collect(TAKE_OVER_WITHIN)
        with contextlib.suppress(ProcessLookupError):
            os.kill(fleet.publisher.pid, signal.SIGCONT)
        collect(1)
    finally:
        inbox.close()
    faults = sum(later != earlier + 1 for earlier, later in zip(ids, ids[1:])) + (len(ids) < TAKE_OVER_RATE)
    longest = max((later - earlier for earlier, later in zip(stamps, stamps[1:])), default=0)
    return {"silence s": longest / 1e9, "told source_down": int(told > 0), "rows": len(ids), "faults": faults}


PARTS = (lateness, throughput, cost, fan_out, take_over)


def give_up_after(seconds: int) -> None:
    """Ends the run as a failure, with everything that it started."""

    def leave(_number: Any, _frame: Any) -> None:
        raise kit.Failure(f"it did not end within {seconds} s")

    signal.signal(signal.SIGALRM, leave)
    signal.alarm(seconds)


if __name__ == "__main__":
    kit.main(main)

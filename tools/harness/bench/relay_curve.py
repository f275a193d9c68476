"""What the relay costs, and how late a change is, beside single-row transactions at one rate after the other: from one a
second, where the relay sleeps, to more than the writers can do. Several programs are measured in turn."""

import argparse
import contextlib
import dataclasses
import gc
import math
import re
import subprocess
import threading
import time
from collections.abc import Iterator

from harness import cluster as kit
from harness import report
from harness.bench import latency
from harness.websocket import Inbox

RATES = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000]
SCRIPT = f"\\set n random(1, 1000000)\n{latency.INSERT.format(n=':n')}\n"
# pgbench connects, the relay wakes up: what happens in these seconds of a measurement does not count
WARM_UP = 1
# so many rows are waited for where few are written, but not longer than so many times --seconds
ROWS, LONGER = 20, 4
LOOK_EVERY = 0.25
# until the last frames are there, and pgbench has ended
PATIENCE = 30


def main(stack: contextlib.ExitStack) -> int:
    arguments = parsed()
    gc.disable()  # no cycles are made here, and a collection in the middle would look like a slow delivery
    load = report.load_average()
    # a cluster each: their schemas may differ
    sides = [
        Side(stack, arguments, program, f"{chr(ord('A') + number)}")
        for number, program in enumerate(arguments.rowcast or [kit.PROGRAM])
    ]
    found: dict[tuple[int, Side], list[Figures]] = {(rate, side): [] for rate in arguments.rates for side in sides}
    for number in range(arguments.rounds):
        for turn, rate in enumerate(arguments.rates):
            # one program after the other at each rate, so that they see the same machine; none is always first
            for side in sides if (number + turn) % 2 == 0 else sides[::-1]:
                figures = side.measure(rate, number, arguments)
                found[rate, side].append(figures)
                kit.note(f"round {number + 1}/{arguments.rounds}  {side.name}  {rate:6,}/s  {figures.line()}")
    print_results(found, arguments, load)
    return 1 if any(figures.lost or figures.twice for rounds in found.values() for figures in rounds) else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help=f"at each rate, or until {ROWS} rows (default: 5)")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, metavar="N", help="transactions a second")
    parser.add_argument("--clients", type=int, default=8, help="connections that write (default: 8)")
    parser.add_argument("--quick", action="store_true", help="one round, 1 s each: to see that it works")
    kit.add_arguments(parser, several=True)
    arguments = parser.parse_args()
    if arguments.quick:
        parser.set_defaults(rounds=1, seconds=1)
        arguments = parser.parse_args()
    return arguments


@dataclasses.dataclass
class Figures:
    """Of one program at one rate, in one round."""

    written: float  # a second, in the time that counts
    reads: float  # a second; so are the bells
    bells: float
    awake: float  # share of the looks
    shares: dict[str, float | None]  # of one core, by what uses it
    delays: list[float]  # row → frame, milliseconds, sorted
    writer: float  # milliseconds of a transaction, mean
    lost: int
    twice: int

    def line(self) -> str:
        """For a reader who waits."""
        delays = ", ".join(f"{name} {report.percentile(self.delays, share):.2f}" for name, share in SHARES.items())
        return f"{self.written:.0f} written, {self.reads:.0f} reads, {self.bells:.0f} bells a second, {delays} ms"


SHARES = {"p50": 0.5, "p99": 0.99}
CORES = ("relay's thread", "whole rowcast", "reading backend", "listening backend")


@dataclasses.dataclass(frozen=True)
class Look:
    """What was counted so far."""

    at: int  # nanoseconds since 1970
    reads: int
    bells: int
    cpu: dict[str, float | None]


class Side:
    """One program, with a Postgres of its own."""

    def __init__(self, stack: contextlib.ExitStack, arguments: argparse.Namespace, program: object, name: str) -> None:
        self.name, self.program = name, program
        own = argparse.Namespace(**{**vars(arguments), "rowcast": program})
        # a vacuum that happens to fall into one rate is noise
        self.cluster = kit.Cluster(stack, own, autovacuum="off")
        self.script = self.cluster.file("insert.sql", SCRIPT)
        self.cluster.rowcast("migrate")
        self.cluster.psql(latency.TABLE, "select rowcast.watch('public.reading')")

    def measure(self, rate: int, number: int, arguments: argparse.Namespace) -> Figures:
        """Starts rowcast, and beside it pgbench at the rate. All programs have the same times in a round."""
        seconds = max(arguments.seconds, min(ROWS / rate, LONGER * arguments.seconds))
        self.cluster.psql("truncate public.reading")
        self.cluster.clear_outbox()
        self.cluster.psql("checkpoint")
        with kit.Relay(self.cluster) as relay, contextlib.closing(Reader()) as reader:
            latency.subscribe(reader.inbox, relay, 1)
            relay.wait_until_asleep()
            backends = {f"{purpose}ing backend": relay.backend(purpose) for purpose in ("read", "listen")}
            # by the clock, whether or not the last ones were delivered; the times between two are random (Poisson)
            command = ["-n", "-M", "prepared", "-c", arguments.clients, "-j", 1, "-R", rate, "-f", self.script]
            command += ["-T", math.ceil(WARM_UP + seconds) + 1, "--random-seed", number * 100_000 + rate]
            with self.writers(command) as pgbench:
                reader.read_for(WARM_UP)
                with watched(relay) as modes:
                    before = look(relay, backends)
                    reader.read_for(seconds)
                    after = look(relay, backends)
                said = ended(pgbench, reader)
            ids = set(map(int, self.cluster.psql("select id from rowcast.outbox where op = 'I'").split()))
            reader.read_until(len(ids))
            if relay.warnings():
                kit.note(f"warning: rowcast logged:\n{relay.warnings()}")
        return taken(before, after, modes, reader, ids, said)

    @contextlib.contextmanager
    def writers(self, arguments: list[object]) -> Iterator[subprocess.Popen[str]]:
        """pgbench, until the end of the block at most."""
        pgbench = subprocess.Popen(
            [self.cluster.pgbench_program, *map(str, arguments)],
            env=self.cluster.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield pgbench
        finally:
            if pgbench.poll() is None:
                pgbench.kill()
            pgbench.wait()
            pgbench.stdout.close()


class Reader:
    """One socket, and what came: (the database's clock in the row, that of its frame, the change's id)."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.rows: list[tuple[int, int, int]] = []

    def close(self) -> None:
        self.inbox.close()

    def read_for(self, seconds: float) -> None:
        """Stamps frames; looks into them only while none is there to be stamped."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if not self.inbox.collect(0 if self.inbox.pending() else left):
                self.look(50)

    def read_until(self, rows: int) -> None:
        """Until so many were read, and a moment longer: one more would be one that came twice."""
        deadline = time.monotonic() + PATIENCE
        while len(self.rows) < rows and time.monotonic() < deadline:
            self.read_for(0.05)
            self.look()
        self.read_for(0.1)
        self.look()
        if self.inbox.sockets[0].closed:
            kit.note(f"warning: the socket was closed: {self.inbox.sockets[0].closed}")

    def look(self, limit: int | None = None) -> None:
        for _owner, stamp, message in latency.updates(self.inbox, limit):
            self.rows.append((round(message["data"]["sent"] * 1e6) * 1000, stamp, message["id"]))


def look(relay: kit.Relay, backends: dict[str, int]) -> Look:
    source = relay.source()
    cpu = {"relay's thread": kit.exact_seconds(relay.pid, "relay"), "whole rowcast": relay.cpu_seconds()}
    cpu |= {name: kit.exact_seconds(pid) for name, pid in backends.items()}
    return Look(time.time_ns(), source["reads"], source["bells"], cpu)


@contextlib.contextmanager
def watched(relay: kit.Relay) -> Iterator[list[str]]:
    """The relay's mode, asked for now and then until the end of the block, beside the reading of frames."""
    modes: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(LOOK_EVERY):
            modes.append(relay.source()["mode"])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield modes
    finally:
        over.set()
        asking.join()


def ended(pgbench: subprocess.Popen[str], reader: Reader) -> str:
    """What pgbench says at its end."""
    deadline = time.monotonic() + PATIENCE
    while pgbench.poll() is None:
        reader.read_for(0.05)
        if time.monotonic() > deadline:
            raise kit.Failure(f"pgbench did not end within {PATIENCE} s")
    text = pgbench.stdout.read()
    if pgbench.returncode != 0:
        raise kit.Failure(f"pgbench failed:\n{text.strip()}")
    return text


def taken(before: Look, after: Look, modes: list[str], reader: Reader, ids: set[int], said: str) -> Figures:
    """What happened between two looks; `ids` is what there is in the outbox."""
    seconds = (after.at - before.at) / 1e9
    counted = [(sent, stamp) for sent, stamp, _ in reader.rows if before.at <= sent < after.at]
    got = [number for _, _, number in reader.rows]

    def share(name: str) -> float | None:
        used = after.cpu[name], before.cpu[name]
        return None if None in used else (used[0] - used[1]) / seconds

    def milliseconds(what: str) -> float:
        found = re.search(rf"^{what}[^\d]* ([\d.]+)", said, re.M)
        return float(found[1]) if found else math.nan

    lost, twice = len(ids - set(got)), len(got) - len(set(got))
    if lost or twice:
        kit.note(f"FAULTS: {lost} lost, {twice} twice")
    return Figures(
        written=len(counted) / seconds,
        reads=(after.reads - before.reads) / seconds,
        bells=(after.bells - before.bells) / seconds,
        awake=modes.count("awake") / max(1, len(modes)),
        shares={name: share(name) for name in CORES},
        delays=sorted((stamp - sent) / 1e6 for sent, stamp in counted),
        # from when it was due; what it began late is not the database's time
        writer=milliseconds("latency average") - milliseconds("rate limit schedule lag: avg"),
        lost=lost,
        twice=twice,
    )


def print_results(found: dict[tuple[int, Side], list[Figures]], arguments: argparse.Namespace, load: float) -> None:
    sides = list(dict.fromkeys(side for _, side in found))

    def cell(values: list[float | None], form: str) -> str:
        known = [value for value in values if value is not None and not math.isnan(value)]
        return report.spread(known, form.format) if known else ""

    def row(rate: int, side: Side, rounds: list[Figures]) -> list[str]:
        return [
            f"{rate:,}",
            *([side.name] if len(sides) > 1 else []),
            cell([each.written for each in rounds], "{:,.1f}"),
            cell([each.reads for each in rounds], "{:,.1f}"),
            cell([each.bells for each in rounds], "{:,.1f}"),
            f"{sum(each.awake for each in rounds) / len(rounds):.0%}",
            *(cell([each.shares[name] for each in rounds], "{:.2%}") for name in CORES),
            *(cell([report.percentile(each.delays, share) for each in rounds], "{:.2f}") for share in SHARES.values()),
            cell([each.writer for each in rounds], "{:.2f}"),
        ]

    print(
        f"Single-row transactions from {arguments.clients} connections, times between two random (Poisson); one socket. Medians of "
        f"{arguments.rounds} rounds (least-greatest), each of {arguments.seconds:g} s or longer. Shares are of one core, times are "
        "milliseconds.\n"
    )
    head = ["wanted/s", *(["program"] if len(sides) > 1 else []), "written/s", "reads/s", "bells/s", "looks awake"]
    head += [*CORES, *(f"row → frame, {name}" for name in SHARES), "a transaction, mean"]
    print(report.table(head, (row(rate, side, rounds) for (rate, side), rounds in found.items())))
    print()
    if len(sides) > 1:
        for side in sides:
            print(f"- {side.name}: {side.program}")
    faults = sum(each.lost + each.twice for rounds in found.values() for each in rounds)
    print(f"- {f'{faults:,} FAULTS: see stderr.' if faults else 'Nothing was lost, and nothing came twice.'}")
    print(report.origin(sides[0].cluster, load))


if __name__ == "__main__":
    kit.main(main)

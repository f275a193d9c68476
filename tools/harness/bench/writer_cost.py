"""What capture costs the writer: the same table without a trigger, with the outbox alone, with a relay that is awake,
with nobody listening, with a NOTIFY at every change, and with a logical slot instead, side by side in one run."""

import argparse
import contextlib
import dataclasses
import os
import re
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness import report
from harness.bench.slot import Slot


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to have the table watched, or not."""

    name: str
    # what is configured; None: the table has no trigger
    notify: str | None = None
    # what reads along
    reader: type[kit.Relay | Slot] | None = None
    is_native: bool = False
    # the function of a row trigger that the table has instead of capture
    trigger: str | None = None
    wal_level: str = "replica"
    # its figures are ratios to this variant's
    base: str = "none"


VARIANTS = {
    "none": Variant("no trigger"),
    "outbox": Variant("outbox only", "never"),
    "awake": Variant("rowcast, relay awake", "row", kit.Relay),
    "asleep": Variant("rowcast, no relay or asleep", "row"),
    "notify": Variant("NOTIFY always", "always", kit.Relay),
    # what no capture in PL/pgSQL can be below
    "empty": Variant("an empty PL/pgSQL trigger", trigger="floor.do_nothing"),
    "least": Variant("the row as JSON into a table, nothing else", trigger="floor.keep"),
    # by the library of native/, where --native names its folder
    "native-outbox": Variant("native, outbox only", "never", is_native=True),
    "native-awake": Variant("native, relay awake", "row", kit.Relay, is_native=True),
    # a slot needs more in the WAL, which all writers of the server pay: it is a cluster of its own
    "logical": Variant("no trigger, wal_level = logical", wal_level="logical"),
    "slot": Variant("logical slot", None, Slot, wal_level="logical", base="logical"),
}
CHOICES = [name for name in VARIANTS if name not in ("none", "logical")]

# The least that a row trigger can be which keeps the row where a reader finds it by its transaction: no rights of its own,
# no id, no look at who writes, at what is muted, at how large the row is, at whether anybody has to be woken.
FLOOR = """create schema floor;
create table floor.kept (
  xid xid8 not null default pg_current_xact_id(), channel int not null, op "char" not null, old json, new json);
create index on floor.kept (xid);
create function floor.do_nothing() returns trigger language plpgsql as $$ begin return new; end $$;
create function floor.keep() returns trigger language plpgsql as $$ begin
  insert into floor.kept (channel, op, old, new) values (1, tg_op::"char", row_to_json(old.*), row_to_json(new.*));
  return new;
end $$"""

# 8 columns, a row of about 270 bytes as JSON
TABLE = """create table public.visit (
  id bigint generated always as identity primary key, clinic_id int not null, pet_name text not null, reason text,
  note text, price numeric(10,2), closed boolean not null, seen_at timestamptz not null)"""
COLUMNS = "clinic_id, pet_name, reason, note, price, closed, seen_at"
VALUES = (
    "{n} % 100, 'Luna ' || {n}, 'annual check and vaccination', "
    "'no findings; weight stable since the last visit, next vaccination due in twelve months', {n} / 100.0, false, clock_timestamp()"
)
UPDATE = "update public.visit set price = price + 1, closed = not closed"
ROWS = 10_000  # that single-row updates choose from

SCRIPTS = {
    "INSERT": f"\\set n random(1, 1000000)\ninsert into public.visit ({COLUMNS}) values ({VALUES.format(n=':n::int')});\n",
    "UPDATE": f"\\set n random(1, {ROWS})\n{UPDATE} where id = :n;\n",
}


# seconds that a run of pgbench takes besides, for a fresh table, a checkpoint and a relay; and those of one statement
BESIDES, STATEMENT = 1, 3
# sessions besides those that write: of rowcast, of the slot, and psql
SESSIONS = 28

# what is written, by how many clients; None: by one statement
Measure = tuple[str, int | None]


def main(stack: contextlib.ExitStack) -> int:
    arguments = parsed()
    chosen = variants(arguments)
    measures: list[Measure] = [(verb, clients) for clients in arguments.clients for verb in SCRIPTS]
    measures += [(verb, None) for verb in SCRIPTS]
    syncs = arguments.fsync or [None]
    kit.note(f"about {estimate(arguments, len(chosen)) / 60:.1f} minutes, on a machine that does nothing else")

    load = report.load_average()
    benches = {
        level: Bench(stack, arguments, level) for level in dict.fromkeys(VARIANTS[key].wal_level for key in chosen)
    }
    blocks = {sync: Block(chosen, measures) for sync in syncs}
    for round_number in range(arguments.rounds):
        for turn, measure in enumerate(measures):
            # all variants of a measure one after the other, so that they see the same machine; nobody is always first
            first = (round_number + turn) % len(chosen)
            for sync, block in blocks.items():
                for bench in benches.values():
                    bench.set_fsync(sync)
                for key in chosen[first:] + chosen[:first]:
                    figure = benches[VARIANTS[key].wal_level].measure(block, key, *measure)
                    block.figures[measure][key].append(figure)
                    kit.note(
                        f"round {round_number + 1}/{arguments.rounds}  {f'fsync {sync}  ' if sync else ''}"
                        f"{label(measure, arguments.rows):28}  {VARIANTS[key].name:32}  {figure:10.1f}"
                    )
    for sync, block in blocks.items():
        if sync:
            print(f"**fsync {sync}**\n")
        print_block(block, arguments)
    cluster = benches["replica"].cluster
    example = cluster.psql("select octet_length(row_to_json(v)::text) from public.visit v limit 1")
    print(f"- Table of 8 columns, a row is {example} bytes of JSON; every written row was found in the outbox.")
    print(report.origin(cluster, load, fsync=" and ".join(arguments.fsync or [])))
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="How long it takes: in each round, for each setting of fsync and each variant ('no trigger' is one, and a slot "
        f"brings another one), {len(SCRIPTS)} × (--seconds + {BESIDES}) s for each number of clients, and "
        f"{len(SCRIPTS) * STATEMENT} s for the statements. It prints that sum when it begins.",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", "-T", type=int, default=6, help="of each pgbench run (default: 6)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8], metavar="N", help="(default: 1 8)")
    parser.add_argument("--rows", type=int, default=100_000, help="written by the one statement (default: 100000)")
    parser.add_argument("--quick", action="store_true", help="one round, 2 s each, 20,000 rows: to see that it works")
    parser.add_argument(
        "--fsync",
        nargs="+",
        choices=("on", "off"),
        help="one, or both in turn, each with a table of its own (default: as Postgres is set, which is on)",
    )
    parser.add_argument("--native", type=Path, help="the folder of rowcast_capture.so, built for this Postgres")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=CHOICES,
        metavar="NAME",
        help=f"only these, beside no trigger: {', '.join(CHOICES)} (default: all; native ones with --native)",
    )
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        parser.set_defaults(rounds=1, seconds=2, rows=20_000)
        arguments = parser.parse_args()
    return arguments


def variants(arguments: argparse.Namespace) -> list[str]:
    """Those that are measured, each with what it is a ratio to."""
    wanted = arguments.variants or [key for key in CHOICES if arguments.native or not VARIANTS[key].is_native]
    if any(VARIANTS[key].is_native for key in wanted) and not arguments.native:
        raise kit.Failure("native variants need --native FOLDER; scripts/build-native prints it")
    return [
        key
        for key in VARIANTS
        if key == "none" or key in wanted or any(VARIANTS[other].base == key for other in wanted)
    ]


def estimate(arguments: argparse.Namespace, count: int) -> float:
    """Seconds that a run takes."""
    of_each = len(arguments.clients) * (arguments.seconds + BESIDES) + STATEMENT
    return arguments.rounds * len(arguments.fsync or [None]) * count * len(SCRIPTS) * of_each


class Block:
    """What was found under one setting of fsync."""

    def __init__(self, chosen: list[str], measures: list[Measure]) -> None:
        self.figures: dict[Measure, dict[str, list[float]]] = {
            measure: {key: [] for key in chosen} for measure in measures
        }
        # what a relay said in the middle of a run of pgbench
        self.modes: dict[str, list[str]] = {}
        # of one core, by variant and process
        self.shares: dict[str, dict[str, list[float]]] = {}
        # seconds until a slot had decoded what pgbench wrote
        self.behind: list[float] = []


class Bench:
    """The table in a cluster of one wal_level, one variant at a time."""

    def __init__(self, stack: contextlib.ExitStack, arguments: argparse.Namespace, wal_level: str) -> None:
        # a vacuum that happens to fall into one variant's run is noise
        settings = {"autovacuum": "off", "max_connections": str(max(60, max(arguments.clients) + SESSIONS))}
        if wal_level != "replica":
            settings["wal_level"] = wal_level
        if arguments.native:
            settings["dynamic_library_path"] = f"{arguments.native.resolve()}:$libdir"
        self.has_native = bool(arguments.native)
        self.cluster = kit.Cluster(stack, arguments, **settings)
        self.seconds, self.rows = arguments.seconds, arguments.rows
        self.scripts = {verb: self.cluster.file(f"{verb.lower()}.sql", text) for verb, text in SCRIPTS.items()}
        self.fsync: str | None = None
        self.cluster.rowcast("migrate")
        self.cluster.psql(TABLE, FLOOR)

    def set_fsync(self, fsync: str | None) -> None:
        if fsync != self.fsync:
            self.cluster.change("fsync", fsync)
            # what was written without fsync is on its way to the disk still
            os.sync()
            self.fsync = fsync

    def measure(self, block: Block, key: str, verb: str, clients: int | None) -> float:
        """Transactions a second of `clients`, or (None) milliseconds of one statement."""
        variant = VARIANTS[key]
        if self.has_native:
            self.cluster.psql(f"select rowcast.configure('capture', '{'native' if variant.is_native else 'plpgsql'}')")
        self.prepare(variant, 0 if verb == "INSERT" else ROWS if clients else self.rows)
        if not variant.reader:
            written, figure = self.write(block, key, verb, clients, None)
        elif variant.reader is Slot:
            with Slot(self.cluster, "public.visit") as slot:
                written, figure = self.write(block, key, verb, clients, slot)
                behind = slot.wait_until_decoded(written if clients else 1, written * self.row_size())
                if clients:
                    block.behind.append(behind)
        else:
            with kit.Relay(self.cluster) as relay:
                written, figure = self.write(block, key, verb, clients, relay)
                if relay.warnings():
                    kit.note(f"warning: rowcast logged:\n{relay.warnings()}")
        kept = "select (select count(*) from rowcast.outbox where op in ('I', 'U')) + (select count(*) from floor.kept)"
        captured = int(self.cluster.psql(kept))
        if captured != (written if variant.notify or variant.trigger == "floor.keep" else 0):
            raise kit.Failure(f"{variant.name}: {written} rows were written and {captured} captured")
        return figure

    def prepare(self, variant: Variant, rows: int) -> None:
        """A fresh table of so many rows, an empty outbox, and the triggers."""
        self.cluster.psql(
            "select rowcast.unwatch('public.visit')",
            "drop trigger if exists floor on public.visit",
            "truncate public.visit, floor.kept restart identity",
            f"insert into public.visit ({COLUMNS}) select {VALUES.format(n='i')} from generate_series(1, {rows}) i",
            "vacuum analyze public.visit",
        )
        if variant.notify:
            notify = f"select rowcast.configure('notify', '{variant.notify}')"
            self.cluster.psql(notify, "select rowcast.watch('public.visit')")
        if variant.trigger:
            self.cluster.psql(
                f"create trigger floor after insert or update or delete on public.visit for each row execute function {variant.trigger}()"
            )
        self.cluster.clear_outbox()
        self.cluster.psql("checkpoint")

    def row_size(self) -> int:
        """Bytes of the smallest row."""
        return int(self.cluster.psql("select min(pg_column_size(v.*)) from public.visit v"))

    def write(
        self, block: Block, key: str, verb: str, clients: int | None, reader: kit.Relay | Slot | None
    ) -> tuple[int, float]:
        """How many rows were written, and the figure."""
        if clients:
            return self.many_transactions(block, key, verb, clients, reader)
        return self.rows, self.one_statement(verb)

    def many_transactions(
        self, block: Block, key: str, verb: str, clients: int, reader: kit.Relay | Slot | None
    ) -> tuple[int, float]:
        looks = threading.Thread(target=self.look, args=(block, key, reader))
        if isinstance(reader, kit.Relay):
            looks.start()
        processes = readers(reader)
        began, used = time.monotonic(), {name: kit.cpu_seconds(pid) for name, pid in processes.items()}
        text = self.cluster.pgbench(
            "-n", "-M", "prepared", "-c", clients, "-j", min(clients, 2), "-T", self.seconds, "-f", self.scripts[verb]
        )
        for name, pid in processes.items():
            if used[name] is not None:
                if (now := kit.cpu_seconds(pid)) is None:
                    raise kit.Failure(f"{VARIANTS[key].name}: {name} has ended while pgbench wrote")
                share = (now - used[name]) / (time.monotonic() - began)
                block.shares.setdefault(key, {}).setdefault(name, []).append(share)
        if isinstance(reader, kit.Relay):
            looks.join()
        written = int(re.search(r"transactions actually processed: (\d+)", text)[1])
        return written, float(re.search(r"^tps = ([\d.]+)", text, re.M)[1])

    def look(self, block: Block, key: str, relay: kit.Relay) -> None:
        """Whether the relay was awake: asked in the middle of the run."""
        time.sleep(self.seconds / 2)
        block.modes.setdefault(key, []).append(relay.source()["mode"])

    def one_statement(self, verb: str) -> float:
        statement = UPDATE
        if verb == "INSERT":
            statement = f"insert into public.visit ({COLUMNS}) select {VALUES.format(n='i')} from generate_series(1, {self.rows}) i"
        text = self.cluster.psql("\\timing on", statement)
        return float(re.search(r"^Time: ([\d.]+) ms", text, re.M)[1])


def readers(reader: kit.Relay | Slot | None) -> dict[str, int]:
    """The processes that read what is written."""
    if isinstance(reader, kit.Relay):
        return {"rowcast serve": reader.pid, "its reading backend": reader.backend("read")}
    return {"pg_recvlogical": reader.pid, "its walsender": reader.backend} if reader else {}


def label(measure: Measure, rows: int) -> str:
    verb, clients = measure
    if clients is None:
        return f"{verb} of {rows:,} rows"
    return f"{verb}, {clients} client{'s' if clients > 1 else ''}"


def print_block(block: Block, arguments: argparse.Namespace) -> None:
    singles = [measure for measure in block.figures if measure[1]]
    wholes = [measure for measure in block.figures if not measure[1]]

    def throughput(base: list[float], own: list[float]) -> str:
        return report.spread([b / a for a, b in zip(base, own)], "{:.2f}".format)

    def statement(base: list[float], own: list[float]) -> str:
        more = statistics.median((b - a) * 1000 / arguments.rows for a, b in zip(base, own))
        return f"{throughput(base, own)}, {more:+.1f} µs"

    def rows(measures: list[Measure], unit: str, cell: Any) -> list[list[str]]:
        figures = [block.figures[measure] for measure in measures]
        lines = [[f"{VARIANTS['none'].name}, {unit}", *(report.spread(of["none"], "{:.0f}".format) for of in figures)]]
        for key in figures[0]:
            variant = VARIANTS[key]
            if key != "none":
                name = variant.name if variant.base == "none" else f"{variant.name}, ratio to the line above"
                lines.append([name, *(cell(of[variant.base], of[key]) for of in figures)])
        return lines

    print(
        f"Throughput of single-row transactions, as a ratio to no trigger (1 = capture costs nothing). Median of {arguments.rounds} rounds (least-greatest).\n"
    )
    print(report.table(["", *(label(m, arguments.rows) for m in singles)], rows(singles, "transactions/s", throughput)))
    print("\nTime of one statement, as a ratio to no trigger, and microseconds a row more.\n")
    print(report.table(["", *(label(m, arguments.rows) for m in wholes)], rows(wholes, "ms", statement)))
    print()
    if block.modes:
        awake = "; ".join(
            f"{VARIANTS[key].name}: {modes.count('awake')} of {len(modes)}" for key, modes in block.modes.items()
        )
        print(f"- Looks in the middle of a pgbench run that found the relay awake: {awake}.")
    if block.shares:
        shares = "; ".join(
            f"{VARIANTS[key].name}: "
            + ", ".join(f"{name} {report.spread(used, '{:.0%}'.format)}" for name, used in of_each.items())
            for key, of_each in block.shares.items()
        )
        print(f"- Of one core, those who read took in those runs: {shares}.")
    if block.behind:
        behind = report.spread(block.behind, "{:.2f}".format)
        print(f"- The slot had decoded every transaction so many seconds after the last one of pgbench: {behind}.")
    print()


if __name__ == "__main__":
    kit.main(main)

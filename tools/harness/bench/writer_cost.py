"""What capture costs the writer: the same table without a trigger, with the outbox alone, with a relay that is awake,
with nobody listening, and with a NOTIFY at every change, side by side in one run."""

import argparse
import contextlib
import re
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness import report

NONE = "no trigger"
# what is configured, and whether `rowcast serve` runs
VARIANTS = {
    NONE: (None, False),
    "outbox only": ("never", False),
    "rowcast, relay awake": ("row", True),
    "rowcast, no relay or asleep": ("row", False),
    "NOTIFY always": ("always", True),
}
# the same by the library of native/, where --native names its folder
NATIVE = {"native, outbox only": ("never", False), "native, relay awake": ("row", True)}

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


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", "-T", type=int, default=6, help="of each pgbench run (default: 6)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rows", type=int, default=100_000, help="written by the one statement (default: 100000)")
    parser.add_argument("--quick", action="store_true", help="one round, 2 s each, 20,000 rows: to see that it works")
    parser.add_argument("--native", type=Path, help="the folder of rowcast_capture.so, built for this Postgres")
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.native:
        VARIANTS.update(NATIVE)
    if arguments.quick:
        parser.set_defaults(rounds=1, seconds=2, rows=20_000)
        arguments = parser.parse_args()

    load = report.load_average()
    # a vacuum that happens to fall into one variant's run is noise
    settings = {"autovacuum": "off"}
    if arguments.native:
        settings["dynamic_library_path"] = f"{arguments.native.resolve()}:$libdir"
    bench = Bench(kit.Cluster(stack, arguments, **settings), arguments.seconds, arguments.rows)
    measures = [(verb, clients) for clients in arguments.clients for verb in SCRIPTS] + [
        (verb, None) for verb in SCRIPTS
    ]
    found: dict[Any, Any] = {measure: {variant: [] for variant in VARIANTS} for measure in measures}
    for round_number in range(arguments.rounds):
        for turn, measure in enumerate(measures):
            # all variants of a measure one after the other, so that they see the same machine; nobody is always first
            names = list(VARIANTS)
            first = (round_number + turn) % len(names)
            for variant in names[first:] + names[:first]:
                figure = bench.measure(variant, *measure)
                found[measure][variant].append(figure)
                kit.note(
                    f"round {round_number + 1}/{arguments.rounds}  {label(measure, arguments.rows):28}  {variant:28}  {figure:10.1f}"
                )
    print_results(bench, found, arguments, load)
    return 0


class Bench:
    """The table, one variant at a time."""

    def __init__(self, cluster: kit.Cluster, seconds: float, rows: Any) -> None:
        self.cluster, self.seconds, self.rows = cluster, seconds, rows
        self.scripts = {verb: cluster.file(f"{verb.lower()}.sql", text) for verb, text in SCRIPTS.items()}
        self.modes: dict[Any, Any] = {variant: [] for variant in VARIANTS}
        self.relay_share: dict[Any, Any] = {variant: [] for variant in VARIANTS}
        cluster.rowcast("migrate")
        cluster.psql(TABLE)

    def measure(self, variant: str, verb: str, clients: Any) -> Any:
        """Transactions a second of `clients`, or (None) milliseconds of one statement."""
        notify, with_relay = VARIANTS[variant]
        if VARIANTS.keys() >= NATIVE.keys():
            code = "native" if variant in NATIVE else "plpgsql"
            self.cluster.psql(f"select rowcast.configure('capture', '{code}')")
        self.prepare(notify, 0 if verb == "INSERT" else ROWS if clients else self.rows)
        if not with_relay:
            return self.write(variant, verb, clients)
        with kit.Relay(self.cluster) as relay:
            figure = self.write(variant, verb, clients, relay)
            if relay.warnings():
                kit.note(f"warning: rowcast logged:\n{relay.warnings()}")
            return figure

    def prepare(self, notify: Any, rows: Any) -> None:
        """A fresh table of so many rows, an empty outbox, and the triggers."""
        self.cluster.psql(
            "select rowcast.unwatch('public.visit')",
            "truncate public.visit restart identity",
            f"insert into public.visit ({COLUMNS}) select {VALUES.format(n='i')} from generate_series(1, {rows}) i",
            "vacuum analyze public.visit",
        )
        if notify:
            self.cluster.psql(f"select rowcast.configure('notify', '{notify}')", "select rowcast.watch('public.visit')")
        self.cluster.clear_outbox()
        self.cluster.psql("checkpoint")

    def write(self, variant: str, verb: str, clients: Any, relay: kit.Relay | None = None) -> Any:
        if clients:
            written, figure = self.many_transactions(variant, verb, clients, relay)
        else:
            written, figure = self.rows, self.one_statement(verb)
        captured = int(self.cluster.psql("select count(*) from rowcast.outbox where op in ('I', 'U')"))
        if captured != (0 if variant == NONE else written):
            raise kit.Failure(f"{variant}: {written} rows were written and {captured} captured")
        return figure

    def many_transactions(self, variant: str, verb: str, clients: Any, relay: kit.Relay) -> tuple[Any, ...]:
        looks = threading.Thread(target=self.look, args=(variant, relay))
        if relay:
            looks.start()
            began, used = time.monotonic(), relay.cpu_seconds()
        text = self.cluster.pgbench(
            "-n", "-M", "prepared", "-c", clients, "-j", min(clients, 2), "-T", self.seconds, "-f", self.scripts[verb]
        )
        if relay:
            if used is not None:
                self.relay_share[variant].append((relay.cpu_seconds() - used) / (time.monotonic() - began))
            looks.join()
        written = int(re.search(r"transactions actually processed: (\d+)", text)[1])
        return written, float(re.search(r"^tps = ([\d.]+)", text, re.M)[1])

    def look(self, variant: str, relay: kit.Relay) -> None:
        """Whether the relay was awake: asked in the middle of the run."""
        time.sleep(self.seconds / 2)
        self.modes[variant].append(relay.status()["source"]["mode"])

    def one_statement(self, verb: str) -> float:
        statement = UPDATE
        if verb == "INSERT":
            statement = f"insert into public.visit ({COLUMNS}) select {VALUES.format(n='i')} from generate_series(1, {self.rows}) i"
        text = self.cluster.psql("\\timing on", statement)
        return float(re.search(r"^Time: ([\d.]+) ms", text, re.M)[1])


def label(measure: Any, rows: Any) -> str:
    verb, clients = measure
    if clients is None:
        return f"{verb} of {rows:,} rows"
    return f"{verb}, {clients} client{'s' if clients > 1 else ''}"


def print_results(bench: Any, found: Any, arguments: argparse.Namespace, load: Any) -> None:
    singles = [measure for measure in found if measure[1]]
    wholes = [measure for measure in found if not measure[1]]

    def row(variant: str, measures: Any, cell: Any) -> list[Any]:
        return [variant, *(cell(found[measure][NONE], found[measure][variant]) for measure in measures)]

    def throughput(base: Any, own: Any) -> Any:
        return report.spread([b / a for a, b in zip(base, own)], "{:.2f}".format)

    def statement(base: Any, own: Any) -> str:
        more = statistics.median((b - a) * 1000 / arguments.rows for a, b in zip(base, own))
        return f"{report.spread([b / a for a, b in zip(base, own)], '{:.2f}'.format)}, {more:+.1f} µs"

    others = [variant for variant in VARIANTS if variant != NONE]
    example = bench.cluster.psql("select octet_length(row_to_json(v)::text) from public.visit v limit 1")
    print(
        f"Throughput of single-row transactions, as a ratio to no trigger (1 = capture costs nothing). Median of {arguments.rounds} rounds (least-greatest).\n"
    )
    print(
        report.table(
            ["", *(label(m, arguments.rows) for m in singles)],
            [
                [f"{NONE}, transactions/s", *(report.spread(found[m][NONE], "{:.0f}".format) for m in singles)],
                *(row(v, singles, throughput) for v in others),
            ],
        )
    )
    print("\nTime of one statement, as a ratio to no trigger, and microseconds a row more.\n")
    print(
        report.table(
            ["", *(label(m, arguments.rows) for m in wholes)],
            [
                [f"{NONE}, ms", *(report.spread(found[m][NONE], "{:.0f}".format) for m in wholes)],
                *(row(v, wholes, statement) for v in others),
            ],
        )
    )
    awake = "; ".join(
        f"{variant}: {modes.count('awake')} of {len(modes)}" for variant, modes in bench.modes.items() if modes
    )
    print(f"\n- Table of 8 columns, a row is {example} bytes of JSON; every written row was found in the outbox.")
    print(f"- Looks in the middle of a pgbench run that found the relay awake: {awake}.")
    shares = "; ".join(
        f"{variant}: {report.spread(used, '{:.0%}'.format)}" for variant, used in bench.relay_share.items() if used
    )
    if shares:
        print(f"- Of one core, rowcast serve took in those runs (without its Postgres backend): {shares}.")
    print(report.origin(bench.cluster, load))


if __name__ == "__main__":
    kit.main(main)

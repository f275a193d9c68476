"""What the writers write: random transactions as SQL scripts for psql, all from the random generator that they are given.

Owns the shape of the load and the threads that carry it; knows nothing of who listens. A script may fail: a lost
serialization, a deadlock, a lock that was not to be had, a server that goes down. What committed is asked of the
database, never of the writer.
"""

import contextlib
import random
import re
import subprocess
import threading
from collections import Counter
from typing import Any

from harness import cluster as kit

from .tables import ACCOUNTS, HOT_ROWS, OTHER_COUNTERS, REGIONS

NOTES = (
    "'short'",
    "null",
    "'O''Brien \\ \"quoted\"'",
    "'Zürich – 猫 😀'",
    r"e'two\nlines\tand a tab'",
    r"'no escape: \u0000'",
    "repeat('wide ', 400)",
    "repeat('wider than a bell may be ', 500)",
)
NOTE_WEIGHTS = (40, 10, 10, 10, 10, 10, 9, 1)


# One change of one or a few rows ---------------------------------------------------------------------------------


def bump(rng: random.Random) -> str:
    """A counter, the first ones far more often than the last."""
    return f"update counters set v = v + 1 where k = {int(HOT_ROWS * rng.random() ** 3)};"


def bump_some(rng: random.Random) -> str:
    first = rng.randrange(HOT_ROWS)
    return f"update counters set v = v + 1 where k between {first} and {first + rng.randrange(1, 4)};"


def bump_or_make(rng: random.Random) -> str:
    return f"insert into counters values ({rng.choice(OTHER_COUNTERS)}, 1) on conflict (k) do update set v = counters.v + 1;"


def change_nothing(rng: random.Random) -> str:
    """Is no change, and must not be sent as one."""
    return f"update counters set v = v where k = {rng.randrange(HOT_ROWS)};"


def add_items(rng: random.Random) -> str:
    rows = ", ".join(f"({rng.randrange(50)}, {note(rng)}, 1)" for _ in range(rng.choice((1, 1, 1, 2, 5))))
    return f"insert into items (owner, note, n) values {rows};"


def edit_items(rng: random.Random) -> str:
    return (
        f"update items set n = n + 1, note = {note(rng)} where id in ({some('items', rng, rng.choice((1, 1, 2, 4)))});"
    )


def remove_items(rng: random.Random) -> str:
    return f"delete from items where id in ({some('items', rng, rng.choice((1, 1, 2)))});"


def add_part(rng: random.Random) -> str:
    return f"insert into parts (region, note, n) values ('{rng.choice(REGIONS)}', {note(rng)}, 1);"


def edit_parts(rng: random.Random) -> str:
    return f"update parts set n = n + 1, note = {note(rng)} where id in ({some('parts', rng, rng.choice((1, 2)))});"


def edit_partition(rng: random.Random) -> str:
    """Written straight into a partition."""
    return f"update parts_north set n = n + 1 where id in ({some('parts_north', rng, 1)});"


def move_parts(rng: random.Random) -> str:
    """To another partition, or within the default one, or nowhere, as it happens."""
    return f"update parts set n = n + 1, region = '{rng.choice(REGIONS)}' where id in ({some('parts', rng, rng.choice((1, 1, 3)))});"


def remove_part(rng: random.Random) -> str:
    return f"delete from parts where id in ({some('parts', rng, 1)});"


def speak(rng: random.Random) -> Any:
    return rng.choice(
        (
            "insert into whispers (silent, n) values (false, 1);",
            f"update whispers set n = n + 1 where id in ({some('whispers', rng, 1)}) and not silent;",
        )
    )


CHANGES = (
    bump,
    bump,
    bump_some,
    bump_or_make,
    change_nothing,
    add_items,
    add_items,
    edit_items,
    edit_items,
    remove_items,
    add_part,
    edit_parts,
    edit_partition,
    move_parts,
    move_parts,
    remove_part,
    speak,
)


def note(rng: random.Random) -> Any:
    return rng.choices(NOTES, NOTE_WEIGHTS)[0]


def some(table: Any, rng: random.Random, count: int) -> str:
    """Ids from a random place on. The fraction comes from the seed, not from the server's random()."""
    return f"select id from {table} where id >= (select (max(id) * {rng.random():.6f})::int from {table}) order by id limit {count}"


def change(rng: random.Random) -> Any:
    return rng.choice(CHANGES)(rng)


# Transactions ----------------------------------------------------------------------------------------------------


def several(rng: random.Random) -> Any:
    return transaction(changes(rng, 2, 5))


def given_up(rng: random.Random) -> Any:
    return transaction(changes(rng, 1, 4), end="rollback")


def partly_given_up(rng: random.Random) -> Any:
    return transaction(
        [
            *changes(rng, 0, 2),
            "savepoint here;",
            *changes(rng, 1, 3),
            "rollback to here;",
            *changes(rng, 0, 2),
            "savepoint there;",
            change(rng),
            "release there;",
        ]
    )


def repeatable_read(rng: random.Random) -> Any:
    return transaction(
        ["select sum(v) from counters;", *changes(rng, 1, 4)], begin="begin isolation level repeatable read"
    )


def serializable(rng: random.Random) -> Any:
    return transaction(["select count(*) from items;", *changes(rng, 1, 3)], begin="begin isolation level serializable")


def muted(rng: random.Random) -> Any:
    """What is written under rowcast.mute must never arrive; what its transaction writes besides must."""
    silent = [
        "set local rowcast.mute = on;",
        "insert into whispers (silent, n) values (true, 1), (true, 1);",
        f"update whispers set n = n + 1 where silent and id in ({some('whispers', rng, 2)});",
        f"delete from whispers where silent and id in ({some('whispers', rng, 1)});",
        "set local rowcast.mute = off;",
    ]
    return transaction([*changes(rng, 0, 1), *silent, speak(rng)])


def long(rng: random.Random) -> Any:
    """Open for seconds. Mostly without a hot row, which would hold up everybody else."""
    hot = [bump(rng)] if rng.random() < 0.2 else []
    return transaction(
        [
            add_items(rng),
            add_part(rng),
            *hot,
            f"select pg_sleep({rng.uniform(1, 3):.2f});",
            add_items(rng),
            edit_items(rng),
        ],
        end="rollback" if rng.random() < 0.2 else "commit",
    )


def bulk(rng: random.Random) -> Any:
    count, words = (
        rng.randrange(500, 3000),
        rng.choice(("'one of many'", "repeat('wide ', 60)", "repeat('wide ', 400)")),
    )
    return rng.choice(
        (
            f"insert into items (owner, note, n) select i % 50, {words}, 1 from generate_series(1, {count}) i;",
            f"update items set n = n + 1 where id in ({some('items', rng, count)});",
            f"update parts set n = n + 1, region = '{rng.choice(REGIONS)}' where id in ({some('parts', rng, count // 10)});",
            # deletes more than the rest adds: the tables stay small
            f"delete from items where id in ({some('items', rng, 2 * count)});",
            f"delete from parts where id in ({some('parts', rng, count // 5)});",
        )
    )


def book(rng: random.Random) -> Any:
    """Entries of an account and its total: they agree after the transaction, and in the middle of it they do not."""
    account, count = rng.randrange(ACCOUNTS), rng.choices((1, 2, 10, 50, 1500), (30, 30, 20, 10, 1))[0]
    oldest = f"select id from entries where account = {account} order by id limit"
    return transaction(
        [
            f"select from totals where account = {account} for update;",
            rng.choice(
                (
                    f"insert into entries (account, amount, n) select {account}, i, 1 from generate_series(1, {count}) i;",
                    f"update entries set amount = amount + 1, n = n + 1 where id in ({oldest} {count});",
                    f"update entries set amount = amount - 3, n = n + 1 where id in ({oldest} {count});",
                    # deletes more than the rest adds: the table stays small
                    f"delete from entries where id in ({oldest} {2 * count});",
                )
            ),
            f"""update totals set n = n + 1, total = (select coalesce(sum(amount), 0) from entries where account = {account})
             where account = {account};""",
        ],
        end="rollback" if rng.random() < 0.1 else "commit",
    )


def empty(rng: random.Random) -> Any:
    """TRUNCATE waits for everybody and everybody for it, so it is to have its lock at once or not at all."""
    around = (changes(rng, 0, 1), [add_items(rng), add_items(rng)]) if rng.random() < 0.5 else ([], [])
    return transaction([*around[0], "set local lock_timeout = '300ms';", "truncate items;", *around[1]])


def two_phase(rng: random.Random) -> Any:
    """Prepared, left alone for a while, and then ended."""
    name = f"soak {rng.getrandbits(48):x}"
    return transaction(changes(rng, 1, 3), end=f"prepare transaction '{name}'") + (
        f"select pg_sleep({rng.uniform(0, 0.5):.2f});\n{rng.choice(('commit', 'commit', 'rollback'))} prepared '{name}';\n"
    )


def changes(rng: random.Random, least: Any, most: Any) -> list[Any]:
    return [change(rng) for _ in range(rng.randint(least, most))]


def transaction(statements: Any, begin: str = "begin", end: str = "commit") -> str:
    return "\n".join([f"{begin};", *statements, f"{end};\n"])


# Writers ---------------------------------------------------------------------------------------------------------

# how many, seconds between two of their transactions on average, what they run
CREW = (
    (5, 0.015, CHANGES),
    (3, 0.03, (several, several, given_up, partly_given_up, repeatable_read, serializable, muted)),
    (1, 0.5, (long,)),
    (1, 3, (bulk,)),
    (1, 8, (empty,)),
    (2, 0.05, (book,)),
)
TWO_PHASE_CREW = (2, 0.2, (two_phase,))

# What may go wrong while everybody writes the same rows and servers go down; anything else is a mistake in this file.
EXPECTED_ERRORS = {
    "40001": "serialization failure",
    "40P01": "deadlock",
    "55P03": "lock timeout",
    "57014": "statement timeout",
    "25P02": "statement in a failed transaction",
    "3B001": "savepoint of a failed transaction",
    "42704": "no such prepared transaction",
    "57P01": "server goes down",
    "55000": "prepared transaction just being ended",
}
# A prepared transaction outlives its writer and the server, and keeps its locks.
SESSION = """set statement_timeout = '10s';
set lock_timeout = '3s';
select format('commit prepared %L', gid) from pg_prepared_xacts \\gexec
"""


class Crew:
    """All writers. They begin with `start`, and end after their current transaction once `leave` was called."""

    def __init__(
        self, stack: contextlib.ExitStack, cluster: kit.Cluster, seed: int, with_two_phase: bool, crew: Any = CREW
    ) -> None:
        self._log = cluster.dir / "writers.log"
        self._leave = threading.Event()
        kinds = [*crew, TWO_PHASE_CREW] if with_two_phase else crew
        self._writers = [
            Writer(cluster, random.Random(f"{seed}/writer/{kind}/{number}"), pause, scripts, self._log, self._leave)
            for kind, (count, pause, scripts) in enumerate(kinds)
            for number in range(count)
        ]
        stack.callback(self.abandon)

    def start(self) -> None:
        for writer in self._writers:
            writer.start()

    def leave(self) -> None:
        self._leave.set()

    def at_work(self) -> bool:
        return any(writer.is_alive() for writer in self._writers)

    def abandon(self) -> None:
        """Ends those that are still at work, in the middle of what they do."""
        self._leave.set()
        for writer in self._writers:
            writer.end_session()

    def transactions(self) -> Any:
        """How many scripts ran to their end, whatever it was."""
        return sum(writer.done for writer in self._writers)

    def errors(self) -> tuple[Any, ...]:
        """Counts of the errors that were to be expected, and of others by their SQLSTATE."""
        found = Counter(re.findall(r"ERROR:  (\w{5})", self._log.read_text(encoding="utf-8", errors="replace")))
        return (
            {name: found[state] for state, name in EXPECTED_ERRORS.items() if found[state]},
            {state: count for state, count in found.items() if state not in EXPECTED_ERRORS},
        )


class Writer(threading.Thread):
    """One psql that is held open and fed; a new one where the server has gone down."""

    def __init__(
        self, cluster: kit.Cluster, rng: random.Random, pause: Any, scripts: Any, log: Any, leave: Any
    ) -> None:
        super().__init__(daemon=True)
        self.done = 0
        self._cluster, self._rng, self._pause, self._scripts = cluster, rng, pause, scripts
        self._log, self._leave = log, leave
        self._psql: Any = None

    def run(self) -> None:
        while not self._leave.wait(self._rng.expovariate(1 / self._pause)):
            script = self._rng.choice(self._scripts)(self._rng)
            try:
                self._send(script)
                self.done += 1
            except (OSError, ValueError):  # psql has ended, or its pipes were closed under us
                self.end_session()
                self._leave.wait(0.2)
        self.end_session()

    def _send(self, script: Any) -> None:
        if self._psql is None:
            with open(self._log, "ab") as log:
                self._psql = subprocess.Popen(
                    [self._cluster.psql_program, "-X", "-q", "-A", "-t", "-v", "VERBOSITY=sqlstate"],
                    env=self._cluster.env,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
            script = SESSION + script
        self._psql.stdin.write(f"{script}\n\\echo done\n".encode())
        self._psql.stdin.flush()
        while (line := self._psql.stdout.readline()) != b"done\n":
            if not line:
                raise ConnectionError("psql has ended")

    def end_session(self) -> None:
        psql, self._psql = self._psql, None
        if psql:
            psql.kill()
            psql.wait()
            for pipe in (psql.stdin, psql.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()


def end_prepared(cluster: kit.Cluster) -> None:
    """Commits what was prepared and left alone."""
    for name in cluster.psql("select gid from pg_prepared_xacts").splitlines():
        cluster.psql(f"commit prepared '{name}'")


def open_transactions(cluster: kit.Cluster) -> int:
    """How many transactions may still commit something."""
    return int(
        cluster.psql("""select (select count(*) from pg_prepared_xacts)
        + (select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
            and backend_type = 'client backend' and application_name not like 'rowcast%' and state <> 'idle')""")
    )

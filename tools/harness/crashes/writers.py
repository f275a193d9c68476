"""What is written: short bursts of pgbench over the table `counters`, whose rows count their own updates.

Owns the table, the shape of the load, and pgbench's processes. A burst may end in any way, also with its server.
"""

import contextlib
import random
import signal
import subprocess
from typing import Any

from harness import cluster as kit

from .server import wait_until

CLIENTS = 3
HOT_ROWS = 40
LARGE = 2_500  # rows of a transaction that is read in several parts

TABLE = (
    "create table counters (k int primary key, v bigint not null)",
    f"insert into counters select k, 1 from generate_series(0, {HOT_ROWS - 1}) k",
    f"insert into counters select k, 1 from generate_series(100, {99 + CLIENTS}) k",
    f"insert into counters select k, 1 from generate_series(10000, {9_999 + LARGE}) k",
    "insert into counters values (-1, 1)",
    "select rowcast.watch('public.counters')",
)

# weight, script. Rows are locked in ascending order, so that nobody ends in a deadlock
SCRIPTS = (
    (
        12,
        f"""\\set k random_exponential(0, {HOT_ROWS - 1}, 3.0)
             update counters set v = v + 1 where k = :k;""",
    ),
    (
        4,
        f"""\\set a random(0, {HOT_ROWS // 2 - 1})
            \\set b random({HOT_ROWS // 2}, {HOT_ROWS - 1})
            begin;
            update counters set v = v + 1 where k = :a;
            update counters set v = v + 1 where k = :b;
            commit;""",
    ),
    (
        2,
        """\\set k random(1000, 1200)
           insert into counters values (:k, 1) on conflict (k) do update set v = counters.v + 1;""",
    ),
    (
        2,
        f"""\\set k random(0, {HOT_ROWS - 1})
            begin;
            update counters set v = v + 1 where k = :k;
            rollback;""",
    ),
    (
        1,
        f"""\\set k random(0, {HOT_ROWS - 1})
            begin;
            savepoint here;
            update counters set v = v + 1000 where k = :k;
            rollback to here;
            update counters set v = v + 1 where k = :k;
            commit;""",
    ),
    # open for a while, on a row of its own: transactions that began later are seen first
    (
        2,
        """begin;
           update counters set v = v + 1 where k = 100 + :client_id;
           \\sleep 20 ms
           update counters set v = v + 1 where k = 100 + :client_id;
           commit;""",
    ),
    (1, "select pg_current_xact_id();"),  # takes an id and changes nothing
)


class Writers:
    """The writers of a cluster. At most one burst at a time."""

    def __init__(self, stack: contextlib.ExitStack, server: Any) -> None:
        self._server = server
        self._env = {**server.env, "PGAPPNAME": "writer"}
        self._command = [server.pgbench_program, "-n", "-c", CLIENTS]
        for number, (weight, script) in enumerate(SCRIPTS):
            self._command += ["-f", f"{server.file(f'script-{number}.sql', script)}@{weight}"]
        self._pgbench: Any = None
        stack.callback(self.stop)

    def begin(self, rng: random.Random, rate: Any = None) -> None:
        """They write until they are ended, `rate` transactions a second, or as many as they can."""
        rate = ["-R", rate] if rate else []
        command = [*self._command, *rate, "-T", 60, f"--random-seed={rng.getrandbits(31)}"]
        self._pgbench = subprocess.Popen(
            [str(part) for part in command],
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def end(self) -> None:
        """They stop. Returns when nothing of theirs can commit any more."""
        self.stop()
        wait_until(
            lambda: self._server.psql("select count(*) from pg_stat_activity where application_name = 'writer'") == "0",
            "the end of the writers",
        )

    def stop(self) -> None:
        """pgbench ends at once; where the server went down, that is all there is to end."""
        pgbench, self._pgbench = self._pgbench, None
        if pgbench and pgbench.poll() is None:
            pgbench.send_signal(signal.SIGKILL)
        if pgbench:
            pgbench.wait()

    def write(self, rng: random.Random, transactions: Any) -> None:
        """So many transactions; returns when they are done."""
        kit.run(
            [*self._command, "-t", -(-transactions // CLIENTS), f"--random-seed={rng.getrandbits(31)}"],
            env=self._env,
            timeout=60,
        )

    def write_much(self) -> None:
        """One large transaction."""
        self._server.psql("update counters set v = v + 1 where k >= 10000")

    def write_last(self) -> int:
        """The last change of a round, after the writers' end; its id."""
        return int(
            self._server.psql(
                "update counters set v = v + 1 where k = -1",
                "select max(id) from rowcast.outbox where new->>'k' = '-1'",
            )
        )

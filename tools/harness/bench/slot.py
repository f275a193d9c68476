"""A logical slot whose changes are taken and thrown away: what an application has instead of a trigger. Owns the
publication, the slot and pg_recvlogical; knows nothing of what is written."""

import signal
import subprocess
import time
from typing import Any, Self

from harness import cluster as kit

# of the publication and of the slot
NAME = "bench"
# pgoutput, which comes with Postgres and is what publications, Debezium and others read
OPTIONS = ("proto_version=1", f"publication_names={NAME}")


class Slot:
    """`pg_recvlogical --start -f /dev/null` at a slot that begins now; both are gone at the end of the block."""

    def __init__(self, cluster: kit.Cluster, table: str) -> None:
        self._cluster = cluster
        self._log = cluster.dir / "pg_recvlogical.log"
        program = cluster.client("pg_recvlogical")
        cluster.psql(
            f"create publication {NAME} for table {table}",
            f"select from pg_create_logical_replication_slot('{NAME}', 'pgoutput')",
        )
        command = [program, "--no-loop", "-d", kit.DATABASE, "-S", NAME, "--start", "-f", "/dev/null"]
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [*command, *(word for option in OPTIONS for word in ("-o", option))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=cluster.env,
                start_new_session=True,
            )
        self.pid = self._process.pid
        try:
            self.backend = int(self._wait_for("active_pid", "pg_replication_slots", lambda pid: pid != "", 15))
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        kit.stop(self._process, signal.SIGINT, "pg_recvlogical", 10)
        # its backend may still be about to notice
        self._wait_for("active", "pg_replication_slots", lambda active: active == "f", 10, is_over=True)
        self._cluster.psql(f"select pg_drop_replication_slot('{NAME}')", f"drop publication {NAME}")

    def wait_until_decoded(self, transactions: int, size: int) -> float:
        """Until Postgres has decoded so many transactions of so many bytes for the slot, or more; seconds that it took. A
        slot that does not come to it is a failure."""
        began = time.monotonic()

        def are_there(found: str) -> bool:
            decoded, decoded_size = map(int, found.split("|"))
            return decoded >= transactions and decoded_size >= size

        self._wait_for("total_txns, total_bytes", "pg_stat_replication_slots", are_there, 60)
        return time.monotonic() - began

    def _wait_for(self, columns: str, view: str, is_so: Any, seconds: float, is_over: bool = False) -> str:
        """What the view says of the slot once it is so."""
        deadline = time.monotonic() + seconds
        while not is_so(found := self._cluster.psql(f"select {columns} from {view} where slot_name = '{NAME}'")):
            if time.monotonic() > deadline:
                raise kit.Failure(f"the slot: {columns} of {view} is still {found!r} after {seconds} s")
            if self._process.poll() is not None and not is_over:
                raise kit.Failure(f"pg_recvlogical has ended:\n{kit.tail(self._log)}")
            time.sleep(0.02)
        return found

"""PgBouncer in transaction mode between the application and Postgres: every transaction of every client is told, with the
actor that it has set itself.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from harness import cluster as kit

from .stage import Database, Stage, Wrong, expect
from .tools import installed

PORT = 6432
WRITES = """\\set n random(1, 1000000000)
begin;
select set_config('rowcast.actor', 'client :client_id', true);
insert into pets values (:n, :client_id, ':client_id') on conflict do nothing;
update pets set weight = weight + 1 where id = :n;
commit;
"""


def run(stage: Stage, stack: ExitStack) -> str:
    """The machine."""
    if not os.access("/usr/sbin/pgbouncer", os.X_OK):
        installed("pgbouncer")
    database = stage.database(stack, "pooled")
    database.sql("create table pets (id int primary key, weight int, name text)")
    database.install("select rowcast.watch('pets')")
    database.serve()
    database.follow("pets", "pets")
    bouncer(stage, stack, database)
    script = stage.cluster.file(
        "pooled.sql",
        WRITES.replace("':client_id'", "'pgbench'").replace("'client :client_id'", "'client ' || :client_id"),
    )
    database.tool(
        [stage.cluster.pgbench_program, "-n", "-c", "16", "-t", "40", "-M", "simple", "-f", script],
        env={"PGPORT": str(PORT)},
    )
    if int(database.sql("select count(distinct backend) from seen_backend")) > 4:
        raise Wrong("the pooler has pooled nothing")
    count = database.told("pets", "pets")
    wrong = database.sql(
        "select count(*) from rowcast.outbox where actor is distinct from 'client ' || (new ->> 'weight')::int and op = 'I'"
    )
    expect("0", wrong, "changes with another client's actor")
    return f"{count} transactions of 16 clients over 4 sessions, each with its own actor"


def bouncer(stage: Stage, stack: ExitStack, database: Database) -> None:
    """PgBouncer, until the machine ends."""
    # which sessions of Postgres write: a trigger of the test, which a pooler of sessions would fill with 16
    database.script(
        "create table seen_backend (backend int primary key);\n"
        "create function see() returns trigger language plpgsql as $$ begin insert into seen_backend values "
        "(pg_backend_pid()) on conflict do nothing; return new; end $$;\n"
        "create trigger see before insert on pets for each row execute function see();"
    )
    users = stage.cluster.file("users.txt", f'"{kit.USER}" ""\n')
    settings = stage.cluster.file(
        "pgbouncer.ini",
        f"[databases]\n* = host={stage.directory} port=5432\n[pgbouncer]\nlisten_port = {PORT}\nlisten_addr =\nunix_socket_dir = {stage.directory}\n"
        f"auth_type = trust\nauth_file = {users}\npool_mode = transaction\ndefault_pool_size = 4\n",
    )
    log = stack.enter_context(open(stage.directory / "pgbouncer.log", "ab"))  # noqa: SIM115  the stack closes it
    process = subprocess.Popen(["/usr/sbin/pgbouncer", settings], stdout=log, stderr=log, **stage.cluster._as_server)
    stack.callback(process.wait, 20)
    stack.callback(process.terminate)
    deadline = time.monotonic() + 15
    while not Path(stage.directory / f".s.PGSQL.{PORT}").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Wrong(f"pgbouncer does not start: {kit.tail(stage.directory / 'pgbouncer.log')}")
        time.sleep(0.05)

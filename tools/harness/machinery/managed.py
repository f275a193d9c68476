"""A server as the clouds give it: the installer is no superuser, may create roles, and owns the database. On a Postgres
18 of its own, where a role that creates another one administers it.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import subprocess
from contextlib import ExitStack

from harness import cluster as kit

from .guides import block
from .stage import Database, Stage, Wrong, expect
from .tools import postgres_14_and_18
from .upgrade import Server

OWNER = "cloud"


def run(stage: Stage, stack: ExitStack) -> str:
    """The machine."""
    place = stage.directory / "managed"
    subprocess.run(["install", "-d", "-o", stage.directory.owner(), place], check=True)
    server = Server(stage, stack, postgres_14_and_18()[1], "managed-data", place)
    server.start()
    superuser = Database(stage, stack, "postgres", str(kit.USER), place)
    superuser.sql(f"create role {OWNER} login createrole createdb", f"create database shop owner {OWNER}")
    database = Database(stage, stack, "shop", OWNER, place)
    psql = [stage.cluster.psql_program, "-Xq", "-v", "ON_ERROR_STOP=1", "-c"]
    database.tool(
        [*psql, "create table public.pets (id int primary key, name text); insert into pets values (1, 'Luna')"]
    )
    database.installer = OWNER
    said = database.typed(block("managed-servers.md", "sh"))
    if "fail" in said:
        raise Wrong(f"rowcast doctor finds: {said}")
    database.serve()
    database.follow("pets", "pets")
    database.tool([*psql, "insert into pets values (2, 'Rex'); update pets set name = 'Nala' where id = 1"])
    count = database.told("pets", "pets")
    assert database.audience is not None
    database.audience.close()
    database.stop()
    database.typed("rowcast uninstall --yes")
    expect("0", superuser.sql("select count(*) from pg_roles where rolname like 'rowcast%'"), "roles that are left")
    return f"installed, served and uninstalled by an owner with CREATEROLE; {count} rows told"

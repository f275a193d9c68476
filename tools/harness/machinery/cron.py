"""pg_cron: its worker prunes the outbox, and a job of the application is told like any writer."""

# mypy: allow-untyped-calls
from __future__ import annotations

import time
from contextlib import ExitStack

from harness import cluster as kit
from harness.repository import ROOT

from .guides import block
from .stage import Stage, Wrong, expect
from .tools import installed

A_MINUTE = 62  # seconds: a job begins at a full one
WITHIN = 3 * A_MINUTE


def fetch() -> None:
    """Its library, which has to be there before the server starts."""
    found = kit.output([ROOT / "scripts/find-postgres"]).strip()
    major = kit.output([f"{found}/postgres", "--version"]).split()[2].split(".")[0]
    installed(f"postgresql-{major}-cron")


def run(stage: Stage, stack: ExitStack) -> str:
    """The machine."""
    database = stage.database(stack, "cron")
    database.sql(
        "create extension pg_cron", "create table pets (id int generated always as identity primary key, name text)"
    )
    database.install("select rowcast.watch('pets')")
    database.serve()
    database.follow("pets", "pets")
    database.script(block("dumps-and-upgrades.md", "sql", "cron.schedule"))
    database.sql("select cron.schedule('* * * * *', $$insert into pets (name) values ('by a job')$$)")
    began = told = time.monotonic()
    while database.sql("select count(distinct jobid) from cron.job_run_details where status = 'succeeded'") != "2":
        now = time.monotonic()
        if now > began + WITHIN:
            jobs = database.sql("select command, status, return_message from cron.job_run_details")
            launcher = database.sql(
                "select datname, state, wait_event, query from pg_stat_activity where backend_type ~ 'cron'"
            )
            raise Wrong(f"the jobs: {jobs}; the launcher: {launcher}; {kit.tail(stage.directory / 'postgres.log')}")
        if now > told + A_MINUTE:
            # a launcher that was just reading its jobs when these came has not heard of them
            told = now
            database.sql("select cron.alter_job(jobid, schedule => schedule) from cron.job")
        time.sleep(0.5)
    database.sql("select cron.unschedule(jobid) from cron.job")
    count = database.told("pets", "pets")
    if count < 1:
        raise Wrong("the job has written nothing")
    expect("", database.drifts(), "drifts")
    return f"rowcast.prune() by pg_cron; {count} rows of a job told"

"""Runs the machines, some at once, and reports each."""

# mypy: allow-untyped-calls
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from harness import cluster as kit

from . import alembic, cron, django, dumps, managed, node, pooler, rails, repack, strangers, upgrade
from .audience import Unequal
from .stage import Stage, Wrong
from .tools import Missing

Machine = Callable[[Stage, ExitStack], str]
AT_ONCE = 4  # they wait most of the time: DDL is noticed each ten seconds, a job of pg_cron begins at a full minute
# The longest first: the others go beside it.
MACHINES: dict[str, Machine] = {
    "prisma": node.prisma,
    "django": django.run,
    "oscar": strangers.MACHINES["oscar"],
    "zabbix": strangers.MACHINES["zabbix"],
    "alembic": alembic.run,
    "rails": rails.run,
    **strangers.MACHINES,
    "pg_upgrade": upgrade.run,
    "drizzle": node.drizzle,
    "knex": node.knex,
    "dumps": dumps.run,
    "managed": managed.run,
    "pg_repack": repack.run,
    "pgbouncer": pooler.run,
    "pg_cron": cron.run,
}
# Prisma's engine is tried in WebAssembly, which takes minutes.
ASKED_FOR = {"prisma"}


def main() -> None:
    """Entry point."""
    kit.main(machinery)


def machinery(stack: ExitStack) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="tests/machinery/run", description=__doc__)
    parser.add_argument(
        "--only",
        default=",".join(name for name in MACHINES if name not in ASKED_FOR),
        metavar="NAME,…",
        help="these machines (default: all but prisma)",
    )
    parser.add_argument("--trace", action="store_true", help="show where a failure came from")
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := [name for name in chosen if name not in MACHINES]:
        parser.error(f"--only: there is no {', '.join(unknown)}; there are {', '.join(MACHINES)}")
    preload = ""
    problem = ""
    if "pg_cron" in chosen:
        try:
            cron.fetch()
            preload = "pg_cron"
        except Missing as missing:
            problem = str(missing)
    stage = Stage(stack, arguments, preload)
    failed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in pool.map(lambda name: one(stage, name, arguments.trace, problem), chosen):
            failed += done
    return 1 if failed else 0


def one(stage: Stage, name: str, trace: bool, problem: str) -> int:
    """Runs a machine and prints its line; 1 where it failed."""
    began = time.monotonic()
    try:
        if name == "pg_cron" and problem:
            raise Missing(problem)
        with ExitStack() as stack:
            said = MACHINES[name](stage, stack)
    except Missing as missing:
        fails = os.environ.get("CI") == "true"
        print(f"{'WRONG  ' if fails else 'skipped'} {name}: {missing}", flush=True)
        return int(fails)
    except (Wrong, Unequal, kit.Failure, OSError, subprocess.TimeoutExpired, TimeoutError) as failure:
        print(f"WRONG   {name}: {failure or type(failure).__name__}", flush=True)
        if trace:
            traceback.print_exc(file=sys.stdout)
        return 1
    print(f"ok      {name} ({time.monotonic() - began:.1f} s): {said}", flush=True)
    return 0


if __name__ == "__main__":
    main()

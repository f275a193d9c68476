"""Makes foreign databases at random and lets rowcast follow them: any encoding, settings, names, types, triggers, rules and
roles, written to by random transactions with DDL in the middle. Each round has a twin database without rowcast, on which
the same statements run; in the end every subscriber must have what the tables hold, no statement may have failed or
waited on account of rowcast, and nothing that is excluded may have been told.

A round is drawn from its seed and number alone: --seed and --first replay it. What is found is made smaller as long as it
still happens, and printed with the statements that are left. Exit code 1 on any finding. Standard library only.

Owns the loop and the report. The parts lie beside it; a private Postgres and the WebSocket client are
harness.cluster and harness.websocket.
"""

import argparse
import os
import secrets
import time
from collections import Counter
from contextlib import ExitStack
from typing import Any

from harness import cluster as kit
from harness import report

from . import story
from .kinds import KINDS, OFF_BY_DEFAULT
from .round import Round
from .shrink import Shrinker
from .stage import Stage

ERA = 400  # rounds of one cluster: what a round leaves behind is not to slow down the thousandth


def main(stack: ExitStack) -> int:
    listed = "\n".join(
        f"  {kind:17} {what}{' (off unless --with)' if kind in OFF_BY_DEFAULT else ''}" for kind, what in KINDS.items()
    )
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"kinds:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60, help="how long rounds are begun (default: 60)")
    parser.add_argument("--rounds", type=int, help="how many, instead")
    parser.add_argument("--seed", type=int, help="replays the rounds (default: a random one)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first round (default: 0)")
    parser.add_argument("--turns", type=int, default=24, help="most transactions of a round (default: 24)")
    parser.add_argument("--without", default="", metavar="KIND,…", help="leave these kinds out")
    parser.add_argument("--with", dest="also", default="", metavar="KIND,…", help="also those that are off by default")
    parser.add_argument("--only", default="", metavar="KIND,…", help="these kinds in every round, and no other")
    parser.add_argument(
        "--all", action="store_true", help="every kind in every round, instead of a random part of them"
    )
    parser.add_argument(
        "--shrink",
        type=int,
        default=3,
        metavar="N",
        help="make the first N findings of a signature smaller (default: 3)",
    )
    parser.add_argument("--keep-going", action="store_true", help="do not end at the twentieth finding")
    parser.add_argument(
        "--postgres",
        metavar="BIN_DIR",
        help="the programs of Postgres (default: those that scripts/find-postgres finds)",
    )
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.postgres:
        os.environ["ROWCAST_PG_BIN"] = arguments.postgres
    seed = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
    without = frozenset(filter(None, arguments.without.split(","))) | (
        set(OFF_BY_DEFAULT) - set(arguments.also.split(","))
    )
    if unknown := without - KINDS.keys():
        parser.error(f"--without: there is no kind {', '.join(sorted(unknown))}")
    if arguments.only:
        only = frozenset(arguments.only.split(","))
        if unknown := only - KINDS.keys():
            parser.error(f"--only: there is no kind {', '.join(sorted(unknown))}")
        without, arguments.all = frozenset(KINDS) - only, True
    print(f"seed {seed}", flush=True)
    return search(stack, arguments, seed, without)


def search(stack: ExitStack, arguments: argparse.Namespace, seed: int, without: Any) -> int:
    """The rounds, one after the other; the exit code."""
    stage = Stage(stack, arguments, two_phase=seed % 2 == 0)
    shrinker = Shrinker(stage)
    signatures: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    found = 0
    began, number, run_number = time.monotonic(), arguments.first, 0
    while (
        (number - arguments.first < arguments.rounds)
        if arguments.rounds
        else time.monotonic() - began < arguments.seconds
    ):
        plan = story.draw(seed, number, without, arguments.turns, arguments.all)
        run_number += 1
        run = Round(stage, plan, 1_000_000 + run_number)
        findings = run.run()
        totals.update(run.counts)
        totals["messages"] += run.audience.messages if run.audience else 0
        for finding in findings[:1]:
            found += 1
            signatures[finding.signature] += 1
            again = [
                f"--seed {seed} --first {number} --rounds 1 --turns {arguments.turns}",
                *(
                    f"--{name} {value}"
                    for name, value in (
                        ("without", arguments.without),
                        ("with", arguments.also),
                        ("only", arguments.only),
                    )
                    if value
                ),
                *(["--all"] if arguments.all and not arguments.only else []),
            ]
            print(
                f"\nFINDING {found}: {finding.signature}\n  replay: tests/foreign {' '.join(again)}\n  seen: {finding.seen}",
                flush=True,
            )
            if signatures[finding.signature] <= arguments.shrink:
                shrinker.shrink(plan, finding)
        number += 1
        if (number - arguments.first) % 50 == 0:
            kit.note(
                f"{number - arguments.first} rounds, {time.monotonic() - began:.0f} s, {found} findings: {dict(signatures)}"
            )
        if found >= 20 and not arguments.keep_going:
            break
    rounds = number - arguments.first
    rows = [
        ("rounds", rounds),
        ("seconds", int(time.monotonic() - began)),
        *sorted(totals.items()),
        ("findings", found),
        *((f"… {name}", count) for name, count in signatures.most_common()),
    ]
    print(report.table(["", "count"], [(name, f"{count:,}") for name, count in rows]))
    print(f"\n{'Nothing is wrong.' if not found else f'{found} FINDINGS.'}")
    return 1 if found else 0


if __name__ == "__main__":
    kit.main(main)

"""Plays every case against a program: a line for each, then a summary. Exit code 1 where one failed."""

import argparse
import asyncio
import sys
from fnmatch import fnmatch

from . import cases as _cases  # noqa: F401  they register themselves
from .trial import CASES, Case, Verdict, judge


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/conformance/run", description=__doc__)
    parser.add_argument(
        "--only", metavar="PATTERN", action="append", default=[], help="cases of these names; * is any text"
    )
    parser.add_argument(
        "--except", dest="without", metavar="PATTERN", action="append", default=[], help="none of these names"
    )
    parser.add_argument("--list", action="store_true", help="print the cases and what a client must do in each")
    parser.add_argument("--jobs", type=int, default=12, metavar="N", help="cases at a time (default: 12)")
    parser.add_argument("--no-skips", action="store_true", help="a skipped case has failed")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command of the program under test")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if _is_chosen(case.name, arguments.only, arguments.without)]
    if arguments.list:
        for case in chosen:
            print(f"{case.name}: {case.sentence}")
        return 0
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command or not chosen:
        parser.error("name the command of a program" if chosen else "there is no such case")
    verdicts = asyncio.run(_play(chosen, command, arguments.jobs))
    words = [verdict.word for verdict in verdicts]
    print(f"{words.count('ok')} passed, {words.count('FAILED')} failed, {words.count('skipped')} skipped", flush=True)
    return 1 if "FAILED" in words or (arguments.no_skips and "skipped" in words) else 0


async def _play(chosen: list[Case], command: list[str], jobs: int) -> list[Verdict]:
    gate = asyncio.Semaphore(jobs)
    # those that take long, and do nothing meanwhile, hold nobody up
    return await asyncio.gather(
        *(_report(case, command, gate) for case in sorted(chosen, key=lambda case: not case.is_long))
    )


async def _report(case: Case, command: list[str], gate: asyncio.Semaphore) -> Verdict:
    if case.is_long:
        verdict = await judge(case, command)
    else:
        async with gate:
            verdict = await judge(case, command)
    print(f"{verdict.word:8} {case.name} ({verdict.seconds:.1f} s)", flush=True)
    if verdict.word != "ok":
        print(f"         {case.sentence}\n         {verdict.why}", flush=True)
    if verdict.word == "FAILED":
        print("".join(f"           {line}\n" for line in verdict.story[-16:]), end="", flush=True)
    return verdict


def _is_chosen(name: str, only: list[str], without: list[str]) -> bool:
    return (not only or any(fnmatch(name, pattern) for pattern in only)) and not any(
        fnmatch(name, pattern) for pattern in without
    )


if __name__ == "__main__":
    sys.exit(main())

"""Nodes of two versions at once on one database, on the way to the new version, back, and there again, on Postgres and over Redis.
Writers write all the time; sockets come and go between the versions, and verify that nothing is lost, repeated or out of order,
and that no cursor is refused. What does not go together has to say so, with a remedy. Exit code 1 where anything is wrong.

The version before is built from a commit of this repository, once, unless a program is named. Writers, subscribers and the
verdict are harness.soak's; a private Postgres is harness.cluster. Where there is no Redis, or no such commit, that is skipped and
said, or with CI=true a failure.
"""

import argparse
import contextlib
import signal
from pathlib import Path
from typing import NoReturn

from harness import cluster as kit
from harness import redis
from harness.repository import ROOT

from . import programs, stages
from .fleet import Version

PARTS = {"postgres": stages.on_postgres, "redis": stages.over_redis}
ALL_WITHIN = 900  # seconds beside the build; then it is given up, whatever hangs


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", metavar="FILE", type=Path, help="the program of the version before")
    parser.add_argument(
        "--before-commit",
        metavar="COMMIT",
        default=programs.BEFORE,
        help=f"builds it from this commit, where no program is named (default: {programs.BEFORE})",
    )
    parser.add_argument(
        "--no-way-back", action="store_true", help="the version before cannot be gone back to, and has to say so"
    )
    parser.add_argument(
        "--without-pages", action="store_true", help="clients ask for no pages and windows, which 0.1.0 does not know"
    )
    parser.add_argument(
        "--parts", default=",".join(PARTS), help=f"with commas between them (default: {','.join(PARTS)})"
    )
    parser.add_argument("--seed", type=int, help="replays the choices of a run, as far as timing allows")
    parser.add_argument(
        "--after", metavar="FILE", type=Path, dest="rowcast", help="the program of this version, as --binary"
    )
    kit.add_arguments(parser)
    parser.set_defaults(rowcast=ROOT / "target/debug/rowcast")
    arguments = parser.parse_args()
    if not arguments.before and not programs.is_known(arguments.before_commit):
        told = kit.skipped(
            f"there is no commit {arguments.before_commit} here: git fetch --unshallow, or name a program with --before"
        )
        # an archive of the source, or a shallow clone, is not to blame
        return told if programs.has_history() else 0
    before = Version("before", arguments.before or programs.built(arguments.before_commit))
    after = Version("after", arguments.rowcast)
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(ALL_WITHIN)
    stack.callback(signal.alarm, 0)
    wrong = sum(run(part, arguments, before, after) for part in arguments.parts.split(","))
    print("Nothing is wrong." if not wrong else f"{wrong} WRONG.")
    return 1 if wrong else 0


def run(part: str, arguments: argparse.Namespace, before: Version, after: Version) -> int:
    """How much is wrong."""
    if part == "redis" and not redis.found():
        return kit.skipped("over Redis: scripts/install-redis installs it")
    with contextlib.ExitStack() as stack:
        return PARTS[part](stack, arguments, before, after)


def give_up(_number: object, _frame: object) -> NoReturn:
    raise kit.Failure(f"it did not end within {ALL_WITHIN} s")


if __name__ == "__main__":
    kit.main(main)

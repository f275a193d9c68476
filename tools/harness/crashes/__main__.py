"""Proves, or refutes, that rowcast loses nothing silently when the database crashes. In each round a private Postgres goes
down in one of seven ways while writers write and subscribers listen. Then cursors of every age are resumed, and whatever a
subscriber was told is compared with the outbox: nothing may be missing, twice or made up, unless the subscriber got a `gap`.
Exit code 1 where anything is wrong.

Owns the order of a run and its report. The parts lie beside it: the server and its standby, the writers, the
subscribers, the rounds, the judgement. A private Postgres and the WebSocket client are harness.cluster and
harness.websocket, rowcast's nodes those of harness.soak. Standard library only; needs Linux.
"""

import argparse
import contextlib
import secrets
import signal
import time
from typing import Any

from harness import cluster as kit
from harness import report

from .rounds import KINDS, Campaign

SPARE = 60  # seconds for a round; with what is left over of all rounds the run is given up, whatever hangs
SHOWN = 6  # of each kind, so many mistakes
# of each kind; `needlessly`: although nothing was lost of what the subscriber had been told
COLUMNS = (
    "rounds",
    "changes",
    "lost",
    "cursors",
    "honoured",
    "refused",
    "refused needlessly",
    "sockets",
    "gaps",
    "gaps needlessly",
    "closed",
    "wrong",
)


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="of each kind (default: 20)")
    parser.add_argument(
        "--seed", type=int, help="replays the choices of a run, as far as timing allows (default: a random one)"
    )
    parser.add_argument(
        "--kinds",
        type=kinds,
        default=list(KINDS),
        metavar="KIND,…",
        help=f"what goes wrong (default: {','.join(KINDS)})",
    )
    kit.add_arguments(parser)
    arguments = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}\n", flush=True)

    give_up_after(SPARE * (1 + arguments.rounds * len(arguments.kinds)))
    stack.callback(signal.alarm, 0)  # last in, first out: cleaning up is not given up
    print(report.table(["", *COLUMNS, "seconds"], []), flush=True)
    wrong = sum(run(arguments, name, seed) for name in arguments.kinds)
    print(f"\n{'Nothing is wrong.' if not wrong else f'{wrong:,} MISTAKES.'}")
    return 1 if wrong else 0


def run(arguments: argparse.Namespace, name: str, seed: int) -> Any:
    """All rounds of a kind, its line of the report, and how much was wrong."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        campaign = Campaign(stack, arguments, name, seed)
        tally = campaign.tally
        for number in range(arguments.rounds):
            known = len(tally.evidence)
            campaign.round(number)
            for text in tally.evidence[known:SHOWN]:
                kit.note(f"WRONG: {text}")
    figures = [f"{tally.count[column]:,}" for column in COLUMNS]
    print(f"| {' | '.join([name, *figures, f'{time.monotonic() - began:.0f}'])} |", flush=True)
    if strange := set(tally.reasons) - {"failover"}:
        kit.note(f"{name}: refused for another reason than failover: {', '.join(sorted(strange))}")
    return tally.count["wrong"]


def kinds(text: str) -> Any:
    chosen = text.split(",")
    for name in chosen:
        if name not in KINDS:
            raise argparse.ArgumentTypeError(f"there is no kind {name}; there are {', '.join(KINDS)}")
    return chosen


def give_up_after(seconds: int) -> None:
    """Ends the run as a failure, with everything that it started."""

    def leave(_number: Any, _frame: Any) -> None:
        raise kit.Failure(f"it did not end within {seconds} s")

    signal.signal(signal.SIGALRM, leave)
    signal.alarm(seconds)


if __name__ == "__main__":
    kit.main(main)

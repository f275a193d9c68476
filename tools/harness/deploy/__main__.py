"""What stands around rowcast, tried with the real programs: nginx and HAProxy while nodes are restarted, promtool on the
alerts, Prometheus while they are caused, systemd-analyze on the unit, Helm and the schemas of Kubernetes on the chart and
the manifests, dpkg on the package, an outage, clocks that are wrong. Exit code 1 where anything is wrong.

The parts lie beside it. A private Postgres and the WebSocket client are harness.cluster and harness.websocket. A program
that is not there is skipped and said, or with CI=true a failure; scripts/install-deploy installs them. Needs Linux.
"""

import argparse
import contextlib
import resource
import signal
from typing import Any

from harness import cluster as kit
from harness.repository import ROOT

from . import alerts, firing, manifests, nights, package, proxies, unit

PARTS = {
    "alerts": alerts.run,
    "firing": firing.run,
    "unit": unit.run,
    "manifests": manifests.run,
    "package": package.run,
    "nights": nights.run,
    "proxies": proxies.run,
}
DESCRIPTORS = 65536
ALL_WITHIN = 1500  # seconds; then it is given up, whatever hangs


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=500, help="through each proxy (default: 500)")
    parser.add_argument(
        "--parts", default=",".join(PARTS), help=f"with commas between them (default: {','.join(PARTS)})"
    )
    kit.add_arguments(parser)
    parser.set_defaults(rowcast=ROOT / "target/debug/rowcast")
    arguments = parser.parse_args()
    raise_descriptors()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(ALL_WITHIN)
    stack.callback(signal.alarm, 0)
    wrong = sum(PARTS[part](stack, arguments, missing) for part in arguments.parts.split(","))
    print("Nothing is wrong." if not wrong else f"{wrong} WRONG.")
    return 1 if wrong else 0


def raise_descriptors() -> None:
    """For thousands of sockets, here and in the programs that are started. Not more: HAProxy takes memory for each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))


def missing(what: str) -> bool:
    """A program that is not there; counts as a mistake in CI."""
    return kit.skipped(f"{what}: scripts/install-deploy installs it")


def give_up(_number: Any, _frame: Any) -> None:
    raise kit.Failure(f"it did not end within {ALL_WITHIN} s")


if __name__ == "__main__":
    kit.main(main)

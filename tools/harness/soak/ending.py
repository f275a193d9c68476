"""The end of a run in which nobody fails any more: the writers leave, and every subscriber has the last change, or its time is over.

Owns that order; what is then compared with what is the verdict's.
"""

import time
from collections.abc import Callable
from typing import Any

from harness import cluster as kit

from .audience import Audience
from .tables import CHANNELS
from .workload import Crew, end_prepared, open_transactions

CATCH_UP = 120.0  # seconds within which every subscriber must have everything, once nobody writes and nothing fails
AFTERGLOW = 1.0  # seconds after that, for what comes twice


def end(cluster: kit.Cluster, audience: Audience, crew: Crew, fails: Callable[[], Any] = lambda: False) -> None:
    """`fails`: whether something may still fail; nobody is waited for before it does not."""
    crew.leave()
    if not audience.pump(90, until=lambda: not crew.at_work() and not fails()):
        crew.abandon()
    end_prepared(cluster)
    if not audience.pump(90, until=lambda: open_transactions(cluster) == 0):
        raise kit.Failure("a writer's transaction is still open")
    # whatever was written is committed, so these come after it on every channel
    last = {channel.name: int(cluster.psql(channel.sentinel)) for channel in CHANNELS}
    written = time.time()
    kit.note("all is written; the subscribers catch up")
    audience.stay()
    everybody = audience.subscriptions()
    if not audience.pump(
        CATCH_UP, until=lambda: all(each.has_caught_up(last[each.channel.name], written) for _, each in everybody)
    ):
        kit.note(f"warning: not everybody has the last change after {CATCH_UP:.0f} s")
    audience.pump(AFTERGLOW)

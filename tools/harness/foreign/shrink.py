"""Makes a plan smaller while the same finding persists: fewer turns, subscribers, settings, statements, watches, steps.

Owns the search; what a round finds is `round`'s.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from .plan import Plan, Turn
from .record import Finding
from .round import Round
from .stage import Stage

BUDGET = 40.0  # seconds for one finding


class Shrinker:
    """Runs smaller plans on the same cluster."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._number = stage, 5_000_000
        self._deadline = 0.0
        self._last: Finding | None = None

    def shrink(self, plan: Plan, finding: Finding) -> None:
        """Prints the smallest plan that was found in the time there is."""
        self._deadline = time.monotonic() + BUDGET
        self._last = finding
        small = copy.deepcopy(plan)
        if finding.turn >= 0:
            cut = copy.deepcopy(small)
            cut.turns = cut.turns[: finding.turn + 1]
            if self._persists(cut, finding):
                small = cut
        if not self._persists(small, finding):
            print("  (it does not happen again when the round is run again)", flush=True)
            return
        for kind in sorted({step.kind for turn in small.turns for step in turn} | {each.kind for each in small.begin}):
            trial = copy.deepcopy(small)
            trial.begin = [each for each in trial.begin if each.kind != kind or not kind]
            for number, turn in enumerate(trial.turns):
                with_turn(trial, number, tuple(step for step in turn if step.kind != kind or not kind))
            if kind and time.monotonic() < self._deadline and self._persists(trial, finding):
                small = trial
        changed = True
        while changed and time.monotonic() < self._deadline:
            size = sum(map(len, (*small.turns, small.begin, small.follows, small.watches)))
            small = self._fewer(
                small, finding, lambda p: [number for number, turn in enumerate(p.turns) if turn], with_turns
            )
            small = self._fewer(small, finding, lambda p: p.follows, lambda p, kept: setattr(p, "follows", kept))
            small = self._fewer(small, finding, lambda p: p.begin, lambda p, kept: setattr(p, "begin", kept))
            small = self._fewer(small, finding, lambda p: p.watches, lambda p, kept: setattr(p, "watches", kept))
            for number in range(len(small.turns)):
                if len(small.turns[number]) > 1:
                    small = self._fewer(
                        small,
                        finding,
                        partial(steps_of, number),
                        partial(set_steps, number),
                    )
            changed = sum(map(len, (*small.turns, small.begin, small.follows, small.watches))) < size
        for easier in (
            lambda p: setattr(p, "relay_user", ""),
            lambda p: setattr(p, "migrates_late", False),
            lambda p: setattr(p, "has_dump", False),
        ):
            trial = copy.deepcopy(small)
            easier(trial)
            if time.monotonic() < self._deadline + 5 and self._persists(trial, finding):
                small = trial
        show(small, self._last)

    def _fewer(
        self, plan: Plan, finding: Finding, get: Callable[[Plan], list[Any]], put: Callable[[Plan, list[Any]], None]
    ) -> Plan:
        """Leaves out chunks of a list, large ones first."""
        size = max(1, len(get(plan)) // 2)
        while True:
            at = 0
            while at < len(get(plan)):
                if time.monotonic() > self._deadline:
                    return plan
                trial = copy.deepcopy(plan)
                items = get(trial)
                put(trial, items[:at] + items[at + size :])
                if self._persists(trial, finding):
                    plan = trial
                else:
                    at += size
            if size == 1:
                return plan
            size //= 2

    def _persists(self, plan: Plan, finding: Finding) -> bool:
        self._number += 1
        found = Round(self._stage, plan, self._number, patience=1.2).run()
        for each in found:
            if each.signature == finding.signature:
                self._last = each
                return True
        return False


def with_turns(plan: Plan, kept: list[int]) -> None:
    """The plan with these turns. The others stay as empty ones: subscribers come and go by their numbers."""
    for number in range(len(plan.turns)):
        if number not in kept:
            with_turn(plan, number, ())


def steps_of(number: int, plan: Plan) -> list[Any]:
    """The steps of a turn."""
    return list(plan.turns[number])


def set_steps(number: int, plan: Plan, kept: list[Any]) -> None:
    """The plan with these steps of a turn."""
    with_turn(plan, number, tuple(kept))


def with_turn(plan: Plan, number: int, kept: Turn) -> None:
    """The plan with fewer steps of one turn."""
    places = {id(step): place for place, step in enumerate(kept)}
    turn = plan.turns[number]
    order = []
    for each, step in plan.order:
        if each != number:
            order.append((each, step))
        elif step < len(turn) and id(turn[step]) in places:
            order.append((number, places[id(turn[step])]))
    plan.turns[number], plan.order = kept, order


def show(plan: Plan, finding: Finding | None) -> None:
    """The plan as something to read and to type."""
    kinds = (
        {each.kind for each in plan.begin}
        | {step.kind for turn in plan.turns for step in turn}
        | {watch.kind for watch in plan.watches}
    )
    print(
        f"  smallest: encoding {plan.charset.name} {plan.option}; relay as "
        f"{plan.relay_user or 'superuser'}{'; migrated after the settings' if plan.migrates_late else ''}; kinds {sorted(kinds - {''})}"
    )
    for statement in plan.begin:
        print(f"    {statement.sql[:600]};")
    for watch in plan.watches:
        print(f"    {watch.call};")
    for follow in plan.follows:
        print(f"    -- {follow}")
    for turn, step in plan.order:
        if turn < len(plan.turns) and step < len(plan.turns[turn]):
            one = plan.turns[turn][step]
            print(
                f"    /* turn {turn}, session {one.session} */ "
                f"{one.sql[:600]};{' -- ' + repr(one.copy) if one.copy else ''}{' -- then ' + ', '.join(one.does) if one.does else ''}"
            )
    if finding:
        print(f"  seen then: {finding.seen}", flush=True)

"""A round: the plan is carried out on a database with rowcast and on its twin without, and what came is judged.

Owns the order of a round and the sessions of its writers. A statement that fails in one of the two databases only is a
finding; so is everything of `verdict`.
"""

from __future__ import annotations

import re
import signal
import time
from dataclasses import dataclass

from harness import cluster as kit

from . import life, verdict
from .audience import Audience
from .plan import Statement, Step
from .record import Finding, Pair, Record
from .wire import Answer, Connection, Failed

SLOW = 4.0  # seconds that a statement takes longer than five times what it takes on the twin: it has waited for something of ours
LOCK_WITHIN = "400ms"
SETTINGS = (
    "set default_transaction_read_only = off",
    "set statement_timeout = '12s'",
    f"set lock_timeout = '{LOCK_WITHIN}'",
    "set idle_in_transaction_session_timeout = 0",
    "set idle_session_timeout = 0",
    "set client_min_messages = error",
)
LOST = "08006"  # the application keeps itself busy for ever, with or without us
CAST = "which has a cast to json by a function"  # of the refusal to watch a table with hstore
TIMED_OUT = "57014"
DOOMED = "40001"  # a serializable transaction that cannot commit: the next row that it writes says so, or its commit
TAKEN = "23505"  # a unique key
MOVES_KEYS = re.compile(r'^update .* set ("[^"]*") = \1 [+-] ', re.DOTALL)
ABORTED = "25P02"  # of each statement after that
PASSABLE = (
    "42P01",
    "3F000",
    "42704",
    "40001",
)  # of calls on tables that a smaller plan does not have, or beside serializable writers


@dataclass
class Outcome:
    """What a statement came to in one of them."""

    answer: Answer | None
    state: str
    text: str
    took: float

    def same(self, other: Outcome) -> bool:
        return self.state == other.state and (
            self.answer is None or other.answer is None or self.answer.tag == other.answer.tag
        )

    def __str__(self) -> str:
        return f"{self.answer.tag if self.answer else self.text} ({self.took:.2f} s)"


def attempt(connection: Connection, sql: str, copy: str | None = None) -> Outcome:
    """Runs a statement, whatever comes of it."""
    began = time.monotonic()
    if sql.startswith("?"):
        if connection.status != b"E":
            return Outcome(None, "", "not needed", 0.0)
        sql = sql[1:]
    try:
        answer = connection.run(sql, copy)
        return Outcome(answer, "", answer.tag, time.monotonic() - began)
    except Failed as failed:
        return Outcome(None, failed.state, f"{failed} {failed.context[:300]}", time.monotonic() - began)


def prepare(pair: Pair) -> None:
    """A writer's own settings: it can write, and waits for nothing for long."""
    for sql in SETTINGS:
        attempt(pair.subject, sql)
        attempt(pair.twin, sql)


class Round(Record):
    """One run of one plan."""

    def run(self) -> list[Finding]:
        """What was found, in the order in which it was noticed."""
        try:
            self._run()
        except Failed as failed:
            self.find(
                "install" if failed.state == "install" else "tester",
                failed.state if failed.state != "install" else self.plan.charset.name,
                str(failed),
            )
        except kit.Failure as failure:
            self.find("ended", "", str(failure)[-900:])
        finally:
            self._clean()
        return self.findings

    def _run(self) -> None:
        plan, stage = self.plan, self.stage
        stage.create(self.twin, plan.charset, plan.option, False)
        stage.create(self.subject, plan.charset, plan.option, not plan.migrates_late)
        if not self._begin():
            return
        self.admin = stage.connect(self.subject, charset=plan.charset)
        for sql in SETTINGS:
            self.admin.run(sql)
        if not self._watch():
            return
        try:
            self.relay = stage.relay(self.subject, plan.relay_user, plan.flags)
        except kit.Failure as failure:
            self.find("not ready", "", str(failure)[-900:])
            return
        self.audience = Audience(self.relay.host, self.relay.port, plan.follows, self.key_of, self.hidden_of)
        self._write()
        if "abandoned" in self.counts:
            return
        verdict.judge(self, self.audience, self.relay, self.admin)

    # Before the writers

    def _begin(self) -> bool:
        """Everything before the writers, in both databases."""
        pair = self._connect("")
        migrated = not self.plan.migrates_late
        for statement in self.plan.begin:
            if not migrated and not statement.sql.startswith("alter database"):
                pair.close()
                migrated = self._migrate()
                if not migrated:
                    return False
                pair = self._connect("")
            if not self._both(pair, statement):
                pair.close()
                return False
        pair.close()
        return migrated or self._migrate()

    def _migrate(self) -> bool:
        try:
            self.stage.migrate(self.subject)
            return True
        except kit.Failure as failure:
            self.find("migrate", "", str(failure)[-900:])
            return False

    def _both(self, pair: Pair, statement: Statement) -> bool:
        one = attempt(pair.subject, statement.sql.replace("{database}", self.subject))
        if statement.only:
            return True
        other = attempt(pair.twin, statement.sql.replace("{database}", self.twin))
        if one.state == other.state == LOST:
            self.counts["abandoned"] = 1
            return False
        if one.same(other):
            return True
        self.find(
            "statement",
            one.state or other.state,
            f"before the writers: {statement.sql[:500]}: {one}; without rowcast: {other}",
        )
        return False

    def _watch(self) -> bool:
        assert self.admin
        for watch in self.plan.watches:
            outcome = attempt(self.admin, watch.call)
            # hstore: a cast to json may fail, and the write with it
            is_refused = CAST in outcome.text
            self.counts["refused"] = self.counts.get("refused", 0) + is_refused
            if (
                outcome.state
                and outcome.state not in PASSABLE
                and "it has no column" not in outcome.text
                and not is_refused
            ):
                self.find("watch", outcome.state, f"{watch.call}: {outcome.text}")
                return False
            if not outcome.state:
                self.watches[watch.channel] = watch
        return True

    # The writers

    def _connect(self, user: str) -> Pair:
        made = [
            self.stage.connect(database, user, self.plan.charset, "foreign") for database in (self.subject, self.twin)
        ]
        pair = Pair(*made)
        prepare(pair)
        return pair

    def _pair(self, session: int) -> Pair | None:
        if session not in self.pairs:
            try:
                self.pairs[session] = self._connect(self.plan.sessions[session])
            except Failed:
                return None  # a smaller plan may not have the role
        return self.pairs[session]

    def _write(self) -> None:
        assert self.audience and self.relay
        for session in range(len(self.plan.sessions)):
            self._pair(session)  # a login that is dropped later is connected before
        begun = -1
        kept = [
            (turn, step)
            for turn, step in self.plan.order
            if turn < len(self.plan.turns) and step < len(self.plan.turns[turn])
        ]
        for turn, step in kept:
            while begun < turn:
                begun += 1
                self.audience.turn(begun)
            if step == 0 and "two-phase" in self.plan.kinds and life.is_alone(self.plan.turns[turn]):
                self.stage.end_prepared(self.subject)  # DDL would wait for their locks
                self.stage.end_prepared(self.twin)
            if step == 0 and (pair := self._pair(self.plan.turns[turn][0].session)):
                # no session of the application is in the way of DDL; a page that is read is, for a moment
                patience = "3s" if life.is_alone(self.plan.turns[turn]) else LOCK_WITHIN
                for each in (pair.subject, pair.twin):
                    attempt(each, f"set lock_timeout = '{patience}'")
            if not self._step(turn, self.plan.turns[turn][step]):
                return
            self.audience.pump(0)
            if not self.relay.is_alive():
                return
        self.audience.turn(begun + 1)

    def _step(self, turn: int, step: Step) -> bool:
        """Whether to go on."""
        assert self.audience
        pair = self._pair(step.session)
        if pair is None:
            return True
        one = attempt(pair.subject, step.sql.replace("{database}", self.subject), step.copy)
        self.counts["statements"] = self.counts.get("statements", 0) + 1
        self.counts["failed"] = self.counts.get("failed", 0) + bool(one.state)
        if step.only:
            if (
                one.state
                and one.state not in (*PASSABLE, ABORTED)
                and "it has no column" not in one.text
                and CAST not in one.text
                and "rowcast." in step.sql
            ):
                self.find("call", one.state, f"{step.sql[:500]}: {one}", turn)
                return False
        else:
            other = attempt(pair.twin, step.sql.replace("{database}", self.twin), step.copy)
            if {one.state, other.state} <= {LOST, TIMED_OUT} and LOST in (one.state, other.state):
                self.counts["abandoned"] = 1
                return False
            is_lost = one.answer is not None and one.answer.tag == "ROLLBACK" and other.state == DOOMED
            # a call that only one of both makes may have been what said so
            said_before = one.state == ABORTED and other.state == DOOMED
            if (
                is_lost
                or said_before
                or (one.state == DOOMED and not other.state and attempt(pair.twin, "commit").state == DOOMED)
            ):
                self.counts["abandoned"] = 1
                return False
            # whether a key is free when a row comes to it depends on the order of rows on disk, which vacuum changes when it likes
            if {one.state, other.state} == {"", TAKEN} and MOVES_KEYS.search(step.sql):
                self.counts["abandoned"] = 1
                return False
            if not one.same(other):
                self.find(
                    "statement",
                    one.state or other.state or "rows",
                    f"session {step.session} ({self.plan.sessions[step.session] or 'superuser'}): {step.sql[:700]}: {one}; without rowcast: {other}",
                    turn,
                )
                return False
            if one.took > 5 * other.took + SLOW:
                self.find("slow", "", f"{step.sql[:500]}: {one}; without rowcast: {other}", turn)
        if step.sql in ("reset all", "discard all"):
            prepare(pair)
        if not one.state:
            self._does(step)
        return True

    def _does(self, step: Step) -> None:
        assert self.audience
        if step.watch:
            self.watches[step.watch.channel] = step.watch
        for word in step.does:
            if word == "restart":
                self._restart()
                continue
            what, _, channel = word.partition(" ")
            self.audience.reload(channel, everybody=what == "reload")

    def _restart(self) -> None:
        """Another server, on another port; each subscriber comes back with what it has."""
        assert self.audience and self.relay
        self.audience.pump(0.01 * (self.number % 3))
        verdict.judge_log(self, self.relay)
        self.relay.end(signal.SIGKILL)
        self.relay = self.stage.relay(self.subject, self.plan.relay_user, self.plan.flags)
        self.audience.move(self.relay.port)

    def _clean(self) -> None:
        if self.audience:
            self.audience.close()
        for pair in self.pairs.values():
            pair.close()
        if self.admin:
            self.admin.close()
        if self.relay:
            self.relay.end()
        for database in (self.subject, self.twin):
            self.stage.drop(database)
        self.stage.drop_roles(f"r{self.plan.name.partition('/')[2]}")

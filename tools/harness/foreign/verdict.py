"""What each subscriber must have in the end: the rows of the table, as the tables themselves say.

Asks the database once nobody writes any more, and gives the subscribers time to come to the same.
"""

from __future__ import annotations

import contextlib
import re
import time

from harness import cluster as kit

from .audience import Audience
from .charset import as_told
from .names import literal, quoted
from .record import Record
from .stage import Relay
from .subscriber import Row, Subscriber, parse, row_of
from .wire import Connection, Failed

SETTINGS = (
    "set timezone = 'UTC'",
    "set intervalstyle = postgres",
    "set bytea_output = hex",
    "set datestyle = 'ISO'",
    "set extra_float_digits = 1",
    "set row_security = off",
    "set search_path = pg_catalog",
    "set default_transaction_isolation = 'read committed'",
    "set quote_all_identifiers = off",
    "set statement_timeout = '30s'",
)
TROUBLE = re.compile(r"panicked|task_died|\bERROR\b")


def judge(run: Record, audience: Audience, relay: Relay, admin: Connection) -> None:
    """Adds what is wrong to the findings of the round."""
    for pair in run.pairs.values():
        for connection in (pair.subject, pair.twin):
            if connection.is_open and connection.status != b"I":
                with contextlib.suppress(Failed):
                    connection.run("rollback")
    run.stage.end_prepared(run.subject)
    run.stage.end_prepared(run.twin)
    if not relay.is_alive():
        run.find("died", "", relay.warnings()[-900:])
        return
    for sql in SETTINGS:
        admin.run(sql)
    channels = run.channels()
    tell_secrets(run, audience)
    deadline = time.monotonic() + run.patience
    watched = [each for each in audience.subscribers() if each.follow.channel in channels]
    plain = [each for each in watched if not each.follow.conditions and not each.follow.columns]
    # a publication is no part of a snapshot: a subscriber that is still loading would wait for it in vain
    audience.pump(run.patience, until=lambda: all(each.is_joined or each.gone for each in watched))
    for _ in range(3):
        for channel in channels:
            admin.run(f"select rowcast.publish({literal(channel)}, 'sentinel', '{{\"n\":\"{run.number}\"}}')")
        if audience.pump(run.patience / 3, until=lambda: all(is_done(each, run.number) for each in plain)):
            break
    audience.pump(0.02)
    if not run.findings:
        tell_secrets(run, audience)
    truths: dict[str, list[Row]] = {}
    for each in watched:
        truth_key = repr((each.follow.channel, each.follow.conditions, each.follow.columns))
        try:
            truths[truth_key] = truths.get(truth_key) or truth(run, admin, each, channels[each.follow.channel])
        except Failed as failed:
            run.counts["no truth"] = run.counts.get("no truth", 0) + 1
            each.gone = each.gone or f"no truth: {failed}"
            continue
        _judge_one(run, audience, each, truths[truth_key], deadline, admin)
    for user, text in audience.users[:1]:
        run.find("user", "", f"user {user} was told: {text}")
    _judge_users(run, audience, admin)
    _judge_process(run, relay)
    if not run.findings:
        _judge_end(run, audience, relay, admin)


def tell_secrets(run: Record, audience: Audience) -> None:
    """What was told and may not be."""
    for secret in audience.secrets[:1]:
        run.find("secret", "", f"an excluded value was told: {secret}")


def is_done(each: Subscriber, number: int) -> bool:
    """Whether it has everything, or never will."""
    return each.sentinel == str(number) or bool(each.gone) and "404" not in each.gone or each.is_blind


def _judge_one(
    run: Record, audience: Audience, each: Subscriber, rows: list[Row], deadline: float, admin: Connection
) -> None:
    """One subscriber against the rows that it is to have."""
    follow = each.follow
    who = f"{follow.channel} socket {follow.socket} {follow.conditions or ''} {follow.columns or ''}"
    if each.gone and "404" not in each.gone:
        if not (
            "bad_filter" in each.gone
            or "4400" in each.gone
            or "refused 400" in each.gone
            or "already_subscribed" in each.gone
        ):
            run.find("gone", each.gone.split(":")[0], f"{who}: {each.gone}")
        elif not any(
            step.kind in ("ddl-shape", "expand-contract", "rewatch", "swap-table", "ddl-types")
            for turn in run.plan.turns
            for step in turn
        ):
            run.find("gone", "filter", f"{who}: {each.gone}")
        return
    if each.is_blind:
        log = run.relay.warnings() if run.relay else ""
        # of a table with excluded columns the server may read those that there were when it was watched
        if (
            run.plan.relay_user
            and {"policies", "exclude", "hide-any"} & set(run.plan.kinds)
            or "stale-names" not in run.plan.kinds
            and "does not exist" in log
        ):
            run.counts["blind"] = run.counts.get("blind", 0) + 1
        else:
            run.find("blind", "", f"{who}: it was refused the rows; {each.heard[-3:]}; log {log[-400:]}")
        return
    hidden = run.hidden_of(follow.channel)
    each.forget(hidden)
    difference = each.differs(rows) if each.is_loaded else "it was never given the rows"
    while difference and time.monotonic() < deadline + 1:
        audience.pump(0.1)
        difference = each.differs(rows) if each.is_loaded else "it was never given the rows"
    plain = not follow.conditions and not follow.columns
    if plain and each.sentinel != str(run.number):
        line = audience.lines[follow.socket]
        run.find(
            "silent",
            "",
            f"{who}: the last change has not come; gone: {each.gone}; source_down: {each.down}; {line.troubles}; it has heard {each.heard[-3:]}; "
            f"{_look(run, admin)}",
        )
    elif difference:
        run.find(
            "unequal",
            "filtered" if not plain else "" if each.key else "no key",
            f"{who}: {difference}; gone: {each.gone}; {audience.lines[follow.socket].troubles}; it has heard {each.heard}",
        )
    for sort, what in each.complaints:
        if sort != "chain" or "chain" in run.plan.kinds:
            run.find(sort, "", f"{who}: {what}")
            break
    if each.down and not difference:
        run.find(
            "down", "", f"{who}: source_down {each.down} times; log {run.relay.warnings()[-500:] if run.relay else ''}"
        )
    run.counts["judged"] = run.counts.get("judged", 0) + 1
    run.counts["rows judged"] = run.counts.get("rows judged", 0) + len(rows)


def _look(run: Record, admin: Connection) -> str:
    """What the relay and its sessions do at this moment."""
    sessions = admin.texts(
        "select application_name, state, wait_event, left(query, 90), extract(epoch from now() - state_change)::numeric(9, 2)::text from pg_stat_activity "
        "where application_name like 'rowcast%' and datname = current_database()"
    )
    kept = admin.texts(
        "select id::text, xid::text, op::text, channel::text from rowcast.outbox order by id desc limit 4"
    )
    try:
        status = (
            {
                name: value
                for name, value in run.relay.status().items()
                if name in ("status", "source", "cursor", "lag_ms")
            }
            if run.relay
            else {}
        )
    except (OSError, kit.Failure) as failure:
        status = {"status": str(failure)}
    return (
        f"sessions {sessions}; outbox {kept}; now {admin.value('select pg_current_snapshot()')}; status "
        f"{status}; log {run.relay.warnings()[-600:] if run.relay else ''}"
    )


def truth(run: Record, admin: Connection, each: Subscriber, oid: str) -> list[Row]:
    """The rows that it is to have."""
    table = (
        admin.value(
            f"select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = {oid}"
        ),
        admin.value(f"select relname from pg_class where oid = {oid}"),
    )
    only = "" if admin.value(f"select relkind from pg_class where oid = {oid}") == "p" else "only "
    condition = " and ".join(f"({sql})" for _, _, _, sql in each.follow.conditions) or "true"
    hidden = run.hidden_of(each.follow.channel)
    rows = []
    for (text,) in admin.texts(
        f"select row_to_json(t_t.*)::text from {only}{'.'.join(map(quoted, table))} t_t where {condition}"
    ):
        row = row_of(parse(as_told(text)))
        rows.append(
            {
                name: value
                for name, value in row.items()
                if name not in hidden and (not each.follow.columns or name in each.follow.columns)
            }
        )
    return rows


def _judge_users(run: Record, audience: Audience, admin: Connection) -> None:
    """A user who is named by a rule that is a column is told of each change of such a row, once."""
    if any(
        step.kind in ("rewatch", "swap-table", "ddl-shape", "ddl-partition", "publish", "prune", "restart")
        for turn in run.plan.turns
        for step in turn
    ) or any(each.down for each in audience.subscribers()):
        return  # the rule, or the column, was another one in between
    if "partition-moves" in run.plan.kinds:
        return  # a move is captured as two changes, and told as one
    for line in audience.lines.values():
        user = line.subscribers[0].follow.user
        if not user:
            continue
        want: list[str] = []
        for watch in run.watches.values():
            if watch.user_column:
                column = literal(watch.user_column)
                want += [
                    number
                    for (number,) in admin.texts(
                        f"select o.id::text from rowcast.outbox o join rowcast.channel c on c.id = o.channel where c.name = "
                        f"{literal(watch.channel)} and o.op in ('I', 'U', 'D') "
                        # what differs in excluded columns alone is captured and not told
                        f"and (o.op <> 'U' or o.old::text is distinct from o.new::text) "
                        f"and case when o.op = 'D' then o.old else o.new end ->> {column} = '{user}' order by o.id"
                    )
                ]
            elif "user_rule" in watch.call:
                return
        got = audience.notified.get(user, [])
        if sorted(got) != sorted(want) and not line.troubles:
            audience.pump(0.5)
            got = audience.notified.get(user, [])
            if sorted(got) != sorted(want):
                run.find(
                    "notified",
                    "",
                    f"user {user} was told of {sorted(set(got) - set(want))[:5]} too much, not of "
                    f"{sorted(set(want) - set(got))[:5]}, of {len(got)} in all, {len(set(got))} distinct",
                )


def _judge_process(run: Record, relay: Relay) -> None:
    """The server lives, is ready, and has nothing to complain of."""
    if not relay.is_alive():
        run.find("died", "", relay.warnings()[-900:])
        return
    if not relay.is_ready():
        run.find("unready", "", relay.warnings()[-900:])
    judge_log(run, relay)


def judge_log(run: Record, relay: Relay) -> None:
    """Lines that a healthy server does not write."""
    troubles = [line for line in relay.warnings().splitlines() if TROUBLE.search(line)]
    if "prune" in run.plan.kinds:  # what a round prunes is said to be old, and a relay may not have come to it
        troubles = [line for line in troubles if 'event="gap"' not in line]
    if "swap-table" in run.plan.kinds:  # the name of a watched table is another one's for a while
        troubles = [line for line in troubles if 'event="trigger_off"' not in line]
    if troubles:
        run.find("log", "", "; ".join(troubles[:3])[:900])


def _judge_end(run: Record, audience: Audience, relay: Relay, admin: Connection) -> None:
    """doctor runs, and uninstall leaves nothing."""
    if run.number % 4 == 0:
        try:
            run.stage.rowcast(run.subject, "doctor")
        except kit.Failure as failure:
            if "needs action" not in str(failure) and "statement timeout" not in str(failure):
                run.find("doctor", "", str(failure)[-700:])
    for pair in run.pairs.values():
        pair.close()
    audience.close()
    relay.end()
    gone = time.monotonic() + 3  # its sessions end a moment after it
    while time.monotonic() < gone and admin.texts(
        "select 1 from pg_stat_activity where application_name like 'rowcast %' and datname = current_database()"
    ):
        time.sleep(0.01)
    try:
        admin.run("select rowcast.uninstall()")
    except Failed as failed:
        run.find("uninstall", failed.state, str(failed))
        return
    if not run.plan.has_dump:
        return
    try:
        one, other = run.stage.dump(run.subject), run.stage.dump(run.twin)
    except kit.Failure as failure:
        run.find("dump", "failed", str(failure))
        return
    if one != other and one is not None and other is not None:
        lines = [f"+{line}" for line in one if line not in set(other)] + [
            f"-{line}" for line in other if line not in set(one)
        ]
        run.find("dump", "", f"pg_dump -s differs from that of the twin: {lines[:6]}")

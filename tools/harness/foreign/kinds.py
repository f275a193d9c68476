"""Kinds of foreign things, by name: a round has a random part of them, and `--without` leaves some out for good.

Each name stands for what may be in a round, so that a search can go on beside a fault that is known.
"""

from __future__ import annotations

import random

KINDS = {
    # the database
    "encoding": "encodings other than UTF8",
    "east": "EUC_JP and EUC_KR among the encodings",
    "invalid-bytes": "bytes that are no text: any in SQL_ASCII, the unassigned ones of WIN1252",
    "collation": "C.UTF-8 and ICU",
    "output-settings": "DateStyle, IntervalStyle, TimeZone, bytea_output, extra_float_digits of database, role and session",
    "isolation": "default_transaction_isolation of the database",
    "read-only": "default_transaction_read_only of the database",
    "strings": "backslash_quote, search_path and others of the database",
    "quote-all": "quote_all_identifiers = on in the database",
    "old-strings": "standard_conforming_strings = off in the database",
    "timeouts": "short statement, lock and transaction timeouts of the database",
    "idle": "idle_session_timeout = 1500ms of the database",
    "memory": "work_mem and temp_file_limit of the database, and more rows than they hold",
    "jit": "what makes every plan so dear that it is compiled: jit_above_cost = 0, enable_seqscan = off",
    "planner": "planner settings, row_security = off, check_function_bodies, array_nulls of the database",
    "event-trigger": "event triggers of the application, which write or look at what was done",
    "two-phase": "prepared transactions",
    "late-migrate": "rowcast is installed after the settings were made",
    # tables
    "names": "names in quotes: reserved words, mixed case, our own aliases, 63 bytes, beyond ASCII",
    "name-r": "a column named r among them",
    "types": "all built-in types, arrays, ranges",
    "own-types": "enums, domains, composites",
    "contrib": "citext, ltree, cube",
    "hstore": "hstore, which has a cast to json",
    "generated": "generated columns, identity, defaults",
    "dropped": "columns that were dropped before",
    "wide": "values of some kilobytes, toasted",
    "partitions": "list, range, hash, nested, default",
    "inheritance": "children by plain inheritance",
    "foreign-keys": "with every action, some deferrable",
    "no-key": "tables without a primary key",
    "odd-key": "keys of several columns, of text, numeric, citext, float; deferrable",
    "unlogged": "unlogged tables",
    "replica-identity": "replica identity full, nothing",
    "strange-shapes": "tables of no column, of 250 columns, with partitions whose columns stand in another order",
    # the application
    "before": "BEFORE triggers that change NEW or return null",
    "sibling": "AFTER row triggers that update rows of the same table",
    "totals": "AFTER row triggers that update and insert into other tables",
    "statement": "AFTER statement triggers with transition tables",
    "deferred": "deferred constraint triggers that write",
    "early-names": "triggers that fire before ours",
    "rules": "DO ALSO, DO INSTEAD",
    "views": "views that are written, also by INSTEAD OF",
    "policies": "row level security, forced or not",
    "roles": "an owner without superuser, writers with few rights, SET ROLE",
    "lost-login": "a login that is dropped while it is connected",
    "relay-role": "the server logs in as rowcast_relay",
    # watching
    "exclude": "excluded columns",
    "user-rule": "a column or a query that names users",
    "channel-names": "channels with the default name, and odd ones",
    "bad-rule": "user rules that fail for some rows, or name columns of any type",
    "many-users": "user rules that name thousands",
    "hide-any": "excluded columns of any type",
    "slow-lists": "hundreds of columns beside an excluded one",
    "rewatch": "watch again in the middle, with other arguments",
    "watch-schema": "watch_schema",
    "mute": "rowcast.mute",
    "publish": "rowcast.publish and rowcast.notify in the writers' transactions",
    # writing
    "bulk": "statements of thousands of rows",
    "truncate": "TRUNCATE, of several tables, CASCADE, RESTART IDENTITY",
    "merge": "MERGE",
    "copy": "COPY FROM STDIN",
    "key-moves": "keys that change, swap and pass through each other",
    "partition-moves": "rows that move between partitions",
    "savepoints": "savepoints, and blocks with EXCEPTION",
    "interleaved": "several transactions that are open at once",
    "odd-values": "NUL escapes, lone surrogates, 1e2000, infinities, far years, empty things",
    "ddl-shape": "ADD, DROP, RENAME COLUMN, ALTER TYPE, RENAME TABLE, SET SCHEMA in the middle",
    "ddl-types": "ALTER TYPE and ALTER DOMAIN in the middle",
    "ddl-partition": "ATTACH and DETACH in the middle",
    "ddl-other": "indexes, VACUUM FULL, CLUSTER, ANALYZE, COMMENT, triggers and rights in the middle",
    "swap-table": "a table is replaced by another one of its name",
    "expand-contract": "an excluded column is replaced by another one of its name",
    "restart": "the server is killed in the middle, and another one started",
    "little-memory": "the server remembers 64 KiB of changes, and a socket may be behind by as much",
    "prune": "the outbox is as if days had passed, and is pruned",
    "actor": "rowcast.actor and application_name with odd texts",
    # listening
    "filters": "filters and columns",
    "many": "several channels on a socket",
    "away": "subscribers that go and come back",
    "old-places": "subscribers that come back after an exclusion, from before it",
    "late": "subscribers that come in the middle",
    "users": "sockets of users",
    "sse": "event streams",
    # verdicts
    "chain": "what `old` says is what the subscriber had",
    "stale-names": "a table that was renamed a moment ago has snapshots",
    "silent-ddl": "DDL that changes what rows say is told by itself",
    "dump": "uninstall leaves what is there without rowcast",
}
OFF_BY_DEFAULT = ("silent-ddl",)


class Kinds:
    """Those of one round."""

    def __init__(self, rng: random.Random, without: frozenset[str], with_all: bool = False) -> None:
        drawn = {kind: rng.random() < 0.45 for kind in KINDS}  # few at a time: each gets its chance to be alone
        self.active = {kind for kind in KINDS if (drawn[kind] or with_all) and kind not in without}

    def __contains__(self, kind: str) -> bool:
        return kind in self.active

    def may(self, rng: random.Random, kind: str, chance: float = 0.5) -> bool:
        """Whether this kind is to be used here. Draws in any case, so that the rest of the round stays the same."""
        return rng.random() < chance and kind in self.active

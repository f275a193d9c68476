"""Settings that a foreign database and its roles may have, as (setting, value) pairs."""

from __future__ import annotations

import random

from .kinds import Kinds

OUTPUT = (
    ("datestyle", "German, DMY"),
    ("datestyle", "SQL, MDY"),
    ("datestyle", "Postgres, DMY"),
    ("intervalstyle", "iso_8601"),
    ("intervalstyle", "sql_standard"),
    ("intervalstyle", "postgres_verbose"),
    ("timezone", "Asia/Kolkata"),
    ("timezone", "America/St_Johns"),
    ("timezone", "<+01>-01:30:20"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("extra_float_digits", "0"),
    ("extra_float_digits", "3"),
    ("xmloption", "document"),
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("xmlbinary", "hex"),
)
DATABASE = {
    "isolation": (
        ("default_transaction_isolation", "serializable"),
        ("default_transaction_isolation", "repeatable read"),
        ("default_transaction_deferrable", "on"),
    ),
    "read-only": (("default_transaction_read_only", "on"),),
    "old-strings": (("standard_conforming_strings", "off"),),
    "quote-all": (("quote_all_identifiers", "on"),),
    "jit": (("jit_above_cost", "0"), ("enable_seqscan", "off"), ("enable_indexscan", "off"), ("enable_sort", "off")),
    "strings": (
        ("backslash_quote", "off"),
        ("search_path", ""),
        ("search_path", "pg_temp"),
        ("search_path", 'app, "My Schema", public, pg_catalog'),
        ("escape_string_warning", "off"),
        ("transform_null_equals", "on"),
        ("array_nulls", "off"),
    ),
    "timeouts": (
        ("statement_timeout", "3s"),
        ("lock_timeout", "700ms"),
        ("idle_in_transaction_session_timeout", "900ms"),
    ),
    "idle": (("idle_session_timeout", "1500ms"),),
    "memory": (
        ("work_mem", "64kB"),
        ("temp_file_limit", "1MB"),
        ("hash_mem_multiplier", "1"),
        ("temp_buffers", "100"),
        ("logical_decoding_work_mem", "64kB"),
    ),
    "planner": (
        ("enable_material", "off"),
        ("enable_hashjoin", "off"),
        ("enable_memoize", "off"),
        ("row_security", "off"),
        ("check_function_bodies", "off"),
        ("plan_cache_mode", "force_generic_plan"),
        ("plan_cache_mode", "force_custom_plan"),
        ("enable_bitmapscan", "off"),
        ("default_tablespace", ""),
        ("synchronous_commit", "off"),
        ("log_min_messages", "panic"),
        ("client_min_messages", "error"),
        ("plpgsql.variable_conflict", "use_variable"),
        ("plpgsql.variable_conflict", "use_column"),
        ("plpgsql.extra_errors", "all"),
        ("plpgsql.check_asserts", "off"),
        ("plpgsql.print_strict_params", "on"),
        ("default_statistics_target", "1"),
        ("from_collapse_limit", "1"),
        ("track_activities", "off"),
        ("track_counts", "off"),
        ("session_replication_role", "origin"),
        ("default_table_access_method", "heap"),
        ("default_toast_compression", "pglz"),
        ("force_parallel_mode", "on"),
        ("vacuum_freeze_min_age", "0"),
        ("lo_compat_privileges", "on"),
    ),
    "output-settings": OUTPUT,
}


def of_database(rng: random.Random, kinds: Kinds) -> list[tuple[str, str, str]]:
    """(setting, value, kind), a few of each kind."""
    return [
        (*pair, kind)
        for kind, pairs in DATABASE.items()
        if kind in kinds
        for pair in rng.sample(pairs, min(len(pairs), rng.randint(1, 4)))
    ]


def of_session(rng: random.Random, kinds: Kinds) -> list[tuple[str, str]]:
    """What a writer sets for itself."""
    return rng.sample(OUTPUT, rng.randint(1, 3)) if kinds.may(rng, "output-settings", 0.5) else []

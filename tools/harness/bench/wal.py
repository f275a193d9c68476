"""What a change adds to the write-ahead log: the same statements on a table that nobody watches, on one that rowcast
watches, and with wal_level = logical, with and without REPLICA IDENTITY FULL."""

import argparse
import contextlib
from typing import Any

from harness import cluster as kit
from harness import report

# 7 columns, 160 bytes of JSON; body and draft are null unless a measure fills them
TABLE = """create table public.visit (
  id int primary key, n int not null, pet_name text not null, reason text not null, seen_at timestamptz not null,
  body text, draft text)"""
COLUMNS = "id, n, pet_name, reason, seen_at, body, draft"
ROW = "{id}, 0, 'Luna', 'annual check and vaccination', now(), {body}, null"
# md5 does not compress, so a text is stored in as many bytes as it has
TEXT = "(select string_agg(md5(random()::text), '') from generate_series(1, {pieces}))"
WIDE, LONG = TEXT.format(pieces=47), TEXT.format(pieces=640)

INSERT = "insert into public.visit ({columns}) values ({row})"
UPDATE = "update public.visit set n = n + 1 where id = i"
DELETE = "delete from public.visit where id = i"
# what is measured: the text that the row has, the statement for row i, the arguments of rowcast.watch
MEASURES = {
    "INSERT of a row of 160 bytes": ("null", None, ""),
    "UPDATE of a number": ("null", UPDATE, ""),
    "UPDATE that changes nothing": ("null", "update public.visit set n = n where id = i", ""),
    "DELETE": ("null", DELETE, ""),
    "INSERT with 1.5 kB of text": (WIDE, None, ""),
    "UPDATE of a number beside it": (WIDE, UPDATE, ""),
    "DELETE of such a row": (WIDE, DELETE, ""),
    "INSERT with 20 kB of text, stored out of line": (LONG, None, ""),
    "UPDATE of a number beside them": (LONG, UPDATE, ""),
    "UPDATE of the 20 kB": (LONG, f"update public.visit set body = {LONG} where id = i", ""),
    "DELETE of such a large row": (LONG, DELETE, ""),
    "UPDATE of a number, the 20 kB excluded": (LONG, UPDATE, ", exclude => '{body}'"),
    "UPDATE of a text of 100 bytes that is excluded": (
        "null",
        f"update public.visit set draft = {TEXT.format(pieces=3)} where id = i",
        ", exclude => '{draft}'",
    ),
}
VARIANTS = {
    "unwatched": ("replica", False, False),
    "watched": ("replica", True, False),
    "unwatched, logical": ("logical", False, False),
    "the same, REPLICA IDENTITY FULL": ("logical", False, True),
}


def main(stack: contextlib.ExitStack) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1000, help="of each measure (default: 1000)")
    kit.add_arguments(parser)
    arguments = parser.parse_args()

    load = report.load_average()
    found: dict[str, dict[Any, Any]] = {measure: {} for measure in MEASURES}
    projected: dict[Any, Any] = {}
    for level in ("replica", "logical"):
        # the images of whole pages that follow a checkpoint depend on the checkpoints, not on the change
        cluster = kit.Cluster(stack, arguments, autovacuum="off", full_page_writes="off", wal_level=level)
        cluster.rowcast("migrate")
        cluster.psql(TABLE)
        for variant, (its_level, is_watched, is_full) in VARIANTS.items():
            if its_level != level:
                continue
            for measure, (body, statement, options) in MEASURES.items():
                watched = f"select rowcast.watch('public.visit'{options})" if is_watched else None
                found[measure][variant] = bytes_of_a_change(
                    cluster, body, statement, watched, is_full, arguments.changes
                )
                if is_watched:
                    projected[measure] = (
                        int(cluster.psql("select coalesce(sum(wal_bytes), 0) from rowcast.cost")) / arguments.changes
                    )
                kit.note(f"{measure:48}  {variant:32}  {found[measure][variant]:8.0f}")
    print(f"Bytes of write-ahead log a change, each in a transaction of its own; mean of {arguments.changes:,}.\n")
    print(
        report.table(
            ["", *VARIANTS, "added by capture", "as rowcast.cost has it"],
            [
                [
                    measure,
                    *(f"{figure:,.0f}" for figure in of.values()),
                    f"{of['watched'] - of['unwatched']:,.0f}",
                    f"{projected[measure]:,.0f}",
                ]
                for measure, of in found.items()
            ],
        )
    )
    print(
        "\n- Texts do not compress. Without the images of whole pages that follow a checkpoint (full_page_writes = off)."
    )
    cluster.settings.pop("wal_level")
    print(report.origin(cluster, load))
    return 0


def bytes_of_a_change(cluster: kit.Cluster, body: Any, statement: str, watched: Any, is_full: Any, changes: Any) -> Any:
    """A fresh table with the rows that the statement needs; what the log grows by, over so many transactions."""
    row = ROW.format(id="i", body=body)
    is_insert = statement is None
    cluster.psql(
        "select rowcast.unwatch('public.visit')",
        "truncate public.visit",
        f"alter table public.visit replica identity {'full' if is_full else 'default'}",
        *(
            []
            if is_insert
            else [f"insert into public.visit ({COLUMNS}) select {row} from generate_series(1, {changes}) i"]
        ),
        *([watched] if watched else []),
    )
    cluster.clear_outbox()
    one = INSERT.format(columns=COLUMNS, row=row) if is_insert else statement
    before = position(cluster)
    cluster.psql(f"do $$ begin for i in 1 .. {changes} loop {one}; commit; end loop; end $$")
    return (position(cluster) - before) / changes


def position(cluster: kit.Cluster) -> int:
    """Where the log ends: bytes since its beginning."""
    return int(cluster.psql("select pg_current_wal_insert_lsn() - '0/0'"))


if __name__ == "__main__":
    kit.main(main)

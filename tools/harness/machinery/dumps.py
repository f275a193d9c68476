"""pg_dump and back, with the commands of the guide: whole, and without what is rowcast's."""

# mypy: allow-untyped-calls
from __future__ import annotations

from contextlib import ExitStack

from .guides import blocks
from .stage import Database, Stage, Wrong, expect
from .upgrade import TABLES

# what a dump has behind the triggers: nothing of it is missing in the copy
BEHIND = (
    "create table owners (id int primary key)",
    "insert into owners select generate_series(1, 1000)",
    "alter table pets add foreign key (id) references owners",
    "create policy all_of_them on visits using (true)",
)
WATCH = "select rowcast.watch('pets', exclude => '{chip}', user_rule => 'select row.id'), rowcast.watch('visits')"


def run(stage: Stage, stack: ExitStack) -> str:
    """The machine."""
    database = stage.database(stack, "shop")
    database.sql(*TABLES, *BEHIND)
    database.install(WATCH)
    counts = []
    for text in blocks("dumps-and-upgrades.md", "sh"):
        if "pg_dump" in text and "createdb" in text:
            name = text.partition("createdb ")[2].split()[0]
            database.typed(text)
            counts.append(restored(Database(stage, stack, name, "bench"), text))
    expect(2, len(counts), "blocks of docs/guides/dumps-and-upgrades.md that dump and restore")
    return f"restored whole and without schema rowcast; {sum(counts)} rows told"


def restored(copy: Database, text: str) -> int:
    """A subscriber of the copy has its rows, and nothing of what is excluded was captured."""
    expect("", copy.drifts(), f"drifts after\n{text}")
    expect("1", copy.sql("select count(*) from pg_policy"), f"policies after\n{text}")
    foreign_keys = "select count(*) from pg_constraint where contype = 'f' and conrelid = 'pets'::regclass"
    expect("1", copy.sql(foreign_keys), f"foreign keys after\n{text}")
    copy.serve()
    copy.follow("pets", "pets", hidden="chip")
    copy.sql("insert into pets values (1000, 'after the restore', 'S3CR3T')", "delete from pets where id < 5")
    count = copy.told("pets", "pets", hidden="chip")
    if "S3CR3T" in copy.sql("select string_agg(o::text, '') from rowcast.outbox o"):
        raise Wrong("an excluded column was captured")
    return count

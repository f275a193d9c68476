"""The watched tables of the soak: how they are made, and what the checker may rely on in each.

Every write that a subscriber may see follows one rule: a row starts with version 1 and each update adds 1, so a message
tells by itself whether it is the next of its row. A key is never used again, and no writer deletes and inserts a key in
one transaction: such a pair in the outbox is a row that moved between partitions.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

HOT_ROWS = 40  # counters that are there from the start
OTHER_COUNTERS = range(1000, 1300)  # made by the writer that comes first
ACCOUNTS = 4  # each with its total
REGIONS = ("north", "south", "east", "west")  # the last two share the default partition


@dataclass(frozen=True)
class Channel:
    """A channel and the table behind it."""

    name: str
    key: str
    version: str
    table: str  # its definition
    first_rows: str
    sentinel: str  # inserts a last row, and returns its key
    shown: str = "true"  # rows that subscribers may know of

    @staticmethod
    def is_secret(row: dict[str, Any]) -> Any:
        """Whether a row was written under rowcast.mute; `shown` says the same in SQL."""
        return row.get("silent", False)


CHANNELS = (
    Channel(
        name="counters",
        key="k",
        version="v",
        table="create table counters (k int primary key, v bigint not null);",
        first_rows=f"insert into counters select k, 1 from generate_series(0, {HOT_ROWS - 1}) k;",
        sentinel="insert into counters values (-1, 1) returning k",
    ),
    Channel(
        name="items",
        key="id",
        version="n",
        table="create table items (id int generated always as identity primary key, owner int not null, note text, n numeric not null);",
        first_rows="insert into items (owner, note, n) select i % 7, 'there from the start', 1 from generate_series(1, 500) i;",
        sentinel="insert into items (owner, note, n) values (-1, 'the last one', 1) returning id",
    ),
    Channel(
        name="parts",
        key="id",
        version="n",
        table="""create table parts (id int generated always as identity, region text not null, note text, n int not null,
                   primary key (id, region)) partition by list (region);
                 create table parts_north partition of parts for values in ('north');
                 create table parts_south partition of parts for values in ('south');
                 create table parts_other partition of parts default;""",
        first_rows="insert into parts (region, n) select (array['north', 'south', 'east', 'west'])[1 + i % 4], 1 from generate_series(1, 200) i;",
        sentinel="insert into parts (region, note, n) values ('north', 'the last one', 1) returning id",
    ),
    Channel(
        name="whispers",
        key="id",
        version="n",
        table="create table whispers (id int generated always as identity primary key, silent bool not null, n int not null);",
        first_rows="insert into whispers (silent, n) values (false, 1);",
        sentinel="insert into whispers (silent, n) values (false, 1) returning id",
        shown="not silent",
    ),
    Channel(
        name="entries",
        key="id",
        version="n",
        table="create table entries (id int generated always as identity primary key, account int not null, amount int not null, n int not null);",
        first_rows=f"insert into entries (account, amount, n) select i % {ACCOUNTS}, i, 1 from generate_series(1, 40) i;",
        sentinel="insert into entries (account, amount, n) values (0, 0, 1) returning id",
    ),
    Channel(
        name="totals",
        key="account",
        version="n",
        table="create table totals (account int primary key, total int not null, n int not null);",
        first_rows="insert into totals select account, sum(amount), 1 from entries group by account;",
        sentinel="insert into totals values (-1, 0, 1) returning account",
    ),
)


def disagreements(entries: Any, totals: Any) -> list[Any]:
    """Accounts whose entries do not add up to their total, as texts. Each transaction leaves none."""
    sums: Counter[Any] = Counter()
    for row in entries.values():
        sums[row["account"]] += row["amount"]
    return [
        f"the entries of account {account} add up to {sums[account]}, its total is {row['total']}, version {row['n']}"
        for account, row in totals.items()
        if sums[account] != row["total"]
    ]

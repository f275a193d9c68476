"""Names that an application may have given to its tables and columns."""

from __future__ import annotations

import random

from .charset import Charset

PLAIN = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "price",
    "title",
    "amount",
    "state",
    "note",
    "owner_id",
    "created_at",
    "kind_of",
    "pos",
    "flag",
)
# reserved words, names that our own SQL uses, and names that need more than one kind of quoting
ODD = (
    "r",
    "q",
    "t",
    "c",
    "o",
    "x",
    "p",
    "old",
    "new",
    "row",
    "value",
    "id",
    "channel",
    "user",
    "order",
    "select",
    "table",
    "json",
    "data",
    "op",
    "before",
    "after",
    "rule",
    "users",
    "target",
    "name",
    "type",
    "excluded",
    "oid",
    "actor",
    "cursor",
    "key",
    "rows",
    "last",
    "tx",
    "rings",
    "row_to_json",
    "tg_op",
    "deviates",
    "format",
    "public",
    "pg_catalog",
    "rowcast",
    "outbox",
    "Mixed Case",
    "ID",
    "a.b",
    'quo"te',
    "per%cent",
    "do$$llar",
    "back\\slash",
    "{brace}",
    "it's",
    "tab\there",
    "semi;colon",
    "--dash",
    "/*star",
    "a,b",
    "(paren)",
    " lead",
    "1st",
    "n" * 63,
)


class Names:
    """Gives each name once."""

    def __init__(self, rng: random.Random, charset: Charset, odd: bool, has_r: bool = True) -> None:
        self._rng, self._charset, self._odd = rng, charset, odd
        self._taken: set[str] = set() if has_r else {"r"}

    def fresh(self) -> str:
        """A name that was not given yet, not quoted."""
        for _ in range(50):
            roll = self._rng.random()
            if not self._odd or roll < 0.3:
                name = self._rng.choice(PLAIN)
            elif roll < 0.92:
                name = self._rng.choice(ODD)
            else:
                name = self._rng.choice(self._charset.words).strip("\x01\x7f\ufeff\u2028")
            if name not in self._taken:
                break
        else:
            name = f"n{len(self._taken)}"
        self._taken.add(name)
        return name


def quoted(name: str) -> str:
    """The name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | None) -> str:
    """The text as a constant, whatever standard_conforming_strings says."""
    if text is None:
        return "null"
    body = text.replace("'", "''")
    return "e'" + body.replace("\\", "\\\\") + "'" if "\\" in body else f"'{body}'"

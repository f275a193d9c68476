"""What is known of a round while it runs: its databases, its sessions, who listens, and what was found.

Owns the findings. Knows neither how a round is carried out nor what is right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .audience import Audience
from .names import literal
from .plan import Plan, Watch
from .stage import Relay, Stage
from .wire import Connection


@dataclass(frozen=True)
class Finding:
    """What was expected and what was seen. `sort` and `state` tell whether two are of the same kind."""

    sort: str
    state: str
    seen: str
    turn: int = -1

    @property
    def signature(self) -> str:
        return f"{self.sort} {self.state}".strip()


@dataclass
class Pair:
    """A session in each of the two databases."""

    subject: Connection
    twin: Connection

    def close(self) -> None:
        self.subject.close()
        self.twin.close()


@dataclass
class Record:
    """One round, as far as it has come."""

    stage: Stage
    plan: Plan
    number: int
    patience: float = 60.0  # seconds; a debug binary beside a busy machine needs ten for a bulk change
    findings: list[Finding] = field(default_factory=list)
    watches: dict[str, Watch] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    pairs: dict[int, Pair] = field(default_factory=dict)
    relay: Relay | None = None
    audience: Audience | None = None
    admin: Connection | None = None

    @property
    def subject(self) -> str:
        """The database with rowcast."""
        return f"s{self.number}"

    @property
    def twin(self) -> str:
        """The database without."""
        return f"w{self.number}"

    def find(self, sort: str, state: str, seen: str, turn: int = -1) -> None:
        """Notes a finding."""
        self.findings.append(Finding(sort, state, seen[:4000], turn))

    # What the database says of a channel

    def channels(self) -> dict[str, str]:
        """The channels that have a table, and its number."""
        assert self.admin
        return dict(
            (name, oid)
            for name, oid in self.admin.texts(
                "select c.name, c.target::oid::text from rowcast.channel c join pg_catalog.pg_class k on k.oid = c.target order by 1"
            )
        )

    def key_of(self, channel: str) -> list[str]:
        assert self.admin
        oid = self.channels().get(channel)
        if oid is None:
            return []
        return [
            name
            for (name,) in self.admin.texts(
                f"select a.attname from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey) "
                f"where i.indrelid = {oid} and i.indisprimary order by a.attnum"
            )
        ]

    def hidden_of(self, channel: str) -> set[str]:
        """Names that may not be told: as they were given, and what these columns are called now."""
        assert self.admin
        given = set(self.watches[channel].hidden) if channel in self.watches else set()
        return given | {
            name
            for (name,) in self.admin.texts(
                f"select a.attname from rowcast.channel c join pg_catalog.pg_attribute a on a.attrelid = c.target and "
                f"a.attnum = any (c.exclude) where c.name = {literal(channel)} and not a.attisdropped"
            )
        }

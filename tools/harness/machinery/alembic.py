"""Alembic: autogenerate over all schemas proposes nothing with the line of the guide, upgrade and downgrade beside
subscribers.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from .guides import block
from .stage import PROJECTS, Database, Stage, Wrong, expect
from .tools import python


def run(stage: Stage, stack: ExitStack) -> str:
    """The machine."""
    database = stage.database(stack, "alembic")
    folder = database.folder() / "project"
    shutil.copytree(PROJECTS / "alembic", folder)
    env = folder / "migrations/env.py"
    template = env.read_text(encoding="utf-8")

    def alembic(*words: str) -> str:
        return database.tool([python(), "-B", "-m", "alembic", *words], cwd=folder)

    alembic("upgrade", "0001")
    database.install("select rowcast.watch_schema('public')")
    database.sql("insert into pet (name, weight) select 'Luna ' || n, n from generate_series(1, 9) n")
    database.serve()
    database.follow("pet", "pet")
    for words in (("upgrade", "0002"), ("upgrade", "0004"), ("downgrade", "0001"), ("upgrade", "head")):
        alembic(*words)
        rows(database)
    proposed = proposals(
        alembic("revision", "--autogenerate", "-m", "without", "--rev-id", "without"),
        folder / "migrations/versions/without_without.py",
    )
    if "outbox" not in proposed:
        raise Wrong(
            f"without the line of the guide, rowcast's tables are proposed to be dropped, and now they are not:\n{proposed}"
        )
    (folder / "migrations/versions/without_without.py").unlink()
    env.write_text(template.replace("# the guide's lines\n", block("alembic.md", "python")), encoding="utf-8")
    proposed = proposals(
        alembic("revision", "--autogenerate", "-m", "with", "--rev-id", "with"),
        folder / "migrations/versions/with_with.py",
    )
    expect("    pass", proposed, "what autogenerate proposes with the line of the guide")
    return "3 migrations up and down; autogenerate proposes nothing"


def proposals(_said: str, file: Path) -> str:
    """The body of `upgrade` of a revision that was generated."""
    text = file.read_text(encoding="utf-8")
    body = text.partition("def upgrade() -> None:")[2].partition("def downgrade")[0]
    return "\n".join(line for line in body.splitlines() if line.strip() and not line.strip().startswith(("#", '"""')))


def rows(database: Database) -> None:
    """The subscriber has the rows, and nothing drifts."""
    database.told("pet", "pet")
    expect("", database.drifts(), "drifts")

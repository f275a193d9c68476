"""Rails: ActiveRecord's migrations and models, schema.rb, and structure.sql with the lines of the guide."""

# mypy: allow-untyped-calls
from __future__ import annotations

import shutil
from contextlib import ExitStack

from .guides import block
from .stage import PROJECTS, Database, Stage, Wrong, expect
from .tools import installed

HIDDEN = "chip"


def run(stage: Stage, stack: ExitStack) -> str:
    """The machine."""
    installed("ruby-activerecord", "ruby-pg")
    database = stage.database(stack, "rails")
    folder = database.folder() / "project"
    shutil.copytree(PROJECTS / "rails", folder)

    def rails(*words: str, env: dict[str, str] | None = None) -> str:
        return database.tool(["ruby", "-W0", "run.rb", *words], cwd=folder, env=env)

    rails("migrate", "1")
    database.typed(block("rails.md", "sh"))
    database.let_log_in()
    database.sql(
        "insert into pets (name, weight, clinic_id, created_at, updated_at) select 'Luna ' || n, n, 1, now(), now() from generate_series(1, 9) n"
    )
    database.serve()
    database.follow("pets", "pets")
    database.follow("clinics", "clinics")
    rails("migrate", "4")
    database.told("pets", "pets")
    rails("write")
    count = database.told("pets", "pets") + database.told("clinics", "clinics")
    rails("rollback", "3")
    rails("migrate", "4")
    rails("write")
    database.told("pets", "pets")
    expect("", database.drifts(), "drifts")
    schema = rails("schema")
    if "rowcast" in schema or "outbox" in schema:
        raise Wrong(f"schema.rb has rowcast's: {schema[:500]}")
    structure(stage, stack, database, rails("structure"))
    return f"4 migrations and back, {count} rows told; schema.rb and structure.sql have nothing of rowcast"


def structure(stage: Stage, stack: ExitStack, database: Database, plain: str) -> None:
    """The dump of the schema is loaded where rowcast is not, as the test database of an application is."""
    if "!rowcast" not in plain:
        raise Wrong("structure.sql has nothing of rowcast even without the lines of the guide")
    folder = database.folder() / "project"
    (folder / "rowcast.rb").write_text(block("rails.md", "ruby", "structure_dump"), encoding="utf-8")
    dumped = database.tool(["ruby", "-W0", "run.rb", "structure"], cwd=folder)
    ours = [line for line in dumped.splitlines() if "rowcast" in line and not line.startswith("--")]
    expect([], ours, "what structure.sql has of rowcast")
    other = stage.database(stack, "rails_test")
    other.tool(["ruby", "-W0", "run.rb", "load"], cwd=folder)
    other.sql("insert into clinics (id, name, created_at, updated_at) values (1, 'North', now(), now())")

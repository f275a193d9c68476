"""Node: Prisma, Drizzle and Knex migrate a watched table and write to it by their own means."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from .guides import block
from .stage import PROJECTS, Database, Stage, Wrong, expect
from .tools import node

ROWS = "insert into \"Pet\" (name, weight) select 'Luna ' || n, n from generate_series(1, 9) n"
# a Prisma that finds these asks no server for the native engines, which it does not use
ENGINES = {
    "PRISMA_QUERY_ENGINE_LIBRARY": "/bin/true",
    "PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true",
    "CHECKPOINT_DISABLE": "1",
}
Run = Callable[..., str]


def project(database: Database) -> tuple[Path, Run]:
    """A copy of the project of that name beside node_modules, and how its programs are run."""
    folder = node() / f"project-{database.name}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PROJECTS / database.name, folder)
    database._stack.callback(shutil.rmtree, folder, ignore_errors=True)
    programs = folder.parent / "node_modules/.bin"

    def run(program: str, *words: str) -> str:
        env = {**ENGINES, "DATABASE_URL": database.url, "NO_COLOR": "1"}
        command = ["node"] if program == "node" else [programs / program]
        return database.tool([*command, *words], cwd=folder, env=env)

    return folder, run


def watch(database: Database, tool: str) -> None:
    """rowcast comes to tables that are there."""
    database.typed(block("node.md", "sh", f"# {tool}"))
    database.let_log_in()
    database.sql(ROWS)
    database.serve()
    database.follow('"Pet"', "pet")


def nothing_of_ours(text: str, what: str) -> None:
    """A tool that reads the database has seen the application's tables alone."""
    if "Pet" not in text or "rowcast" in text or "outbox" in text:
        raise Wrong(f"{what}:\n{text[-1500:]}")


def prisma(stage: Stage, stack: ExitStack) -> str:
    """Prisma 6 with its schema engine as WebAssembly, over pg."""
    database = stage.database(stack, "prisma")
    folder, run = project(database)
    schema = folder / "schema.prisma"

    def migrate(name: str, old: str = "", new: str = "") -> None:
        if old:
            schema.write_text(schema.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        run("prisma", "migrate", "dev", "--name", name)

    migrate("init")
    watch(database, "Prisma")
    migrate("add", "  weight Int\n", '  weight Int\n  species String @default("cat")\n  notes Json?\n')
    database.told('"Pet"', "pet")
    run("node", "write.mjs")
    count = database.told('"Pet"', "pet")
    expect("", database.drifts(), "drifts")
    said = run("prisma", "db", "push", "--skip-generate")
    if "already in sync" not in said:
        raise Wrong(f"prisma db push would change something:\n{said}")
    nothing_of_ours(run("prisma", "db", "pull", "--print"), "prisma db pull")
    return f"2 migrations, {count} rows told; db push has nothing to do, db pull shows nothing of rowcast"


def drizzle(stage: Stage, stack: ExitStack) -> str:
    """drizzle-kit: generate, migrate, push, pull."""
    database = stage.database(stack, "drizzle")
    folder, run = project(database)
    schema = folder / "schema.mjs"

    def migrate(old: str = "", new: str = "") -> None:
        if old:
            schema.write_text(schema.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        run("drizzle-kit", "generate")
        run("drizzle-kit", "migrate")

    migrate()
    watch(database, "Drizzle")
    migrate(
        'weight: integer("weight").notNull(),',
        'weight: integer("weight").notNull(),\n  species: text("species").default("cat").notNull(),',
    )
    migrate('weight: integer("weight")', 'weight: numeric("weight", { precision: 8, scale: 2 })')
    database.told('"Pet"', "pet")
    run("node", "write.mjs")
    count = database.told('"Pet"', "pet")
    expect("", database.drifts(), "drifts")
    said = run("drizzle-kit", "push", "--force", "--verbose")
    if "drop" in said.lower() or "rowcast" in said:
        raise Wrong(f"drizzle-kit push would change something:\n{said}")
    run("drizzle-kit", "pull", "--config", "pull.config.ts")
    nothing_of_ours((folder / "pulled/schema.ts").read_text(encoding="utf-8"), "drizzle-kit pull")
    return f"3 migrations, {count} rows told; push changes nothing, pull shows nothing of rowcast"


def knex(stage: Stage, stack: ExitStack) -> str:
    """Knex: up, down, batch inserts, transactions."""
    database = stage.database(stack, "knex")
    _, run = project(database)
    run("knex", "migrate:up")
    watch(database, "Knex")
    run("knex", "migrate:latest")
    database.told('"Pet"', "pet")
    run("node", "write.mjs")
    count = database.told('"Pet"', "pet")
    run("knex", "migrate:down")
    run("knex", "migrate:latest")
    database.told('"Pet"', "pet")
    expect("", database.drifts(), "drifts")
    return f"3 migrations and back, {count} rows told"

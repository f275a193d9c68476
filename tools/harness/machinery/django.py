"""Django: real migrations beside subscribers, its models, `inspectdb`, squashed migrations, the test database. And the
schema of django-oscar, for `strangers`.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import hashlib
import shutil
from contextlib import ExitStack
from pathlib import Path

from .guides import block
from .stage import PROJECTS, TOOL_WITHIN, Database, Stage, Wrong, expect
from .tools import HERE, KEPT, python

STEPS = ("0002_add", "0003_fill", "0004_rename", "0005_alter", "0006_remove", "0007_rename_model")
MIGRATED_WITHIN = 600  # seconds: django-oscar has many migrations
LOOKED_AT = ("0003_fill", "0007_rename_model")  # DDL is told within ten seconds
ROW = "insert into clinic_pet (name, weight, chip, client_id) select 'Luna ' || n, n, 'S3CR3T', 1 from generate_series(1, 5) n"


class Project:
    """A copy of projects/django beside a database."""

    def __init__(self, database: Database, settings: str = "settings") -> None:
        self.database, self.settings = database, settings
        self.folder: Path = database.folder() / "project"
        shutil.copytree(PROJECTS / "django", self.folder)

    def python(self, *words: str, within: int = TOOL_WITHIN) -> str:
        """A program of the project."""
        env = {"DJANGO_SETTINGS_MODULE": self.settings, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        return self.database.tool([python(), *words], env=env, cwd=self.folder, within=within)

    def manage(self, *words: str, within: int = TOOL_WITHIN) -> str:
        """What manage.py does."""
        return self.python("-m", "django", *words, within=within)


def run(stage: Stage, stack: ExitStack) -> str:
    """The machine. The application's role owns the database and knows nothing of rowcast, which a superuser has installed."""
    stage.cluster.psql("create role django login createdb")
    database = stage.database(stack, "django_clinic", "django")
    project = Project(database)
    project.manage("migrate", "auth", "--verbosity=0")
    project.manage("migrate", "clinic", "0001", "--verbosity=0")
    database.typed(block("django.md", "sh"))
    database.let_log_in()
    database.script(block("django.md", "sql", "auth_user"))
    database.sql("select rowcast.watch('clinic_pet', exclude => '{chip}')")
    database.sql("insert into clinic_client (name) values ('Ann')", ROW)
    database.serve()
    database.follow("clinic_pet", "clinic-pet", hidden="chip")
    database.follow("clinic_client", "clinic-client")
    database.follow("auth_permission", "auth-permission")
    owners = "clinic_client"
    for step in STEPS:
        project.manage("migrate", "clinic", step, "--verbosity=0")
        owners = "clinic_owner" if step == STEPS[-1] else owners
        if step in LOOKED_AT:
            database.told("clinic_pet", "clinic-pet", hidden="chip")
            database.told(owners, "clinic-client")
        if step == "0006_remove":  # the excluded column is gone
            expect(
                "1",
                database.sql("select count(*) from rowcast.watched where drift ~ 'excluded column is gone'"),
                f"drifts after {step}",
            )
            database.script(block("dumps-and-upgrades.md", "sql", "gexec"))
        if (
            step in LOOKED_AT
        ):  # beside an excluded column a new one is readable within ten seconds, or once somebody asks
            database.comes_to("select count(*) from rowcast.watched where drift is not null", "0")
    database.comes_to("select count(*) from rowcast.channel where name = 'clinic-pet-friends'", "1")
    database.follow("clinic_pet_friends", "clinic-pet-friends")
    project.python("write.py")
    count = (
        database.told("clinic_pet", "clinic-pet")
        + database.told(owners, "clinic-client")
        + database.told("clinic_pet_friends", "clinic-pet-friends")
    )
    database.told("auth_permission", "auth-permission")
    if "S3CR3T" in database.sql("select string_agg(o::text, '') from rowcast.outbox o"):
        raise Wrong("an excluded column was captured")
    nothing_of_ours(database, project)
    back_and_forth(database, project)
    return f"{len(STEPS)} migrations and back, {count} rows told"


def nothing_of_ours(database: Database, project: Project) -> None:
    """What looks at the schema sees only the application's."""
    expect(
        "No changes detected",
        project.manage("makemigrations", "--check", "--dry-run").strip(),
        "makemigrations --check",
    )
    models = project.manage("inspectdb")
    if "rowcast" in models.lower() or "outbox" in models.lower():
        raise Wrong(f"inspectdb shows rowcast's tables: {models[:500]}")
    project.manage("test", "--verbosity=0")
    expect(
        "",
        database.sql("select datname from pg_database where datname like 'test_django%'"),
        "databases that a test has left",
    )
    project.manage("squashmigrations", "clinic", "0004", "0007", "--noinput", "--verbosity=0")
    project.manage("migrate", "clinic", "--verbosity=0")
    database.told("clinic_pet", "clinic-pet")


def back_and_forth(database: Database, project: Project) -> None:
    """All tables are dropped and made anew, as a developer does: what is printed watches them again."""
    project.manage("migrate", "clinic", "zero", "--verbosity=0")
    project.manage("migrate", "clinic", "--verbosity=0")
    # what has a name that no watched table had is new, and the relay watches it by itself
    expect(
        "clinic_pet",
        database.sql('select "table" from rowcast.unwatched where "table" = \'clinic_pet\'::regclass'),
        "tables to be watched again",
    )
    database.script(block("django.md", "sql", "gexec"))
    database.script(
        block("dumps-and-upgrades.md", "sql", "gexec")
    )  # of the model that had another name when it was watched
    expect("", database.drifts(), "drifts after the remedies")
    project.python("write.py")
    for table, channel in (("clinic_pet", "clinic-pet"), ("clinic_owner", "clinic-owner")):
        if channel == "clinic-owner":
            database.follow(table, channel)
        database.told(table, channel)


def oscar_schema(stage: Stage) -> str:
    """The schema of a shop, as its migrations make it, and what they write. Kept, since they take a minute."""
    packages = (HERE / "python-packages.txt").read_bytes()
    kept = KEPT / f"oscar-{stage.major}-{hashlib.sha256(packages).hexdigest()[:16]}.sql"
    if not kept.exists():
        with ExitStack() as stack:
            database = stage.database(stack, "oscar_source")
            Project(database, "oscar_settings").manage(
                "migrate", "--verbosity=0", "--skip-checks", within=MIGRATED_WITHIN
            )
            made = database.tool([stage.bin / "pg_dump", "--no-owner"])
        part = kept.with_suffix(".part")
        part.write_text(made, encoding="utf-8")
        part.rename(kept)
    return kept.read_text(encoding="utf-8")

"""The packages of native capture, each in a Debian that has the Postgres it is for: apt installs it, a row is captured by it, and dpkg
does not remove it while it is in use.
"""

import contextlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from harness import cluster as kit

from .roots import KEPT, debian_root, remains
from .stage import WITHIN, Missing, Stage

DATABASE = "postgres://postgres@%2Fvar%2Frun%2Fpostgresql/postgres"
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DATABASE_URL": DATABASE,
}
CAPTURED = """select string_agg(op::text || coalesce(old::text, '') || coalesce(new::text, ''), ' ' order by id)
    from rowcast.outbox where op in ('I', 'U', 'D')"""
LANGUAGE = (
    "select lanname from pg_proc p join pg_language l on l.oid = prolang where p.oid = 'rowcast.capture'::regproc"
)


def run(stage: Stage) -> str:
    packages = {major_of(file): file for file in stage.files.glob("postgresql-*-rowcast-capture_*.deb")}
    if not packages:
        raise Missing("no package of native capture was made: no headers of a server")
    root = Root(debian_root(stage, "native"))
    root.begin(stage.file("rowcast_*.deb"))
    tried = [major for major in sorted(packages) if root.knows(f"postgresql-{major}")]
    for major in tried:
        captures(root, major, packages[major])
    untried = f"{stage.debian} has no Postgres {', '.join(map(str, sorted(packages.keys() - set(tried))))}"
    if not tried:
        raise Missing(untried)
    said = f"Postgres {', '.join(map(str, tried))}: installed, captured, kept while in use, removed"
    return said if len(tried) == len(packages) else f"{said}; {untried}"


def major_of(package: Path) -> int:
    """The Postgres that a package is for."""
    return int(package.name.split("-")[1])


class Root:
    """A Debian, without a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, rowcast: Path) -> None:
        """Knows what apt has, starts nothing that it installs, and has the server's package."""
        shutil.copy("/etc/resolv.conf", self.folder / "etc/resolv.conf")
        policy = self.folder / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
        self.run("apt-get", "-qq", "update")
        self.install(rowcast)

    def run(self, *command: str, user: str = "root", refused: bool = False) -> str:
        """What a program says there; or complains of, where it has to refuse."""
        inside = ["chroot", f"--userspec={user}:{user}", str(self.folder), *command]
        done = subprocess.run(inside, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if (done.returncode != 0) is not refused:
            raise kit.Failure(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
        return (done.stderr if refused else done.stdout).strip()

    def psql(self, *statements: str) -> str:
        """As the superuser of the server there, who is asked for no password."""
        commands = [part for statement in statements for part in ("-c", statement)]
        return self.run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", *commands, DATABASE, user="postgres")

    def knows(self, package: str) -> bool:
        """Whether apt could install it."""
        told = self.run("apt-cache", "policy", package)
        return "Candidate:" in told and "Candidate: (none)" not in told

    def install(self, package: Path) -> None:
        """With what it depends on, as an operator does."""
        shutil.copy(package, self.folder / KEPT)
        self.run("apt-get", "-qq", "install", "--yes", "--no-install-recommends", f"/{KEPT}/{package.name}")

    @contextlib.contextmanager
    def serving(self, major: int) -> Iterator[None]:
        """The server that its package has prepared, reached by its Unix socket alone."""
        for setting, value in (("listen_addresses", ""), ("port", "5432")):
            self.run("pg_conftool", str(major), "main", "set", setting, value)
        log = self.folder.parent / f"postgres-{major}.log"
        program = f"/usr/lib/postgresql/{major}/bin/postgres"
        settings = f"config_file=/etc/postgresql/{major}/main/postgresql.conf"
        command = ["chroot", "--userspec=postgres:postgres", str(self.folder), program, "-c", settings]
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        try:
            deadline = time.monotonic() + WITHIN
            ready = ["chroot", str(self.folder), "pg_isready", "--quiet", "--host=/var/run/postgresql"]
            while subprocess.run(ready, env=ENVIRONMENT).returncode:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise kit.Failure(f"Postgres {major} did not start in {self.folder}:\n{kit.tail(log)}")
                time.sleep(0.05)
            yield
        finally:
            kit.stop(process, signal.SIGINT, f"Postgres {major}", WITHIN)


def captures(root: Root, major: int, package: Path) -> None:
    """From the installation to the removal."""
    before = remains(root.folder)
    root.install(package)
    name = package.name.partition("_")[0]
    with root.serving(major):
        root.run("rowcast", "migrate", user="postgres")
        root.psql("create table pets (pet_id int primary key, name text)", "select rowcast.watch('pets')")
        root.psql("select rowcast.configure('capture', 'native')", "insert into pets values (1, 'Luna')")
        expect(root, "c", 'I{"pet_id":1,"name":"Luna"}')
        refused = root.run("dpkg", "--remove", name, refused=True)
        remedy = re.search(r"select rowcast\.configure\('capture', 'plpgsql'\)", refused)
        if not remedy:
            raise kit.Failure(f"{name} is in use, and is not removed for another reason:\n{refused}")
        root.psql(remedy[0])
        root.run("dpkg", "--purge", name)
        root.psql("delete from pets")
        expect(root, "plpgsql", 'I{"pet_id":1,"name":"Luna"} D{"pet_id":1,"name":"Luna"}')
    left = set(remains(root.folder)) - set(before)
    if left:
        raise kit.Failure(f"{name}, purged, leaves {left}")


def expect(root: Root, language: str, captured: str) -> None:
    """By which code, and what."""
    found = root.psql(LANGUAGE, CAPTURED)
    if found != f"{language}\n{captured}":
        raise kit.Failure(f"in the outbox is {found}, and should be {captured}, by {language}")

"""Debian packages of the library of native/, one for each Postgres whose headers this machine has: what a DBA installs beside the
server, before `rowcast.configure('capture', 'native')`. Where the headers come from is the affair of apt.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import cluster as kit

from . import binaries, debian
from .release import Release

VERSIONS = range(14, 19)
LIBRARY = "rowcast_capture.so"
# Without the library every write to a watched table fails, so it stays while a database uses it. A server that does not run is not
# asked, and neither is one that lets its owner in by a password alone.
PRERM = """\
#!/bin/sh
set -e
ask() {
    runuser -u "$owner" -- psql -XAtq --cluster "MAJOR/$cluster" -d "$1" -c "$2" </dev/null
}
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && command -v pg_lsclusters >/dev/null; then
    cd /
    pg_lsclusters --no-header | while read -r version cluster _ status owner _; do
        case "$version $status" in "MAJOR online"*) ;; *) continue ;; esac
        ask postgres "select datname from pg_database where datallowconn" | while read -r database; do
            schema=$(ask "$database" "select pronamespace::regnamespace from pg_proc where probin like '%rowcast_capture' limit 1")
            [ -z "$schema" ] || {
                echo "PACKAGE: writes to the watched tables of database $database of MAJOR/$cluster need it;" \\
                    "first, in that database: select $schema.configure('capture', 'plpgsql')" >&2
                exit 1
            }
        done
    done
fi
"""


def write(release: Release) -> Iterator[Path]:
    known = {major: headers(major) for major in VERSIONS}
    missing = [f"postgresql-server-dev-{major}" for major, pg_config in known.items() if not pg_config]
    if missing:
        kit.note(f"no library of native capture for want of {', '.join(missing)}")
    for major, pg_config in known.items():
        if pg_config:
            yield package(release, major, pg_config)


def headers(major: int) -> Path | None:
    """The pg_config that knows them, where Debian's packages and those of apt.postgresql.org lay it."""
    pg_config = Path(f"/usr/lib/postgresql/{major}/bin/pg_config")
    if not pg_config.exists():
        return None
    return pg_config if Path(said(pg_config, "--includedir-server"), "postgres.h").exists() else None


def name(major: int) -> str:
    """Of the package, as Debian names what is for one version of Postgres."""
    return f"postgresql-{major}-rowcast-capture"


def package(release: Release, major: int, pg_config: Path, *options: str) -> Path:
    """With `options` of dpkg-deb."""
    release.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=release.work) as folder:
        library = build(release.root, Path(folder) / "built", pg_config)
        tree = Path(folder) / "tree"
        place, about = (
            tree / path.lstrip("/") for path in (said(pg_config, "--pkglibdir"), f"usr/share/doc/{name(major)}")
        )
        for each in (place, about):
            each.mkdir(parents=True)
        shutil.copyfile(library, place / LIBRARY)
        debian.tell(release, about)
        debian.readable(tree)
        control = {
            "Package": name(major),
            "Depends": f"postgresql-{major}, {debian.libraries(library)}",
            "Enhances": "rowcast",
            "Section": "database",
            "Description": f"native capture of rowcast for PostgreSQL {major}\n"
            " The library that rowcast.configure('capture', 'native') uses: row changes\n"
            " are captured for less of a writer's time than by triggers in PL/pgSQL. It\n"
            " does nothing until a superuser says so.",
        }
        prerm = PRERM.replace("MAJOR", str(major)).replace("PACKAGE", name(major))
        return debian.pack(release, tree, control, {"prerm": prerm}, *options)


def build(root: Path, folder: Path, pg_config: Path) -> Path:
    """The library of the source in `root`, the same in whichever folder."""
    folder.mkdir(parents=True)
    for file in ("Makefile", "rowcast_capture.c"):
        shutil.copy(root / "native" / file, folder)
    flags = f"-Werror -ffile-prefix-map={folder}=/rowcast/native"
    kit.run(["make", "--silent", f"--directory={folder}", f"PG_CONFIG={pg_config}", f"COPT={flags}"])
    library = folder / LIBRARY
    kit.run(["strip", "--strip-unneeded", "--remove-section=.comment", "--remove-section=.note", library])
    binaries.refuse_paths(library, [str(folder), str(root)])
    return library


def said(pg_config: Path, what: str) -> str:
    return kit.output([pg_config, what]).strip()

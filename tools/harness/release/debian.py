"""The Debian package: program, unit, settings; and how any package is packed. Made by dpkg-deb, so that Debian's own program decides
on the format.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness import cluster as kit

from .release import Release, compressed

DEPLOY = ("alerts.yml", "grafana.json", "haproxy.cfg", "nginx.conf", "prometheus.yml")
SETTINGS = """\
# Settings of rowcast, read by its unit as root: secrets may stand here. All of them: `rowcast serve --help`.
# Then: systemctl enable --now rowcast
#DATABASE_URL=postgres://rowcast_relay:password@localhost/mydb
#ROWCAST_LISTEN=127.0.0.1:8000
#ROWCAST_JWT_SECRET=
"""
# A package that is installed starts nothing: there is no database to name yet. One that is updated starts the new program.
POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if [ -n "$2" ]; then systemctl try-restart rowcast.service; fi
fi
"""
PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
    systemctl disable --now rowcast.service rowcast.socket || true
fi
"""
POSTRM = """\
#!/bin/sh
set -e
if [ "$1" = purge ]; then rm -rf "$DPKG_ROOT/etc/rowcast"; fi
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
"""


def write(release: Release, program: Path, third_party: Path, *options: str) -> Path:
    """With `options` of dpkg-deb."""
    release.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=release.work) as folder:
        tree = Path(folder) / "tree"
        lay_out(release, tree, program, third_party)
        readable(tree)
        (tree / "etc/rowcast/rowcast.env").chmod(0o600)
        said = {
            "Package": "rowcast",
            "Depends": f"{libraries(program)}, ca-certificates",
            "Section": "net",
            "Description": "committed Postgres row changes on WebSockets\n"
            " rowcast relays rows that any writer has committed to browsers, within\n"
            " milliseconds and in commit order. It needs no replication slot and no\n"
            " extension: rowcast migrate installs its triggers.",
        }
        texts = {
            "conffiles": "/etc/rowcast/rowcast.env\n",
            "postinst": POSTINST,
            "prerm": PRERM,
            "postrm": POSTRM,
        }
        return pack(release, tree, said, texts, *options)


def readable(tree: Path) -> None:
    """What is installed is read by all, and written by root."""
    for path in [tree, *tree.rglob("*")]:
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


def pack(release: Release, tree: Path, said: dict[str, str], texts: dict[str, str], *options: str) -> Path:
    """The files in `tree`, with what is said of this package, the scripts of dpkg, and `options` of dpkg-deb."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", str(release.epoch))
    architecture = kit.output(["dpkg", "--print-architecture"]).strip()
    installed = sum((path.stat().st_size + 1023) // 1024 for path in tree.rglob("*") if path.is_file())
    control = {
        "Package": said["Package"],
        "Version": release.version,
        "Architecture": architecture,
        "Maintainer": "The rowcast authors <rowcast@users.noreply.github.com>",
        "Installed-Size": str(installed),
        "Priority": "optional",
        "Homepage": match(r'^repository = "([^"]+)"', release.text("Cargo.toml")),
        **said,
    }
    about = tree / "DEBIAN"
    about.mkdir(mode=0o755)
    texts = {**texts, "control": "".join(f"{name}: {value}\n" for name, value in control.items())}
    for name, text in texts.items():
        (about / name).write_text(text, encoding="utf-8")
        (about / name).chmod(0o755 if text.startswith("#!") else 0o644)
    file = release.into / f"{said['Package']}_{release.version}_{architecture}.deb"
    kit.run(["dpkg-deb", "--root-owner-group", *(options or ("-Zxz",)), "--build", tree, file])
    return file


def lay_out(release: Release, tree: Path, program: Path, third_party: Path) -> None:
    """The files of the package, where they will lie."""
    units, about = tree / "lib/systemd/system", tree / "usr/share/doc/rowcast"
    for folder in (units, about / "deploy/rowcast.service.d", tree / "usr/bin", tree / "etc/rowcast"):
        folder.mkdir(parents=True)
    shutil.copy(program, tree / "usr/bin/rowcast")
    # /usr/local is not a package's
    unit = release.text("deploy/rowcast.service").replace("/usr/local/bin/", "/usr/bin/")
    (units / "rowcast.service").write_text(unit, encoding="utf-8")
    shutil.copy(release.root / "deploy/rowcast.socket", units)
    (tree / "etc/rowcast/rowcast.env").write_text(SETTINGS, encoding="utf-8")
    for name in DEPLOY:
        shutil.copy(release.root / "deploy" / name, about / "deploy")
    for drop_in in (release.root / "deploy/rowcast.service.d").iterdir():
        shutil.copy(drop_in, about / "deploy/rowcast.service.d")
    tell(release, about)
    (about / "THIRD-PARTY.txt.gz").write_bytes(compressed(third_party.read_bytes()))


def tell(release: Release, about: Path) -> None:
    """What Debian wants in the folder of a package's documents."""
    licences = "\n".join(release.text(name) for name in ("LICENSE-MIT", "LICENSE-APACHE"))
    (about / "copyright").write_text(f"rowcast is licensed under MIT OR Apache-2.0.\n\n{licences}", encoding="utf-8")
    (about / "changelog.gz").write_bytes(compressed(release.text("CHANGELOG.md").encode()))


def libraries(program: Path) -> str:
    """The packages that the program's libraries are from, with the versions that it needs, as Debian's own program finds them."""
    with tempfile.TemporaryDirectory() as folder:
        # it reads which package this is for
        (Path(folder) / "debian").mkdir()
        (Path(folder) / "debian/control").write_text(
            "Source: rowcast\n\nPackage: rowcast\nArchitecture: any\n", encoding="utf-8"
        )
        found = subprocess.run(["dpkg-shlibdeps", "-O", program.resolve()], cwd=folder, capture_output=True, text=True)
    if found.returncode:
        raise kit.Failure(f"dpkg-shlibdeps of the package dpkg-dev says:\n{found.stderr}")
    return match(r"^shlibs:Depends=(.+)$", found.stdout)


def match(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.M)
    if not found:
        raise kit.Failure(f"{pattern} is not in: {text[:500]}")
    return found[1]

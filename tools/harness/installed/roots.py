"""The programs in roots: one that needs nothing in a root that has nothing, the Debian package in a Debian, and in one that is booted."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from harness import cluster as kit
from harness.repository import ROOT

from .stage import Missing, Stage, name_server, unpack, wait_until_ready

AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
SETTINGS = "etc/rowcast/rowcast.env"
# where a package lies in a root; a booted one has another /tmp
KEPT = "var/cache"
# of a cached root: with what `booted` needs too
INCLUDED = "ca-certificates,systemd,systemd-sysv,dbus"


def empty(stage: Stage) -> str:
    """The program that needs no library: it finds a host by its name, checks the certificate, and serves."""
    needs_root()
    archive = next(
        (
            file
            for file in stage.files.glob("rowcast-*.tar.gz")
            if file.name.endswith(("-musl.tar.gz", "-static.tar.gz"))
        ),
        None,
    )
    if not archive:
        raise kit.Failure("there is no program that needs no library")
    root = stage.folder / "empty"
    (root / "etc/ssl/certs").mkdir(parents=True)
    shutil.copy(unpack(archive, stage.folder / "alone") / "rowcast", root / "rowcast")
    if " NEEDED " in kit.output(["objdump", "-p", root / "rowcast"]):
        raise kit.Failure(f"{archive.name} has a program that needs libraries")
    with name_server() as resolver:
        (root / "etc/resolv.conf").write_text(resolver, encoding="utf-8")
        begin(stage, root, ["chroot", "--userspec=10001:10001", root, "/rowcast"])
    return f"{archive.name}: by name and over TLS, with nothing else in the root"


def begin(stage: Stage, root: Path, command: list[str | Path]) -> None:
    """Installs the schema and serves, over a connection whose certificate is checked; without the authority it is refused."""
    stage.fresh()
    port = kit.free_port()
    env = {"DATABASE_URL": stage.verified, "ROWCAST_LISTEN": f"127.0.0.1:{port}", "PATH": os.environ["PATH"]}
    refused = subprocess.run([*command, "migrate"], env=env, capture_output=True, text=True, timeout=60)
    if refused.returncode == 0 or "certificate" not in refused.stderr:
        raise kit.Failure(f"a certificate of an unknown authority: {refused.returncode}, {refused.stderr}")
    authorities = root / AUTHORITIES
    known = authorities.read_bytes() if authorities.exists() else b""
    authorities.write_bytes(known + stage.authority.read_bytes())
    kit.run([*command, "migrate"], env=env)
    stage.watch()
    with stage.serving([*command, "serve"], f"http://127.0.0.1:{port}", env=env) as base:
        stage.arrives(base)


def debian(stage: Stage) -> str:
    """The package in a Debian without anything of rowcast: dpkg takes its dependencies for met, and what is installed serves."""
    package = stage.file("rowcast_*.deb")
    root = debian_root(stage, "debian")
    install(root, package)
    enabled = [path for path in (root / "etc/systemd/system").rglob("*rowcast*")]
    if enabled or (root / SETTINGS).stat().st_mode & 0o777 != 0o600:
        raise kit.Failure(f"installed, it would start by itself ({enabled}), or its settings can be read by others")
    with name_server() as resolver:
        (root / "etc/resolv.conf").write_text(resolver, encoding="utf-8")
        begin(stage, root, ["chroot", "--userspec=10001:10001", root, "/usr/bin/rowcast"])
    kit.run(["chroot", root, "dpkg", "--purge", "rowcast"])
    left = remains(root)
    if left:
        raise kit.Failure(f"purged, it leaves {left}")
    return f"{package.name}: installed, served, purged"


def booted(stage: Stage) -> str:
    """The same in a Debian that systemd has booted: the unit serves, goes on with an updated package, and ends with a removed one."""
    if not shutil.which("systemd-nspawn"):
        raise Missing("there is no systemd-nspawn: apt-get install systemd-container")
    root = debian_root(stage, "booted")
    package = stage.file("rowcast_*.deb")
    install(root, package)
    stage.fresh()
    stage.migrate()
    stage.watch()
    port = kit.free_port()
    settings = f"DATABASE_URL={stage.plain}\nROWCAST_LISTEN=127.0.0.1:{port}\n"
    (root / SETTINGS).write_text(settings, encoding="utf-8")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n", encoding="utf-8")
    kit.run(["chroot", root, "systemctl", "enable", "rowcast"])
    machine = f"rowcast-{os.getpid()}"
    log = stage.folder / "booted.log"
    command = [
        "systemd-nspawn",
        "--quiet",
        f"--machine={machine}",
        "--register=no",
        "--keep-unit",
        "--boot",
        f"--directory={root}",
        "--console=pipe",
    ]
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        base = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(base, lambda: process.poll() is None, lambda: kit.tail(log))
        except kit.Failure as failure:
            if process.poll() is not None and "Startup finished" not in log.read_text(errors="replace"):
                raise Missing(f"systemd does not boot here: {kit.tail(log, 3)}") from failure
            raise
        stage.arrives(base)
        before = main_process(process.pid)
        inside(process.pid, "dpkg", "--install", f"/{KEPT}/{package.name}")
        wait_until_ready(base, lambda: process.poll() is None, lambda: kit.tail(log))
        if main_process(process.pid) == before:
            raise kit.Failure("an updated package leaves the old program running")
        stage.arrives(base)
        inside(process.pid, "dpkg", "--remove", "rowcast")
        if main_process(process.pid) != "0":
            raise kit.Failure("a removed package leaves the program running")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return f"{package.name}: the unit serves from the boot on, after an update, and no longer once it is removed"


def remains(root: Path) -> list[Path]:
    """What of rowcast a root has, but for the package itself and what dpkg and apt write down."""
    found = (path.relative_to(root) for path in root.rglob("*rowcast*"))
    return [path for path in found if path.parts[0] != "var"]


def inside(nspawn: int, *command: str) -> str:
    """Runs a program beside the booted system's first process."""
    first = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text(encoding="utf-8").split()[0]
    return kit.output(
        ["nsenter", f"--target={first}", "--mount", "--uts", "--ipc", "--pid", "--root", "--wd=/", *command]
    )


def main_process(nspawn: int) -> str:
    return inside(nspawn, "systemctl", "show", "--property=MainPID", "--value", "rowcast").strip()


def install(root: Path, package: Path) -> None:
    shutil.copy(package, root / KEPT)
    kit.run(["chroot", root, "dpkg", "--install", f"/{KEPT}/{package.name}"])


def debian_root(stage: Stage, name: str) -> Path:
    """A copy of one that is kept."""
    needs_root()
    if not shutil.which("debootstrap") and subprocess.run([ROOT / "scripts/apt-install", "debootstrap"]).returncode:
        raise Missing("there is no debootstrap: apt-get install debootstrap")
    kept = ROOT / f"target/roots/{stage.debian}"
    if not (kept / "etc/debian_version").exists() or not (kept / "sbin/init").is_symlink():
        began = time.monotonic()
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kit.run(["debootstrap", "--variant=minbase", f"--include={INCLUDED}", stage.debian, kept])
        kit.note(f"debootstrap of {stage.debian}: {time.monotonic() - began:.0f} s")
    root = stage.folder / name
    kit.run(["cp", "-a", kept, root])
    return root


def needs_root() -> None:
    if os.geteuid() != 0:
        raise Missing("only root makes roots")

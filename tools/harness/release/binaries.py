"""The programs: one for distributions of the C library of this machine and later, one that needs no library at all."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import cluster as kit

from .release import Entry, Release, compressed, tar

PROGRAM = "rowcast"


@dataclass(frozen=True)
class Target:
    """What rustc builds for."""

    triple: str
    alone: bool
    """whether the C library is in it"""

    @property
    def name(self) -> str:
        """In names of files."""
        return f"{self.triple}-static" if self.alone and self.triple.endswith("-gnu") else self.triple


@dataclass(frozen=True)
class Built:
    target: Target
    program: Path


HOST = Target(f"{platform.machine()}-unknown-linux-gnu", alone=False)


def alone() -> Target:
    """With musl where Rust's library for it is installed, as it is where releases are made; else with this machine's libc.a, which
    does the same except for host names that /etc/nsswitch.conf has looked up by something else than files and DNS."""
    musl = f"{platform.machine()}-unknown-linux-musl"
    folder = subprocess.run(
        ["rustc", "--print", "target-libdir", "--target", musl], capture_output=True, text=True
    ).stdout.strip()
    if folder and any(Path(folder).glob("libstd-*.rlib")) and shutil.which("musl-gcc"):
        return Target(musl, alone=True)
    return Target(HOST.triple, alone=True)


def build(release: Release, target: Target) -> Built:
    """By cargo."""
    # each has its own: with other flags cargo would build all anew in the folder of another
    folder = release.root / "target/release-build" / target.name
    env = environment(release.root, folder, target)
    command = [
        os.environ.get("CARGO", "cargo"),
        "build",
        "--release",
        "--locked",
        "--bin",
        PROGRAM,
        "--target",
        target.triple,
    ]
    done = subprocess.run(command, cwd=release.root, env=env)
    if done.returncode:
        raise kit.Failure(f"{' '.join(command)} ended with code {done.returncode}")
    program = folder / target.triple / "release" / PROGRAM
    refuse_paths(program, [str(path) for path in named(release.root)])
    said = kit.output([program, "--version"]).strip()
    if said != f"{PROGRAM} {release.version}":
        raise kit.Failure(f"{program} says that it is {said}, and Cargo.toml that it is {release.version}")
    return Built(target, program)


def named(root: Path) -> dict[Path, str]:
    """The folders of this machine that a compiler would write down, and what it writes in their place."""
    return {root: "/rowcast", Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")): "/cargo"}


def environment(root: Path, folder: Path, target: Target) -> dict[str, str]:
    """Of a cargo that builds the source in `root` into `folder`, the same everywhere."""
    flags = [f"--remap-path-prefix={path}={name}" for path, name in named(root).items()]
    if target.alone:
        flags.append("-Ctarget-feature=+crt-static")
    # what somebody has set for builds of their own
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RUSTFLAGS", "CARGO_BUILD_", "CARGO_PROFILE_"))
    }
    if target.triple.endswith("-musl"):
        # else each architecture has another name for it
        ours[f"CC_{target.triple.replace('-', '_')}"] = "musl-gcc"
    return {
        **ours,
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags),
        "CARGO_TARGET_DIR": str(folder),
        "CARGO_INCREMENTAL": "0",
        "CFLAGS": " ".join(f"-ffile-prefix-map={path}={name}" for path, name in named(root).items()),
    }


def refuse_paths(program: Path, paths: list[str]) -> None:
    content = program.read_bytes()
    for path in paths:
        at = content.find(path.encode())
        if at >= 0:
            raise kit.Failure(f"{program} has a path of this machine in it: {content[at : at + 120]!r}")


def archive(release: Release, built: Built, third_party: Path) -> Path:
    """The program with what belongs beside it."""
    folder = f"{PROGRAM}-{release.version}-{built.target.name}"
    entries = [
        Entry(f"{folder}/{PROGRAM}", built.program.read_bytes(), 0o755),
        Entry(f"{folder}/THIRD-PARTY.txt", third_party.read_bytes()),
    ]
    for name in ("README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"):
        entries.append(Entry(f"{folder}/{name}", (release.root / name).read_bytes()))
    # what an operator copies; the chart and the rest of the repository are files of their own
    for name in ("rowcast.service", "rowcast.socket", "alerts.yml", "grafana.json", "nginx.conf", "haproxy.cfg"):
        entries.append(Entry(f"{folder}/deploy/{name}", (release.root / "deploy" / name).read_bytes()))
    for drop_in in sorted((release.root / "deploy/rowcast.service.d").iterdir()):
        entries.append(Entry(f"{folder}/deploy/rowcast.service.d/{drop_in.name}", drop_in.read_bytes()))
    file = release.into / f"{folder}.tar.gz"
    file.write_bytes(compressed(tar(entries, release.epoch)))
    return file

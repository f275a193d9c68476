"""The image in a Docker engine, alone and in both files of Docker Compose, as they tell to type. What no registry gives is made of
this machine's own programs: scripts/docker-postgres-image starts an engine where none answers, too.
"""

import contextlib
import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness.release.image import ARCHITECTURES
from harness.repository import ROOT

from .stage import NAME, WITHIN, Missing, Stage, name_server, open_url, wait_until_ready

STAND_INS = ("docker-redis-image", "docker-nginx-image")


@contextlib.contextmanager
def running() -> Iterator[None]:
    """An engine, and one that was started for this is ended."""
    started = subprocess.run([ROOT / "scripts/docker-postgres-image"], capture_output=True, text=True)
    if started.returncode:
        raise Missing(f"no Docker engine: {started.stderr.strip()}")
    try:
        yield
    finally:
        kit.run([ROOT / "scripts/docker-postgres-image", "--stop"])


def load(stage: Stage) -> str:
    """The image's name."""
    archive = stage.file(f"rowcast-*-image-{ARCHITECTURES[os.uname().machine]}.tar")
    said = kit.output(["docker", "load", "--input", archive])
    return said.strip().rpartition("Loaded image: ")[2]


def image(stage: Stage) -> str:
    """Read-only, as its user, without a capability: it finds the host by its name, checks the certificate, serves, and is healthy."""
    with running():
        tag = load(stage)
        known = json.loads(kit.output(["docker", "image", "inspect", tag]))[0]
        stage.fresh()
        port = kit.free_port()
        with name_server() as resolver:
            resolv = stage.folder / "resolv.conf"
            resolv.write_text(resolver, encoding="utf-8")
            with_authority = stage.folder / "authorities.crt"
            with_authority.write_bytes(stage.authority.read_bytes())
            locked = ["--rm", "--network=host", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
            env = {"DATABASE_URL": stage.verified, "ROWCAST_LISTEN": f"127.0.0.1:{port}"}
            options = [
                *locked,
                f"--volume={resolv}:/etc/resolv.conf:ro",
                *(f"--env={name}={value}" for name, value in env.items()),
            ]
            trusting = [*options, f"--volume={with_authority}:/etc/ssl/certs/ca-certificates.crt:ro"]
            refused = subprocess.run(["docker", "run", *options, tag, "migrate"], capture_output=True, text=True)
            if refused.returncode == 0 or "certificate" not in refused.stderr:
                raise kit.Failure(f"a certificate of an unknown authority: {refused.returncode}, {refused.stderr}")
            kit.run(["docker", "run", *trusting, tag, "migrate"])
            stage.watch()
            name = f"rowcast-{os.getpid()}"
            with stage.serving(["docker", "run", f"--name={name}", *trusting, tag], f"http://127.0.0.1:{port}") as base:
                stage.arrives(base)
                healthy(name)
    return f"{tag}, {known['Size'] / 1e6:.1f} MB, user {known['Config']['User']}: read-only, without capabilities, healthy, {NAME} by name"


def healthy(container: str) -> None:
    """Docker says so, which asks the program in the container."""
    deadline = time.monotonic() + WITHIN
    while (
        said := kit.output(["docker", "inspect", "--format", "{{.State.Health.Status}}", container]).strip()
    ) != "healthy":
        if time.monotonic() > deadline:
            log = kit.output(["docker", "inspect", "--format", "{{json .State.Health}}", container])
            raise kit.Failure(f"the container is {said} after {WITHIN} s: {log}")
        time.sleep(0.2)


def compose(stage: Stage) -> str:
    """`docker compose up` of both files, with the image of the release in place of one that is built."""
    found = subprocess.run([ROOT / "scripts/find-compose"], capture_output=True, text=True)
    if found.returncode:
        raise Missing(f"no Docker Compose 2: {found.stderr.strip()}")
    program = found.stdout.strip()
    with running():
        for name in STAND_INS:
            kit.run([ROOT / "scripts" / name])
        told = []
        for file, port in (("docker-compose.yml", 8000), ("docker-compose.scale.yml", 8080)):
            with named(load(stage)), up(program, file, stage.folder) as command:
                wait_until_ready(
                    f"http://127.0.0.1:{port}", lambda: True, lambda command=command: said(command), within=120
                )
                told.append(f"{file}: {changed(command, f'http://127.0.0.1:{port}')}")
    return "; ".join(told)


@contextlib.contextmanager
def named(image: str) -> Iterator[None]:
    """As the files name it; afterwards that is again what it was before, or nothing, for which `docker compose up` builds it."""
    before = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Id}}", "rowcast"], capture_output=True, text=True
    )
    kit.run(["docker", "tag", image, "rowcast"])
    try:
        yield
    finally:
        kit.run(
            ["docker", "tag", before.stdout.strip(), "rowcast"]
            if before.returncode == 0
            else ["docker", "rmi", "rowcast"]
        )


@contextlib.contextmanager
def up(program: str, file: str, folder: Path) -> Iterator[list[str]]:
    command = [program, "--project-name", f"rowcast-test-{os.getpid()}", "--file", str(ROOT / file)]
    command += limited(command, folder / "limits.json")
    try:
        done = subprocess.run([*command, "up", "--detach", "--no-build"], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise kit.Failure(f"docker compose up of {file}:\n{done.stderr[-2000:]}\n{said(command)}")
        yield command
    finally:
        subprocess.run([*command, "down", "--volumes", "--timeout", "15"], capture_output=True)


def limited(command: list[str], file: Path) -> list[str]:
    """On a machine that lets nobody have as many descriptors as a file asks for: as many as it lets."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    asked: dict[str, Any] = json.loads(kit.output([*command, "config", "--format", "json"]))["services"]
    many = [
        name for name, service in asked.items() if service.get("ulimits", {}).get("nofile", {}).get("hard", 0) > hard
    ]
    if not many or hard == resource.RLIM_INFINITY:
        return []
    ulimits = {"nofile": {"soft": hard, "hard": hard}}
    file.write_text(json.dumps({"services": {name: {"ulimits": ulimits} for name in many}}), encoding="utf-8")
    kit.note(f"this machine has {hard} descriptors for a process, fewer than the file asks for")
    return ["--file", str(file)]


def said(command: list[str]) -> str:
    states = subprocess.run([*command, "ps", "--all"], capture_output=True, text=True).stdout
    return states + subprocess.run([*command, "logs", "--tail", "15"], capture_output=True, text=True).stdout


def changed(command: list[str], base: str) -> str:
    """A row that psql writes in the container of Postgres is told at the published port."""
    name = f"pet-{os.getpid()}"
    write = f"update pets set name = '{name}' where pet_id = (select min(pet_id) from pets)"
    deadline = time.monotonic() + WITHIN
    with open_url(f"{base}/sse/pets") as stream:
        stream.readline()
        psql = ["exec", "-T", "postgres", "psql", "-qX", "-U", "postgres", "-d", "clinic", "-c", write]
        kit.run([*command, *psql])
        while name.encode() not in stream.readline():
            if time.monotonic() > deadline:
                raise kit.Failure(f"{base} did not tell a row within {WITHIN} s:\n{said(command)}")
    return f"{all_well(command)} containers run, a row arrived"


def all_well(command: list[str]) -> int:
    """How many run, once each that is asked for its health has it."""
    deadline = time.monotonic() + WITHIN
    while True:
        states: list[Any] = [json.loads(line) for line in kit.output([*command, "ps", "--format", "json"]).splitlines()]
        unwell = [each["Name"] for each in states if each.get("Health") not in ("", "healthy")]
        if not unwell:
            return len(states)
        if time.monotonic() > deadline:
            raise kit.Failure(f"not healthy: {', '.join(unwell)}\n{said(command)}")
        time.sleep(0.2)

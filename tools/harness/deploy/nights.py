"""What somebody on call sees: the log while the database is away, metrics while a clock is wrong, the image's health check.
Clocks are faked for rowcast alone, by faketime; the rest of the machine keeps its time.
"""

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness.release import image as released
from harness.repository import ROOT
from harness.websocket import Inbox

ATTEMPTS = 12  # to reach a database that is away: half a minute
WITHIN = 240  # seconds for them
HOUR = 3600
REPORTERS = 4  # lines of an outage: of the relay two, and one each of what reads the catalogue beside it


def run(stack: contextlib.ExitStack, arguments: argparse.Namespace, missing: Any) -> Any:
    """How many things are wrong."""
    cluster = kit.Cluster(stack, arguments, fsync="off")
    cluster.rowcast("migrate")
    cluster.psql("create table pets (pet_id int primary key)", "select rowcast.watch('pets')")
    mistakes = [*image(cluster), *log(cluster), *start_that_fails(cluster)]
    wrong = len(mistakes)
    if shutil.which("faketime"):
        for name in ("-1h", "+1h"):
            mistakes += clock(cluster, name)
        wrong = len(mistakes)
    else:
        wrong += missing("wrong clocks: there is no faketime")
    for mistake in mistakes:
        print(f"WRONG  {mistake}", flush=True)
    print(
        f"{'ok' if not mistakes else 'WRONG':6} the log of an outage, a start that fails, clocks that are wrong, the image",
        flush=True,
    )
    return wrong


def log(cluster: kit.Cluster) -> Iterator[Any]:
    """Postgres is away for a while."""
    with kit.Relay(cluster, "--log-format", "json", "--log", "info") as relay:
        cluster.stop()
        deadline = time.monotonic() + WITHIN
        while metric(relay, "rowcast_source_reconnects_total") < ATTEMPTS:
            if time.monotonic() > deadline:
                raise kit.Failure(f"fewer than {ATTEMPTS} attempts within {WITHIN} s")
            time.sleep(0.2)
        lines = [json.loads(line) for line in relay.warnings().splitlines()]
        cluster.start()
        while relay._get("/readyz")[0] != 200:
            time.sleep(0.05)
    began = next((at for at, line in enumerate(lines) if line.get("event") == "source_down"), 0)
    loud = [line for line in lines[began:] if line["level"] in ("WARN", "ERROR")]
    yield from (f"a line without event: {line}" for line in lines if "event" not in line)
    yield from (f"a warning without cause: {line}" for line in loud if not line.get("error"))
    if [line.get("event") for line in loud].count("source_down") != 1 or len(loud) > REPORTERS:
        yield f"an outage of {ATTEMPTS} attempts is {len(loud)} lines: {[line.get('event') for line in loud]}"
    listening = [line for line in lines if line["event"] == "listening"]
    if (
        not listening
        or not re.fullmatch(r"\d+\.\d+\.\d+", str(listening[0].get("version")))
        or not listening[0].get("process")
    ):
        yield f"`listening` says neither version nor process: {listening}"


def start_that_fails(cluster: kit.Cluster) -> Iterator[Any]:
    """An operator who reads JSON reads why it ended, too."""
    env = {**cluster.env, "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing", "ROWCAST_LISTEN": "127.0.0.1:0"}
    done = subprocess.run(
        [cluster.rowcast_program, "serve", "--log-format", "json", "--wait-seconds", "0"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    try:
        last = json.loads(done.stderr.splitlines()[-1])
    except ValueError:
        yield f"the last line of a start that fails is no JSON: {done.stderr.splitlines()[-1]}"
        return
    if done.returncode != 1 or last.get("event") != "ended" or not last.get("error") or not last.get("remedy"):
        yield f"a start that fails ends with {done.returncode} and {last}"


def clock(cluster: kit.Cluster, offset: Any) -> Iterator[Any]:
    """rowcast's clock is wrong by an hour; what it says of delays is not."""
    program = cluster.file(
        f"rowcast{offset}",
        f'#!/bin/sh\nexport DONT_FAKE_MONOTONIC=1 FAKETIME={offset} LD_PRELOAD="{library()}"\n'
        f'exec "{Path(cluster.rowcast_program).resolve()}" "$@"\n',
    )
    program.chmod(0o755)
    real, cluster.rowcast_program = cluster.rowcast_program, program
    wanted = HOUR if offset.startswith("-") else -HOUR
    inbox = Inbox()
    try:
        with kit.Relay(cluster) as relay, contextlib.closing(inbox):
            deadline = time.monotonic() + 30
            while abs(metric(relay, "rowcast_clock_skew_seconds") - wanted) > 60:
                if time.monotonic() > deadline:
                    yield f"{offset}: the skew is {metric(relay, 'rowcast_clock_skew_seconds')}"
                    return
                time.sleep(0.1)
            inbox.open(relay.host, relay.port, "/ws/pets")
            inbox.wait_for(lambda seen: any(b'"subscribed"' in text for _, _, text in seen), 10)
            cluster.psql("truncate pets", "insert into pets select generate_series(1, 10)")
            if not inbox.wait_for(lambda seen: sum(b'"created"' in text for _, _, text in seen) == 10, 10):
                yield f"{offset}: no change arrived"
            for name in ("rowcast_lag_seconds", "rowcast_delay_seconds_sum"):
                if not 0 <= metric(relay, name) < 60:
                    yield f"{offset}: {name} is {metric(relay, name)}"
    finally:
        cluster.rowcast_program = real


def library() -> str:
    """faketime itself would wait for rowcast, and not hand on the signal that ends it."""
    return (
        kit.output(["sh", "-c", "faketime -f +0 sh -c 'echo $LD_PRELOAD'"])
        .strip()
        .replace("libfaketime.so", "libfaketimeMT.so")
        .replace("$", "\\$")
    )


def image(cluster: kit.Cluster) -> Iterator[Any]:
    """Of the Dockerfile, what can be tried without building it: its health check, with the program in place of the image."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    runs = released.runs(text)
    if not re.fullmatch(r"\d+:\d+", runs["User"]) or runs["User"].startswith("0:"):
        yield f"the image runs as {runs['User']}"
    toolchain = (ROOT / "rust-toolchain.toml").read_text(encoding="utf-8")
    channel = re.search(r'^channel = "(.+)"', toolchain, re.M)[1]
    if not re.search(rf"^FROM rust:{re.escape(channel)}-\w+(@sha256:[0-9a-f]{{64}})? AS builder$", text, re.M):
        yield f"the image is not built with Rust {channel}, as rust-toolchain.toml says"
    _, *command = runs["Healthcheck"]["Test"]
    with kit.Relay(cluster) as relay:
        port = relay.port
        answered = health(cluster, command, port)
    if answered != 0 or health(cluster, command, port) == 0:
        yield f"the health check says {answered} of a server, and {health(cluster, command, port)} without one"


def health(cluster: kit.Cluster, command: Any, port: int) -> Any:
    program, *arguments = command
    if program != "rowcast":
        raise kit.Failure(f"the image has nothing but rowcast, and its health check runs {program}")
    return subprocess.run(
        [cluster.rowcast_program, *arguments],
        env={"ROWCAST_LISTEN": f"0.0.0.0:{port}"},
        capture_output=True,
        timeout=10,
    ).returncode


def metric(relay: kit.Relay, name: str) -> float:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{relay.host}:{relay.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.M)[1])

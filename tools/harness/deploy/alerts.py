"""The alerts of deploy/alerts.yml in the real promtool: each with a history in which it fires and one in which it does not; that
docs/reference/operations.md says of each when it fires, in the same words; and that a scrape as the docs describe it is read by promtool.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import urllib.request
from typing import Any

from harness import cluster as kit
from harness.repository import ROOT

SECRET = "0123456789abcdef0123456789abcdef"
# alert: histories in which it fires, and in which it does not. A history is a series and its values, a minute each, looked at
# after MINUTES of them.
MINUTES = 30
BUILD = ("rowcast_build_info", "1x30")
REFUSED = 'rowcast_limits_total{limit="descriptors"}'
BUILD_GONE = ("rowcast_build_info", "1x20 _x10")
CASES = {
    "RowcastDown": (
        [[("up", "1x20 0x10"), BUILD_GONE]],
        [[("up", "1x30"), BUILD], [("up", "0x30")], [("up", "1x20 0 1x9"), BUILD]],
    ),
    "RowcastAbsent": ([[("up", "1x30")], [BUILD_GONE]], [[BUILD]]),
    "RowcastSourceDown": ([[("rowcast_source_live", "1x27 0x3")]], [[("rowcast_source_live", "1x20 0 1x9")]]),
    "RowcastSlow": (
        [
            [
                ('rowcast_delay_seconds_bucket{le="1.024"}', "0+90x30"),
                ('rowcast_delay_seconds_bucket{le="+Inf"}', "0+100x30"),
            ]
        ],
        [
            [
                ('rowcast_delay_seconds_bucket{le="0.5"}', "0+100x30"),
                ('rowcast_delay_seconds_bucket{le="+Inf"}', "0+100x30"),
            ]
        ],
    ),
    "RowcastGap": (
        # the first one ever; and one that was told before the first scrape
        [
            [('rowcast_gaps_total{reason="trigger_off"}', "0x25 1x5")],
            [('rowcast_gaps_total{reason="retention"}', "_x25 1x5")],
        ],
        [
            [('rowcast_gaps_total{reason="trigger_off"}', "1x30")],
            [('rowcast_gaps_total{reason="policy"}', "0x25 1x5")],
            [('rowcast_gaps_total{reason="failover"}', "_x10 0x20")],
        ],
    ),
    "RowcastNotCaptured": (
        [
            [('rowcast_finding{finding="capture"}', "0x20 1x10")],
            [('rowcast_finding{finding="triggers"}', "0x25 2x5"), ('rowcast_finding{finding="capture"}', "0x30")],
            [('rowcast_finding{finding="brief outbox"}', "1x20 2x10")],
        ],
        [
            [('rowcast_finding{finding="capture"}', "0x28 1x2")],
            [('rowcast_finding{finding="triggers"}', "1x20 0x10")],
            [('rowcast_finding{finding="brief outbox"}', "1x30")],
        ],
    ),
    "RowcastOutboxOld": (
        # a retention of an hour and of seven days
        [
            [("rowcast_retention_seconds", "3600x30"), ("rowcast_outbox_age_seconds", "9000x30")],
            [("rowcast_retention_seconds", "604800x30"), ("rowcast_outbox_age_seconds", "1300000x30")],
        ],
        [
            [("rowcast_retention_seconds", "604800x30"), ("rowcast_outbox_age_seconds", "900000x30")],
            [("rowcast_retention_seconds", "60x30"), ("rowcast_outbox_age_seconds", "300x30")],
            [("rowcast_retention_seconds", "0x30"), ("rowcast_outbox_age_seconds", "0x30")],
        ],
    ),
    "RowcastSlowClients": (
        [[('rowcast_closes_total{code="4408",reason="slow"}', "0+12x30")]],
        [
            [('rowcast_closes_total{code="4408",reason="slow"}', "0x10 5x20")],
            [('rowcast_closes_total{code="1001",reason=""}', "0+12x30")],
        ],
    ),
    "RowcastBellsLost": (
        [[("rowcast_source_safety_finds_total", "0+2x30")]],
        [[("rowcast_source_safety_finds_total", "0x25 3x5")]],
    ),
    "RowcastTwoPublishers": (
        [
            [
                ('rowcast_publishing{instance="a",stream="one"}', "1x30"),
                ('rowcast_publishing{instance="b",stream="one"}', "1x30"),
            ]
        ],
        # two healthy installations
        [
            [
                ('rowcast_publishing{instance="a",stream="one"}', "1x30"),
                ('rowcast_publishing{instance="b",stream="two"}', "1x30"),
                ('rowcast_publishing{instance="c",stream="two"}', "0x30"),
            ]
        ],
    ),
    "RowcastClockSkew": (
        [[("rowcast_clock_skew_seconds", "-3600x30")], [("rowcast_clock_skew_seconds", "2x30")]],
        [[("rowcast_clock_skew_seconds", "0.2x30")], [("rowcast_clock_skew_seconds", "0x15 5 0x14")]],
    ),
    "RowcastDescriptors": (
        [
            [("process_open_fds", "950x30"), ("process_max_fds", "1000x30"), BUILD],
            # full before nine of ten are used
            [("process_open_fds", "440x30"), ("process_max_fds", "512x30"), BUILD, (REFUSED, "0x15 1+1x15")],
        ],
        [
            # refused once
            [("process_open_fds", "440x30"), ("process_max_fds", "512x30"), BUILD, (REFUSED, "0x20 1x10")],
            [("process_open_fds", "700x30"), ("process_max_fds", "1000x30"), BUILD],
            # another program's
            [("process_open_fds", "950x30"), ("process_max_fds", "1000x30")],
        ],
    ),
}


def run(stack: contextlib.ExitStack, arguments: argparse.Namespace, missing: Any) -> Any:
    """How many things are wrong."""
    rules = (ROOT / "deploy/alerts.yml").read_text(encoding="utf-8")
    wrong = words_differ(rules)
    promtool = shutil.which("promtool")
    if not promtool:
        return wrong + missing("alerts: there is no promtool")
    cluster = kit.Cluster(stack, arguments, fsync="off")
    wrong += histories(promtool, cluster) + scrape(promtool, cluster)
    return wrong


def words_differ(rules: Any) -> Any:
    """Alerts whose words in the docs are others, or that have no history here."""
    rules = dict(re.findall(r'- alert: (\w+)\n.*?summary: "([^"]*)"', rules, re.S))
    page = (ROOT / "docs/reference/operations.md").read_text(encoding="utf-8")
    docs = {name: when.replace("`", "") for name, when in re.findall(r"^\| `(Rowcast\w+)` \| (.*?) \|", page, re.M)}
    wrong = 0
    for name in sorted({*rules, *docs, *CASES}):
        if rules.get(name) != docs.get(name) or name not in CASES:
            wrong += 1
            print(
                f"WRONG  {name}: the rule says {rules.get(name)}, the docs say {docs.get(name)}, histories: {name in CASES}",
                flush=True,
            )
    return wrong


def histories(promtool: Any, cluster: kit.Cluster) -> int:
    """Runs each history; promtool says what differs."""
    tests = []
    for name, (fires, is_silent) in CASES.items():
        for wanted, group in ((True, fires), (False, is_silent)):
            tests += [history(name, wanted, series) for series in group]
    shutil.copy(ROOT / "deploy/alerts.yml", cluster.dir / "alerts.yml")
    # JSON is YAML
    file = cluster.file(
        "alerts-test.yml", json.dumps({"rule_files": ["alerts.yml"], "evaluation_interval": "1m", "tests": tests})
    )
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, cwd=cluster.dir)
    print(
        f"{'ok' if done.returncode == 0 else 'WRONG':6} deploy/alerts.yml: {len(CASES)} alerts, {len(tests)} histories",
        flush=True,
    )
    if done.returncode:
        print(done.stdout + done.stderr, flush=True)
    return int(done.returncode != 0)


def history(name: str, fires: bool, series: Any) -> dict[Any, Any]:
    """One test of promtool's: the alert fires or not, whatever else does."""

    def labelled(text: str) -> Any:
        known, _, rest = text.partition("{")
        labels = {"job": "rowcast", "instance": "a", **dict(re.findall(r'(\w+)="([^"]*)"', rest))}
        return known + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"

    expected = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    return {
        "interval": "1m",
        "input_series": [{"series": labelled(text), "values": values} for text, values in series],
        "promql_expr_test": [
            {"expr": expected, "eval_time": f"{MINUTES}m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
        ],
        "name": f"{name} {'fires' if fires else 'is silent'}: {series}",
    }


def token_of_the_docs(cluster: kit.Cluster) -> str:
    """Made by the commands that docs/reference/operations.md prints, into the file `rowcast-token` beside the cluster."""
    page = (ROOT / "docs/reference/operations.md").read_text(encoding="utf-8")
    script = re.search(r"## Prometheus\n.*?```sh\n(.*?)```", page, re.S)[1]
    kit.run(["sh", "-ec", script], cwd=cluster.dir, env={**os.environ, "ROWCAST_JWT_SECRET": SECRET})
    return (cluster.dir / "rowcast-token").read_text(encoding="utf-8")


def scrape(promtool: Any, cluster: kit.Cluster) -> Any:
    """A server that checks tokens is scraped as docs/reference/operations.md says."""
    token = token_of_the_docs(cluster)
    shutil.copy(ROOT / "deploy/prometheus.yml", cluster.dir / "prometheus.yml")
    wrong = 0
    done = subprocess.run(
        [promtool, "check", "config", cluster.dir / "prometheus.yml"], capture_output=True, text=True, cwd=cluster.dir
    )
    if done.returncode:
        wrong += 1
        print(f"WRONG  deploy/prometheus.yml\n{done.stdout}{done.stderr}", flush=True)
    cluster.rowcast("migrate")
    with kit.Relay(cluster, "--jwt-secret", SECRET) as relay:
        request = urllib.request.Request(
            f"http://{relay.host}:{relay.port}/metrics", headers={"Authorization": f"Bearer {token}"}
        )
        # not through a proxy of the environment
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            body = answer.read()
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True)
    if checked.returncode:
        wrong += 1
        print(f"WRONG  /metrics: promtool says\n{(checked.stdout + checked.stderr).decode()}", flush=True)
    print(
        f"{'ok' if not wrong else 'WRONG':6} a scrape with a token as the docs make it: {body.count(b'# TYPE')} metrics",
        flush=True,
    )
    return wrong

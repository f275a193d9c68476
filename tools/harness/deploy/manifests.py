"""The chart and the plain manifests: Helm renders the one, Kubernetes' own schemas check both, and they say the same, so that what
deploy/kubernetes*.yml explains holds for the chart. No cluster runs for it.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import cluster as kit
from harness.repository import ROOT

CHART = ROOT / "deploy/helm/rowcast"
# the oldest that the chart allows, and the newest whose schemas there are
KUBERNETES = ("1.30", "1.37")
# what the chart says where it is told this, and the manifests that it then equals
SAME = {
    "": ("kubernetes.yml",),
    "backbone.enabled=true,ingress.enabled=true": ("kubernetes-scale.yml",),
    "serviceMonitor.enabled=true": ("kubernetes.yml", "kubernetes-monitor.yml"),
}
MIGRATE = "migrate.enabled=true,secret.name=rowcast-owner,secret.ownerUrl=database-url"
# with these no plain request is answered on the port of clients
PROBED_ELSEWHERE = ("settings.ROWCAST_TLS_CERTIFICATE=/tls/tls.crt", "settings.ROWCAST_PROXY_PROTOCOL=yes")
REFUSED = ("settings.ROWCAST_LISTN_TYPO.x=1", "settings.listen=x", "replicas=0", "backbone.gatways.minReplicas=1")


def run(_stack: Any, _arguments: argparse.Namespace, missing: Any) -> Any:
    """How many things are wrong."""
    helm = Path(sys.executable).parent / "helm"
    if not helm.exists():
        return missing("the chart: there is no helm beside this Python; see scripts/python-packages.txt")
    mistakes = [*judge(str(helm))]
    for mistake in mistakes:
        print(f"WRONG  {mistake}", flush=True)
    print(f"{'ok' if not mistakes else 'WRONG':6} the chart and the manifests of deploy/", flush=True)
    return len(mistakes)


def judge(helm: str) -> Iterator[str]:
    """What is wrong."""
    linted = subprocess.run([helm, "lint", "--strict", CHART], capture_output=True, text=True)
    if linted.returncode:
        yield f"helm lint says:\n{linted.stdout}{linted.stderr}"
    plain = {file.name: file.read_text(encoding="utf-8") for file in sorted((ROOT / "deploy").glob("kubernetes*.yml"))}
    for name, text in plain.items():
        yield from valid(name, text)
    for told, names in SAME.items():
        rendered = render(helm, ",".join(filter(None, (told, "migrate.enabled=false"))))
        yield from valid(f"the chart with {told or 'nothing set'}", rendered)
        yield from differ(
            told, documents(rendered), {k: v for name in names for k, v in documents(plain[name]).items()}
        )
    hook = documents(render(helm, MIGRATE))
    migrate = documents(plain["kubernetes-migrate.yml"])
    yield from differ(MIGRATE, {key: hook[key] for key in hook if key[0] == "Job"}, migrate)
    for told in PROBED_ELSEWHERE:
        ports = re.findall(r"httpGet: .*port: (\w+)", render(helm, told))
        if ports != ["admin"] * 3:
            yield f"the chart with {told} has probes on {ports}"
    for told in REFUSED:
        if subprocess.run([helm, "template", "rowcast", CHART, "--set", told], capture_output=True).returncode == 0:
            yield f"the chart takes {told}"
    yield from unknown(plain)


def render(helm: str, told: str) -> str:
    return kit.output([helm, "template", "rowcast", CHART, "--set", told])


def valid(name: str, text: str) -> Iterator[str]:
    """By the schemas of Kubernetes, which have no ServiceMonitor: that is Prometheus' own."""
    for version in KUBERNETES:
        command = [sys.executable, "-m", "kubernetes_validate", "--kubernetes-version", version, "--strict", "-"]
        checked = subprocess.run(command, input=text, capture_output=True, text=True)
        if checked.returncode:
            yield f"{name}, Kubernetes {version}: {checked.stdout}{checked.stderr}"


def documents(text: str) -> dict[tuple[str, str], Any]:
    """Kind and name → the resource, without what Helm adds and what the order of lines says."""
    import yaml

    return {(each["kind"], each["metadata"]["name"]): bare(each) for each in yaml.safe_load_all(text) if each}


def bare(part: Any) -> Any:
    """Without labels and annotations of Helm's, without a policy that is Kubernetes' default, variables by name."""
    if isinstance(part, list):
        parts = [bare(each) for each in part]
        named = all(isinstance(each, dict) and "name" in each for each in parts)
        return sorted(parts, key=lambda each: str(each["name"])) if named else parts
    if not isinstance(part, dict):
        return part
    kept = {
        name: bare(value)
        for name, value in part.items()
        if not str(name).startswith(("app.kubernetes.io/", "helm.sh/"))
        and (name, value) != ("imagePullPolicy", "IfNotPresent")
    }
    return {name: value for name, value in kept.items() if name not in ("labels", "annotations") or value}


def differ(told: str, chart: dict[tuple[str, str], Any], manifest: dict[tuple[str, str], Any]) -> Iterator[str]:
    for key in sorted({*chart, *manifest}):
        for path, one, other in leaves(chart.get(key), manifest.get(key)):
            yield f"{' '.join(key)}{path}, with {told or 'nothing set'}: the chart has {one}, the manifests {other}"


def leaves(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two resources differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}, key=str):
            yield from leaves(one.get(name), other.get(name), f"{path}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, pair in enumerate(zip(one, other)):
            yield from leaves(*pair, f"{path}[{at}]")
    elif one != other:
        yield path, one, other


def unknown(plain: dict[str, str]) -> Iterator[str]:
    """Settings that rowcast does not know end its start."""
    settings = (ROOT / "src/config/settings.rs").read_text(encoding="utf-8")
    known = {
        name for names in re.findall(r"env: &\[(.*?)\]", settings, re.S) for name in re.findall(r'"([^"]+)"', names)
    }
    texts = {**plain, "values.yaml": (CHART / "values.yaml").read_text(encoding="utf-8")}
    texts |= {file.name: file.read_text(encoding="utf-8") for file in (CHART / "templates").iterdir()}
    for name, text in texts.items():
        for setting in sorted(set(re.findall(r"\bROWCAST_[A-Z0-9_]+[A-Z0-9]\b", text)) - known):
            yield f"{name} has a setting that is none: {setting}"

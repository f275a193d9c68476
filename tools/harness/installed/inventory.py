"""What is said of the files: the bill of materials names what is in Cargo.lock, and the licences every crate that is in the program."""

import json
import re
import subprocess
import tarfile
from pathlib import Path

from harness import cluster as kit
from harness.repository import ROOT

from .stage import Stage

EXPECTED = {"tokio", "hyper", "rustls", "tokio-postgres", "ring"}


def run(stage: Stage) -> str:
    bill = json.loads(stage.file("*.cdx.json").read_text(encoding="utf-8"))
    components = {(each["name"], each["version"]): each for each in bill["components"]}
    crates = {key: each for key, each in components.items() if each["purl"].startswith("pkg:cargo/")}
    with tarfile.open(stage.file("*-source.tar.gz")) as source:
        lock = next(member for member in source if member.name.count("/") == 1 and member.name.endswith("/Cargo.lock"))
        content = source.extractfile(lock)
        text = content.read().decode() if content else ""
    locked = set(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', text))
    strange = set(crates) - locked
    linked = {name for (name, _), each in crates.items() if each["scope"] == "required"}
    if strange or not linked >= EXPECTED:
        raise kit.Failure(f"the bill has {strange} that Cargo.lock has not, or misses {EXPECTED - linked}")
    licences = stage.file("*.THIRD-PARTY.txt").read_text(encoding="utf-8")
    unsaid = [name for name in linked if f"\n{name} " not in licences]
    if unsaid:
        raise kit.Failure(f"the licences say nothing of {', '.join(unsaid)}")
    licensed = [each for each in crates.values() if each["licenses"][0]["expression"]]
    packaged = chart(stage)
    debian = len(components) - len(crates)
    building = len(crates) - len(linked)
    counted = f"{len(linked)} crates in the program, {building} that build it, {debian} packages in the image"
    return f"{counted}, {len(licensed)} licences; {packaged}"


def chart(stage: Stage) -> str:
    """Helm renders the packed chart as it renders the folder."""
    python = subprocess.run([ROOT / "scripts/python-packages"], capture_output=True, text=True).stdout.strip()
    helm = Path(python).parent / "helm"
    if not helm.exists():
        return "the chart was not looked at: no Helm"
    packed, folder = (
        kit.output([helm, "template", "rowcast", each])
        for each in (stage.file("rowcast-chart-*.tgz"), ROOT / "deploy/helm/rowcast")
    )
    if packed != folder:
        raise kit.Failure("the packed chart is another one than deploy/helm/rowcast")
    return "the chart renders"

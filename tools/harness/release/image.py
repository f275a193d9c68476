"""The image, as an archive of the Open Container Initiative's layout that `docker load` reads too. scripts/image-root lays out what
is in it, as for the Dockerfile, whose last stage says how it runs. No engine makes it: their images have another hash each time.
"""

import hashlib
import json
import platform
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import cluster as kit

from .release import Entry, Release, compressed, tar

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MEDIA = "application/vnd.oci.image"


@dataclass(frozen=True)
class Package:
    """A package of Debian that the image has files of."""

    name: str
    version: str
    architecture: str


def write(release: Release, program: Path, third_party: Path) -> Path:
    layer, packages = lay_out(release, program, third_party)
    (release.work / "packages.json").write_text(json.dumps([vars(package) for package in packages]), encoding="utf-8")
    created = datetime.fromtimestamp(release.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    blobs: dict[str, bytes] = {}

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    described = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "created": created,
        "config": {**runs(release.text("Dockerfile")), "Labels": labels(release, created)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": created, "created_by": "scripts/release"}],
    }
    packed = blob("layer.v1.tar+gzip", compressed(layer))
    config = blob("config.v1+json", as_json(described))
    manifest = blob(
        "manifest.v1+json",
        as_json({"schemaVersion": 2, "mediaType": f"{MEDIA}.manifest.v1+json", "config": config, "layers": [packed]}),
    )
    tag = f"rowcast:{release.version}"
    manifest |= {
        "platform": {"architecture": described["architecture"], "os": "linux"},
        "annotations": {
            "io.containerd.image.name": f"docker.io/library/{tag}",
            "org.opencontainers.image.ref.name": release.version,
        },
    }
    place = "blobs/sha256/{}".format
    # what `docker load` reads
    loaded = {
        "Config": place(config["digest"][7:]),
        "RepoTags": [tag],
        "Layers": [place(packed["digest"][7:])],
    }
    entries = [Entry(place(digest), content) for digest, content in blobs.items()]
    entries += [
        Entry("oci-layout", as_json({"imageLayoutVersion": "1.0.0"})),
        Entry(
            "index.json", as_json({"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": [manifest]})
        ),
        Entry("manifest.json", as_json([loaded])),
    ]
    file = release.into / f"rowcast-{release.version}-image-{described['architecture']}.tar"
    file.write_bytes(tar(entries, release.epoch))
    return file


def lay_out(release: Release, program: Path, third_party: Path) -> tuple[bytes, list[Package]]:
    """The only layer, and the packages that it has files of."""
    with tempfile.TemporaryDirectory(dir=release.work) as folder:
        root = Path(folder) / "root"
        kit.run([release.root / "scripts/image-root", program, root])
        about = root / "usr/share/doc/rowcast"
        about.mkdir(parents=True)
        shutil.copy(third_party, about / "THIRD-PARTY.txt")
        for name in ("LICENSE-MIT", "LICENSE-APACHE"):
            shutil.copy(release.root / name, about)
        packages = [
            package(file.read_text(encoding="utf-8")) for file in sorted((root / "var/lib/dpkg/status.d").iterdir())
        ]
        entries = []
        for path in sorted(root.rglob("*")):
            content = None if path.is_dir() else path.read_bytes()
            entries.append(Entry(str(path.relative_to(root)), content, path.stat().st_mode & 0o7777))
        return tar(entries, release.epoch), packages


def package(status: str) -> Package:
    fields = dict(re.findall(r"^(Package|Version|Architecture): (.+)$", status, re.M))
    return Package(fields["Package"], fields["Version"], fields["Architecture"])


def packages(release: Release) -> list[Package]:
    """Of the image that was written last."""
    return [Package(**each) for each in json.loads((release.work / "packages.json").read_text(encoding="utf-8"))]


def runs(dockerfile: str) -> dict[str, Any]:
    """What the last stage says of how it runs, in the words of an image's configuration."""
    stage = dockerfile.rpartition("\nFROM ")[2].replace("\\\n", " ")
    said = {word: rest for word, rest in re.findall(r"^([A-Z]+) (.+)$", stage, re.M)}
    options, _, command = said["HEALTHCHECK"].partition(" CMD ")
    seconds = {name: int(value) for name, value in re.findall(r"--([a-z-]+)=(\d+)", options)}
    return {
        "User": said["USER"],
        "Env": said["ENV"].split(),
        "ExposedPorts": {f"{said['EXPOSE']}/tcp": {}},
        "Entrypoint": json.loads(said["ENTRYPOINT"]),
        "Cmd": json.loads(said["CMD"]),
        "Healthcheck": {
            "Test": ["CMD", *json.loads(command)],
            "Interval": seconds["interval"] * 10**9,
            "Timeout": seconds["timeout"] * 10**9,
            "StartPeriod": seconds["start-period"] * 10**9,
            "Retries": seconds["retries"],
        },
    }


def labels(release: Release, created: str) -> dict[str, str]:
    known = re.search(r'^repository = "([^"]+)"', release.text("Cargo.toml"), re.M)
    label = "org.opencontainers.image"
    return {
        f"{label}.created": created,
        f"{label}.licenses": "MIT OR Apache-2.0",
        f"{label}.revision": kit.output(["git", "rev-parse", "HEAD"], cwd=release.root).strip(),
        f"{label}.source": known[1] if known else "",
        f"{label}.title": "rowcast",
        f"{label}.version": release.version,
    }


def as_json(what: Any) -> bytes:
    return json.dumps(what, sort_keys=True, separators=(",", ":")).encode()

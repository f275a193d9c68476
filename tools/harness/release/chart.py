"""The chart, packed as `helm package` packs it: one folder, by the chart's name."""

from pathlib import Path

from .release import Entry, Release, compressed, tar


def write(release: Release) -> Path:
    folder = release.root / "deploy/helm/rowcast"
    entries = [
        Entry(f"rowcast/{path.relative_to(folder)}", path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    file = release.into / f"rowcast-chart-{release.version}.tgz"
    file.write_bytes(compressed(tar(entries, release.epoch)))
    return file

"""Both clients, as their own tools pack them."""

import shutil
import tempfile
from pathlib import Path

from harness import cluster as kit

from .release import Release


def npm(release: Release) -> Path:
    """Built by `prepack`. npm gives every file of a package the same time."""
    client = release.root / "client"
    kit.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=client)
    packed = kit.output(["npm", "pack", "--silent", "--pack-destination", release.into], cwd=client)
    return release.into / packed.split()[-1]


def wheel(release: Release) -> Path:
    """Of a copy: setuptools builds beside the source. It takes its times from SOURCE_DATE_EPOCH."""
    with tempfile.TemporaryDirectory(dir=release.work) as folder:
        copy = Path(folder) / "client-python"
        shutil.copytree(
            release.root / "client-python", copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        )
        environment = Path(folder) / "python"
        kit.run(["python3", "-m", "venv", environment])
        python = environment / "bin/python3"
        quiet = ["--quiet", "--disable-pip-version-check"]
        kit.run([python, "-m", "pip", "install", *quiet, "setuptools==80.9.0", "wheel==0.45.1"])
        kit.run(
            [
                python,
                "-m",
                "pip",
                "wheel",
                *quiet,
                "--no-deps",
                "--no-build-isolation",
                "--wheel-dir",
                release.into,
                copy,
            ]
        )
    return next(release.into.glob("rowcast-*.whl"))

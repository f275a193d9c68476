"""Each command of tests/ and benches/ starts, and the workflow of the forge calls only what is there."""

import json
import os
import re
import subprocess
import unittest
from pathlib import Path
from typing import Any

import yaml

from harness.installed import __main__ as installed
from harness.repository import ROOT

WORKFLOW = ROOT / ".github/workflows/ci.yml"


def launchers() -> list[Path]:
    """The scripts that call this package."""
    found = [file for folder in ("tests", "benches") for file in (ROOT / folder).iterdir() if file.is_file()]
    found.append(ROOT / "scripts/release")
    return sorted(file for file in found if os.access(file, os.X_OK) and b"/tools" in file.read_bytes())


class Launchers(unittest.TestCase):
    """tests/NAME and benches/NAME"""

    def test_each_says_what_it_does(self) -> None:
        self.assertGreaterEqual(len(launchers()), 15)
        started = [
            (
                file,
                subprocess.Popen(
                    [file, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/"
                ),
            )
            for file in launchers()
        ]
        for file, process in started:
            with self.subTest(file.name):
                said, _ = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 0, said)
                self.assertTrue(said.startswith(f"usage: {file.name}"), said)

    def test_the_module_that_each_names_is_there(self) -> None:
        for file in launchers():
            (named,) = re.findall(r"tools/(harness/[\w/.]+[\w])", file.read_text(encoding="utf-8"))
            self.assertTrue((ROOT / "tools" / named).exists(), f"{file.name}: tools/{named}")


class ReleaseWorkflow(unittest.TestCase):
    """.github/workflows/release.yml"""

    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")

    def test_what_it_calls_is_there(self) -> None:
        called = set(re.findall(r"(?<![\w/.-])((?:scripts|tests)/[a-z-]+)", self.text))
        self.assertGreaterEqual(called, {"scripts/release", "tests/installed", "scripts/join-release"})
        for name in called:
            self.assertTrue(os.access(ROOT / name, os.X_OK), name)
        parts = re.findall(r"tests/installed --parts ([\w,]+)", self.text)
        self.assertLessEqual(set(parts[0].split(",")), set(installed.PARTS))

    def test_it_builds_where_the_image_is_built(self) -> None:
        (container,) = re.findall(r"^    container: (\S+)$", self.text, re.M)
        self.assertIn(f"\nFROM {container} AS builder\n", (ROOT / "Dockerfile").read_text(encoding="utf-8"))


class Workflow(unittest.TestCase):
    """.github/workflows/ci.yml"""

    def setUp(self) -> None:
        self.jobs: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]

    def test_each_step_is_a_command_that_a_contributor_has(self) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
        commands = [step["run"] for job in self.jobs.values() for step in job["steps"] if "run" in step]
        self.assertGreaterEqual(len(commands), 4)
        for command in commands:
            program, *words = command.split()
            with self.subTest(command):
                self.assertIn(program, ("make", ".ci/run"))
                self.assertTrue((program == "make" and words[0] in targets) or (ROOT / program).is_file())

    def test_the_versions_of_postgres_are_those_that_are_supported(self) -> None:
        (matrix,) = [job["strategy"]["matrix"] for job in self.jobs.values() if "strategy" in job]
        (supported,) = re.findall(r"^VERSIONS \?= (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        self.assertEqual(" ".join(map(str, matrix["version"])), supported)
        lower, upper = matrix["version"][0], matrix["version"][-1]
        self.assertIn(f"Postgres {lower} to {upper}", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))

    def test_every_file_of_the_forge_can_be_read(self) -> None:
        files = [*(ROOT / ".github").rglob("*.yml")]
        self.assertGreaterEqual(len(files), 5)
        for file in files:
            with self.subTest(file.name):
                self.assertIsInstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict)

    def test_the_container_of_a_developer_is_described_in_json_with_comments(self) -> None:
        text = (ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8")
        described = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M))
        self.assertIn("postgresql", described["postCreateCommand"])

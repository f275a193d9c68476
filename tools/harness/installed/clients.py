"""Both clients in an empty project each, as npm and pip install them, against a server: a row that is written is told."""

import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness import cluster as kit

from .stage import WITHIN, Missing, Stage

# It says when it has the rows, and prints the name that it is told to wait for. In Node 20 the socket is that of the package ws.
NODE = """
const [base, wanted] = process.argv.slice(2);
const client = connect(base, { WebSocket: globalThis.WebSocket ?? ws.WebSocket });
const pets = client.collection("pets", { key: "pet_id" });
const look = () => {
  for (const pet of pets.values()) if (pet.name === wanted) { console.log(pet.name); process.exit(0); }
};
pets.on("change", look);
pets.ready.then(() => console.log("listening"));
"""
MODULE = 'import * as ws from "ws";\nimport { connect } from "rowcast-client";\nimport "rowcast-client/store";\n' + NODE
REQUIRED = 'const ws = require("ws");\nconst { connect } = require("rowcast-client");\n' + NODE
PYTHON = """
import asyncio, sys
from rowcast import connect

async def main() -> None:
    base, wanted = sys.argv[1:]
    async with connect(base) as client:
        told = asyncio.Event()
        pets = client.collection("pets", key="pet_id")
        pets.on_change(lambda _: told.set() if any(pet["name"] == wanted for pet in pets.values()) else None)
        await pets.ready
        print("listening", flush=True)
        await told.wait()
        print(wanted)

asyncio.run(main())
"""


def npm(stage: Stage) -> str:
    package = stage.file("rowcast-client-*.tgz")
    if not shutil.which("npm"):
        raise Missing("there is no npm")
    project = stage.folder / "npm"
    project.mkdir()
    quiet = ["--no-audit", "--no-fund", "--silent"]
    kit.run(["npm", "init", "--yes", "--silent"], cwd=project)
    kit.run(["npm", "install", *quiet, package, "ws@8.23.0"], cwd=project)
    for name, text in (("module.mjs", MODULE), ("required.cjs", REQUIRED)):
        (project / name).write_text(text, encoding="utf-8")
        is_told(stage, ["node", project / name])
    return f"{package.name}: imported and required, in a project of its own"


def wheel(stage: Stage) -> str:
    package = stage.file("rowcast-*.whl")
    environment = stage.folder / "wheel"
    kit.run(["python3", "-m", "venv", environment])
    kit.run([environment / "bin/python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package])
    script = stage.folder / "reader.py"
    script.write_text(PYTHON, encoding="utf-8")
    is_told(stage, [environment / "bin/python3", script])
    return f"{package.name}: in an environment of its own"


def is_told(stage: Stage, command: Sequence[str | Path]) -> None:
    """A reader that is started prints the name of a row that is written afterwards."""
    stage.fresh()
    stage.migrate()
    stage.watch()
    port, name = kit.free_port(), f"pet-{secrets.token_hex(4)}"
    env = {**stage.cluster.env, "DATABASE_URL": stage.plain, "ROWCAST_LISTEN": f"127.0.0.1:{port}"}
    with stage.serving([stage.linked, "serve"], f"http://127.0.0.1:{port}", env=env) as base:
        reader = subprocess.Popen(
            [*map(str, command), base, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            if reader.stdout:
                reader.stdout.readline()
            stage.cluster.psql(f"insert into pets values (1, '{name}')")
            said, complained = reader.communicate(timeout=WITHIN)
        except subprocess.TimeoutExpired as late:
            raise kit.Failure(f"{command[0]} was told no row within {WITHIN} s") from late
        finally:
            reader.kill()
            reader.wait()
        if reader.returncode or said.strip() != name:
            raise kit.Failure(f"{command[0]} ended with {reader.returncode}:\n{said}{complained}")

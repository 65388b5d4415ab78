"""node-opcua, the other open implementation that SCADA systems are built on: installed by npm under build/, run as processes.

The first test that needs it installs it (about 10 s, 70 MB). Where npm cannot, the tests fail and say why: a peer that is
silently not asked proves nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "interop" / "peers" / "node_opcua"
PLACE = ROOT / "build" / "node_opcua"
PATIENCE_S = 120


def install() -> Path:
    """Installs what package.json asks for, unless it is there; gives the folder of the modules."""
    wanted = (SCRIPTS / "package.json").read_text()
    installed = PLACE / "installed.json"
    if not installed.exists() or installed.read_text() != wanted:
        assert shutil.which("npm"), "npm is missing, which installs node-opcua: apt-get install npm"
        PLACE.mkdir(parents=True, exist_ok=True)
        (PLACE / "package.json").write_text(wanted)
        command = [
            "npm",
            "install",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--loglevel=error",
        ]
        done = subprocess.run(command, cwd=PLACE, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, f"npm cannot install node-opcua:\n{done.stdout}{done.stderr}"
        installed.write_text(wanted)
    return PLACE / "node_modules"


def environment() -> dict[str, str]:
    return {**os.environ, "NODE_PATH": str(install())}


def start(script: str, options: dict[str, Any]) -> subprocess.Popen[str]:
    """A script of ours in a process, which speaks in lines of JSON."""
    command = ["node", str(SCRIPTS / script), json.dumps(options)]
    return subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def lines(process: subprocess.Popen[str]) -> Any:
    """What the process says, as it comes; the library's own remarks are passed over."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield json.loads(line)


def end(process: subprocess.Popen[str]) -> None:
    """Waits for its end, or makes one."""
    try:
        process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def client(directory: Path, **options: Any) -> list[dict[str, Any]]:
    """Runs client.js to its end; gives the lines it said."""
    command = ["node", str(SCRIPTS / "client.js"), json.dumps({"directory": str(directory), **options})]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def results(directory: Path, **options: Any) -> list[Any]:
    """Runs client.js, which must be let in; gives the result of each of its steps."""
    said = client(directory, **options)
    assert said[0].get("refused") is None, said[0]
    return [line["result"] for line in said if "result" in line]

"""Runs a page of the documentation as its reader would: in its own folder, from top to bottom.

What a fence says is what is done with its block:

- ``python``: run, all blocks of a page in one namespace;
- ``toml``, ``csv`` and others with a file name: saved under that name; TOML must be TOML, with or without one;
- ``console``: lines with ``$`` are typed into one shell; the lines after them are what must come out. ``…`` stands for
  anything in a line, and alone for any number of lines; how many spaces there are does not matter. A command that ends
  with ``&`` goes on.

The ports that pages name are free ones here, the same for the whole page. The simulated plant is on the one that pages call 5020, unless
the page starts it or has a plant of its own, a ``python`` block with a file name.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.interop.peers.brokers import free_port

ROOT = Path(__file__).resolve().parents[2]
PORTS_IN_PAGES = ("5020", "4840", "9464", "18830")  # Plant, OPC UA, metrics, broker.
COMMAND_TIMEOUT_S = 30.0
_FENCE = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_SIMULATOR = "bifrost.plc.modbus.simulator"
_CHECK_S = 0.02


class Block(NamedTuple):
    """One fenced block: language, file to save it as (or ""), text, and its 1-based line in the page."""

    language: str
    file: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found["language"], found["file"] or "", found["text"], text.count("\n", 0, found.start()) + 2)
        for found in _FENCE.finditer(text)
    ]


def run_page(page: Path, folder: Path) -> None:
    """Runs all blocks of `page` in `folder`, the current one. Raises AssertionError, or what a block raises."""
    ports = {name: str(free_port()) for name in PORTS_IN_PAGES}
    named = re.compile(rf"\b(?:{'|'.join(ports)})\b")
    blocks = [block._replace(text=named.sub(lambda found: ports[found[0]], block.text)) for block in blocks_of(page)]
    port = ports["5020"]
    starts_plant = any(_starts_plant(block) for block in blocks)
    namespace: dict[str, object] = {"__name__": "__main__"}
    with contextlib.ExitStack() as stack:
        if not starts_plant and any(port in block.text for block in blocks):
            stack.enter_context(simulated_plant(port))
        shell: Shell | None = None
        for block in blocks:
            place = f"{page.name}:{block.line}"
            if block.language == "toml":
                tomllib.loads(block.text)
            if block.file:
                target = folder / block.file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                padded = "\n" * (block.line - 1) + block.text  # So that a traceback has the page's lines.
                exec(compile(padded, str(page), "exec"), namespace)
            elif block.language == "console":
                shell = shell or stack.enter_context(Shell.opened(folder))
                run_console(shell, block.text, place)


def _starts_plant(block: Block) -> bool:
    is_program = block.language == "python" and bool(block.file)
    return is_program or (block.language == "console" and _SIMULATOR in block.text)


@contextlib.contextmanager
def simulated_plant(port: str) -> Iterator[None]:
    """The simulated plant, in a process of its own."""
    command = [sys.executable, "-m", _SIMULATOR, "--port", port]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("simulated plant at")
            yield
        finally:
            process.terminate()


class Shell:
    """One bash; each command's output goes to a file of its own."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._commands_count = 0

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Shell]:
        """A shell in `folder` whose `bifrost` and `python` are those of this checkout; its jobs end with it."""
        programs = folder / ".programs"
        programs.mkdir()
        for name, arguments in {"bifrost": ["-m", "bifrost"], "python": []}.items():
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {" ".join(arguments)} "$@"\n', encoding="utf-8")
            script.chmod(0o755)
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
        environment |= {"COLUMNS": "160", "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            ["bash"], cwd=folder, env=environment, stdin=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            shell = cls(process, folder)
            try:
                yield shell
            finally:
                shell.type("jobs -p > .jobs; kill $(cat .jobs) 2> /dev/null; wait; exit")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(COMMAND_TIMEOUT_S)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def type(self, line: str) -> None:
        """Gives the shell one line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def run(self, command: str, expected: list[str]) -> str:
        """Runs `command` and returns its output once it has ended, or a job's once it is what is expected."""
        self._commands_count += 1
        output = self._folder / f".output-{self._commands_count}"
        ended = self._folder / f".ended-{self._commands_count}"
        output.touch()
        is_job = command.endswith("&")
        if is_job:
            where = f"2> {output}" if ">" in command else f"> {output} 2>&1"
            self.type(f"{command.removesuffix('&')} {where} &")
        else:
            self.type(f"{{ {command}\n}} > {output} 2>&1; touch {ended}")
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while time.monotonic() < deadline:
            text = output.read_text(encoding="utf-8")
            if ended.exists() or (is_job and matches(expected, text, is_complete=False)):
                return output.read_text(encoding="utf-8")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_CHECK_S)
        return output.read_text(encoding="utf-8")


def run_console(shell: Shell, text: str, place: str) -> None:
    """Types the commands of one block; what comes out must be what the block says."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not parts[0].strip(), f"{place}: output without a command"
    for part in parts[1:]:
        command, _, rest = part.partition("\n")
        expected = rest.splitlines()
        output = shell.run(command, expected)
        is_complete = not command.endswith("&")
        seen = f"{place}: $ {command}\n{output}\n--- expected\n{rest}"
        assert matches(expected, output, is_complete=is_complete), seen


def matches(expected: list[str], output: str, *, is_complete: bool) -> bool:
    """Whether `output` is what a page's lines say; unless `is_complete`, more may follow."""
    pattern = ""
    for line in expected:
        if not line.strip():
            continue
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        else:
            words = [re.escape(word).replace("…", ".*?") for word in line.split()]
            pattern += r"[ \t]*" + r"[ \t]+".join(words) + r"[ \t]*\n"
    flat = "".join(f"{line}\n" for line in output.splitlines() if line.strip())
    wanted = re.compile("".join(pattern))
    return bool(wanted.fullmatch(flat) if is_complete else wanted.match(flat))

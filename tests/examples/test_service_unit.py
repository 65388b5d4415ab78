"""The systemd unit of the how-to: systemd itself reads it, and it says what the program says about memory."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from bifrost.core.limits import Limits
from bifrost.gateway.memory import service_limits
from tests.examples.page import ROOT, blocks_of

EXPOSURE_MAX = 2.0  # Of 10; systemd-analyze calls what is below 2.0 "OK" or better.

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


@pytest.fixture
def unit(tmp_path):
    """The unit as a file, with a program that is there."""
    (block,) = (block for block in blocks_of(ROOT / "docs/how-to/systemd.md") if block.file == "bifrost.service")
    path = tmp_path / "bifrost.service"
    path.write_text(block.text.replace("/opt/bifrost/bin/bifrost", sys.executable))
    return path


def analyze(*words):
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False)


@needs_systemd
def test_systemd_understands_every_line(unit):
    answer = analyze("verify", "--man=no", str(unit))
    about_it = [line for line in answer.stderr.splitlines() if "bifrost.service" in line]
    assert about_it == []


@needs_systemd
def test_the_service_can_do_little_harm(unit):
    answer = analyze("security", "--offline=true", "--threshold=20", "--no-pager", str(unit))
    exposure = next(line for line in answer.stdout.splitlines() if "Overall exposure" in line)
    assert float(exposure.rsplit(":", 1)[1].split()[0]) <= EXPOSURE_MAX, answer.stdout


def test_memory_is_that_of_the_default_limits(unit):
    text = unit.read_text()
    assert all(setting in text for setting in service_limits(Limits.for_gateway(1)).split())

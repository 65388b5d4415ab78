"""What pip makes of Bifrost: on a bare machine it installs and works in Python alone; with a compiler, in C.

Each test installs into a virtual environment of its own, from a copy of the checkout, as a user's pip would.
"""

import os
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

from csrc.builder import ROOT

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(1800)]

TOOLS = ("setuptools", "pytest", "pytest-timeout", "pytest-benchmark", "hypothesis", "construct")
NOT_COPIED = (".git", ".venv", "build", "dist", "wheels", "downloads", "__pycache__", "*.so", "*.egg-info", ".*_cache")


def run(*command, **options):
    """Run `command`; a failure shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return shutil.copytree(
        ROOT, tmp_path_factory.mktemp("install") / "checkout", ignore=shutil.ignore_patterns(*NOT_COPIED)
    )


@pytest.fixture
def python(tmp_path):
    """The Python of an empty virtual environment."""
    venv.create(tmp_path / "venv", with_pip=True)
    return tmp_path / "venv" / "bin" / "python"


def wheel_of(checkout, target, **environment):
    """Build a wheel of `checkout` into `target` with this environment's setuptools; return its path."""
    command = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", target, ".")
    run(*command, cwd=checkout, env={**os.environ, **environment})
    (wheel,) = target.glob("*.whl")
    return wheel


def test_whole_suite_passes_where_there_is_neither_compiler_nor_cffi(checkout, python, tmp_path):
    wheel = wheel_of(checkout, tmp_path / "wheel", BIFROST_NO_NATIVE="1")
    assert wheel.name.endswith("-py3-none-any.whl")
    run(python, "-m", "pip", "install", "--quiet", wheel, *TOOLS)
    bare = tmp_path / "bare"  # the tests and what they read, but not the package: that one is installed
    shutil.copytree(checkout, bare, ignore=shutil.ignore_patterns("bifrost"))
    environment = {"PATH": str(python.parent), "HOME": str(tmp_path)}
    backend = "import bifrost._native as n, importlib.util as u; print(n.backend.BACKEND, u.find_spec('cffi'))"
    assert run(python, "-c", backend, cwd=bare, env=environment).split() == ["py", "None"]
    suites = [
        name for name in ("tests/unit", "tests/property", "tests/frames", "tests/cases") if (bare / name).is_dir()
    ]
    run(python, "-m", "pytest", "-q", "-m", "not slow", *suites, cwd=bare, env={**environment, "BIFROST_BACKEND": "py"})


def test_machine_without_a_compiler_gets_the_pure_wheel(checkout, tmp_path):
    assert wheel_of(checkout, tmp_path, CC="no-such-compiler").name.endswith("-py3-none-any.whl")


def test_plain_pip_install_builds_the_core_in_c(checkout, python, tmp_path):
    run(python, "-m", "pip", "install", "--quiet", checkout, env={**os.environ, "BIFROST_OPCUA": "off"})
    program = "from bifrost._native import backend; print(backend.BACKEND, hex(backend.crc16(b'123456789')))"
    environment = {"PATH": os.defpath, "BIFROST_BACKEND": "c"}
    assert run(python, "-c", program, cwd=tmp_path, env=environment).split() == ["c", "0x4b37"]


def test_compiler_and_flags_of_the_environment_build_the_wheel(checkout, tmp_path):
    log = tmp_path / "log"
    compiler = tmp_path / "our-cc"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {log}\nexec cc "$@"\n')
    compiler.chmod(0o755)
    environment = {"CC": str(compiler), "CFLAGS": "-DFROM_CFLAGS", "LDSHARED": f"{compiler} -shared -DFROM_LDSHARED"}
    wheel = wheel_of(checkout, tmp_path / "wheel", BIFROST_OPCUA="off", **environment)
    names = zipfile.ZipFile(wheel).namelist()
    assert "bifrost/_native/_core.abi3.so" in names
    assert "cp311-abi3-linux" in wheel.name
    commands = log.read_text().splitlines()
    assert all("-DFROM_CFLAGS" in command for command in commands if " -c " in command)
    assert any("-DFROM_LDSHARED" in command for command in commands)


def test_sdist_carries_the_sources_of_the_opcua_module(checkout, tmp_path):
    downloads = checkout / "csrc" / "vendor" / "downloads"
    downloads.mkdir()
    (downloads / "x_1.orig.tar.gz").write_bytes(b"not a tarball; only its being carried is what is looked at")
    program = f"from setuptools import build_meta; print(build_meta.build_sdist({str(tmp_path)!r}))"
    run(sys.executable, "-c", program, cwd=checkout, env={**os.environ, "BIFROST_NO_NATIVE": "1"})
    shutil.rmtree(downloads)
    (sdist,) = tmp_path.glob("*.tar.gz")
    names = run("tar", "-tzf", sdist).split()
    top = names[0].split("/")[0]
    wanted = "build_ffi.py csrc/builder/vendor.py cross/targets.toml csrc/bifrost.h csrc/vendor/sources.toml LICENSE"
    assert {f"{top}/{name}" for name in [*wanted.split(), "csrc/vendor/downloads/x_1.orig.tar.gz"]} <= set(names)
    assert not [name for name in names if name.endswith((".so", ".pyc"))]

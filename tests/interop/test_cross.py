"""Both modules, cross-compiled by zig, run on foreign processors: 64-bit and 32-bit ARM under qemu-user.

What is proved: nothing unportable crept into our C (word size, alignment, atomics, flags), the stable ABI holds
against a Python that we did not build with, and the bits are the same. The foreign Python comes out of Debian
packages, fetched by apt in a folder of its own and only unpacked; it stays in build/rootfs. qemu is installed by apt if
it is not there, and a machine where that can't be done fails loudly: CI has to have it.
"""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from csrc.builder import BUILD, ROOT, apt

pytestmark = [pytest.mark.cross, pytest.mark.slow, pytest.mark.timeout(1800)]

TARGETS = tomllib.loads((ROOT / "cross" / "targets.toml").read_text())
FOREIGN = [name for name in TARGETS if not name.startswith("x86_64")]

CORE_PROGRAM = """
import array, platform, struct, sys
from bifrost._native import backend, records
assert backend.BACKEND == "c", backend.BACKEND
assert backend.crc16(b"123456789") == 0x4B37
answer = struct.pack(">HHHBBB2f", 7, 0, 3 + 8, 1, 3, 8, 21.5, -0.1)
values = array.array("f", bytes(8))
assert backend.modbus_answer_decoder(1, 3, 4, records.TYPE_FLOAT32, 0, values)(answer, 7) == 0
assert values.tobytes() == struct.pack("=2f", 21.5, -0.1)
print(platform.machine(), struct.calcsize("P"), sys.version_info[:2])
"""

# A key and a certificate: mbedTLS and open62541 at work, and every byte given back.
OPCUA_PROGRAM = """
from bifrost._native import opcua
status, certificate, key = opcua.make_certificate("Bifrost", "urn:host:bifrost:cross", "host", 30)
assert status == 0, hex(status)
assert certificate[0] == 0x30 and len(key) > 1000
assert opcua.memory().live_bytes == 0, opcua.memory()
print(opcua.version(), opcua.memory().peak_bytes)
"""


def run(*command, **options):
    """Run `command`; a failure shows what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module", params=FOREIGN)
def target(request):
    return request.param


@pytest.fixture(scope="module")
def qemu(target):
    """The user-mode emulator for the target."""
    command = TARGETS[target]["qemu"]
    if shutil.which(command) is None:
        root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run(*root, "apt-get", "-qq", "update", env=environment)
        run(*root, "apt-get", "-qq", "install", "-y", "--no-install-recommends", "qemu-user-static", env=environment)
    path = shutil.which(command)
    assert path, f"{command} is missing: apt-get install qemu-user-static"
    return path


@pytest.fixture(scope="module")
def rootfs(target):
    """A folder with the target's Debian Python and cffi's run time, unpacked and never installed."""
    place = BUILD / "rootfs" / target
    if not (place / "complete").is_file():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        fetch_packages(TARGETS[target]["debian"], place / "apt")
        for package in sorted((place / "apt" / "cache" / "archives").glob("*.deb")):
            run("dpkg-deb", "--extract", package, place)
        if not (place / "lib").exists():  # newer Debians have everything below /usr
            (place / "lib").symlink_to("usr/lib")
        shutil.rmtree(place / "apt")
        (place / "complete").touch()
    return place


def fetch_packages(architecture, place):
    """Download Python for `architecture` and all it depends on, by apt with nothing taken as installed."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = release.get("VERSION_CODENAME", "").strip('"')
    for mirror in apt.find_mirrors():
        option = f"[signed-by={mirror.signed_by}] " if mirror.signed_by else ""
        environment = apt.write_configuration(
            place,
            f"deb {option}{mirror.uri} {suite if suite in apt.DEBIAN_SUITES else 'stable'} main\n",
            f'APT::Architecture "{architecture}";',
            f'APT::Architectures {{ "{architecture}"; }};',
            "Debug::NoLocking true;",
        )
        run("apt-get", "-qq", "update", env=environment)
        packages = ("python3-minimal", "libpython3-stdlib", "python3-cffi-backend")
        command = ("apt-get", "-qq", "-y", "--no-install-recommends", "--download-only", "install", *packages)
        run(*command, env=environment)
        return
    pytest.fail("apt has no Debian mirror configured, so there is no foreign Python to run")


@pytest.fixture(scope="module")
def package(target, tmp_path_factory):
    """The package with the target's modules in place of the machine's."""
    run(sys.executable, "build_ffi.py", "--only", "core", "--target", target, cwd=ROOT)
    place = tmp_path_factory.mktemp(target) / "bifrost"
    shutil.copytree(ROOT / "bifrost", place, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(BUILD / target / "bifrost" / "_native" / "_core.abi3.so", place / "_native")
    return place


def run_foreign(qemu, rootfs, package, program):
    """Run `program` by the foreign Python; return what it printed."""
    search = os.pathsep.join([str(package.parent), str(rootfs / "usr" / "lib" / "python3" / "dist-packages")])
    environment = {"PYTHONPATH": search, "BIFROST_BACKEND": "c", "PYTHONDONTWRITEBYTECODE": "1"}
    return run(
        qemu, "-L", rootfs, rootfs / "usr" / "bin" / "python3", "-c", program, env=environment, cwd=package.parent
    )


def test_core_runs_on_a_foreign_processor_and_gives_the_same_bits(qemu, rootfs, package, target):
    machine, pointer_bytes, *_ = run_foreign(qemu, rootfs, package, CORE_PROGRAM).split()
    assert machine == {"aarch64-linux-gnu": "aarch64", "arm-linux-gnueabihf": "armv7l"}[target]
    assert pointer_bytes == {"aarch64-linux-gnu": "8", "arm-linux-gnueabihf": "4"}[target]


def test_opcua_server_runs_on_a_foreign_processor_and_gives_every_byte_back(qemu, rootfs, package, target):
    built = subprocess.run(
        [sys.executable, "build_ffi.py", "--only", "opcua", "--target", target],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    is_without_sources = built.returncode != 0 and "no OPC UA module: apt" in built.stderr.strip().splitlines()[-1]
    if is_without_sources and "CI" not in os.environ:  # There it is to be tested, not skipped.
        pytest.skip(built.stderr.strip().splitlines()[-1])
    assert built.returncode == 0, built.stderr
    shutil.copy(BUILD / target / "bifrost" / "_native" / "_opcua.abi3.so", package / "_native")
    version, peak_bytes = run_foreign(qemu, rootfs, package, OPCUA_PROGRAM).split()
    assert version.startswith("1.4.")
    assert int(peak_bytes) > 1_000


def test_module_needs_libc_alone_and_no_newer_one_than_its_tag_says(target, package):
    floor = tuple(map(int, TARGETS[target]["wheel"].split("_")[1:3]))
    for module in (BUILD / target / "bifrost" / "_native").glob("*.so"):
        dynamic = run("readelf", "--dynamic", "--version-info", "--wide", module)
        needed = {line.split("[")[1].split("]")[0] for line in dynamic.splitlines() if "(NEEDED)" in line}
        assert needed <= {"libc.so.6", "libpthread.so.0", "libm.so.6", "ld-linux-armhf.so.3"}
        versions = {tuple(map(int, word[6:].split("."))) for word in dynamic.split() if word.startswith("GLIBC_2")}
        assert max(versions, default=floor) <= floor

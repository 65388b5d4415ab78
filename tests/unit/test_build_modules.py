"""What the compiled modules are made of: cut declarations, the right files, the machine's compiler, no allocation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import build_ffi
from csrc.builder import ROOT, BuildError, checks, modules, packaging, toolchain
from csrc.builder.objects import Unit, compile_units

CFFI = pytest.importorskip("cffi", reason="the pure environment has no cffi and builds no C")


def test_cdef_is_what_lies_between_the_marks(tmp_path):
    header = tmp_path / "a.h"
    header.write_text(
        "int x;\n/* cdef: begin */\nint y;\n/* cdef: end */\nint z;\n/* cdef: begin */int w;/* cdef: end */"
    )
    assert modules.cut_cdef(header).split() == ["int", "y;", "int", "w;"]


@pytest.mark.parametrize(
    "text", ["int x;", "/* cdef: begin */ int x;", "/* cdef: begin *//* cdef: begin *//* cdef: end */"]
)
def test_missing_mark_is_an_error(tmp_path, text):
    header = tmp_path / "a.h"
    header.write_text(text)
    with pytest.raises(BuildError, match="mark is missing"):
        modules.cut_cdef(header)


@pytest.mark.parametrize("module", [modules.CORE, modules.OPCUA], ids=lambda module: module.short)
def test_cffi_reads_our_header(module):
    assert modules.declare(module)._assigned_source[0] == module.name


def test_every_c_file_belongs_to_exactly_one_module():
    core, opcua = modules.core_sources(), [*modules.opcua_sources(), modules.NAMESPACE0, modules.UNIT]
    assert sorted([*core, *opcua, *modules.unit_parts()]) == sorted(modules.CSRC.glob("*.c"))


def test_native_core_refers_to_no_allocator():
    assert checks.find_allocations() == []


def test_function_that_is_declared_but_not_defined_stops_the_build(tmp_path):
    source = tmp_path / "gap.c"
    visible = '__attribute__((visibility("default")))'
    source.write_text(
        f"int bf_gap(void);\n{visible} int PyInit_gap(void);\nint PyInit_gap(void) {{ return bf_gap(); }}\n"
    )
    tools = toolchain.native()
    target = tmp_path / "gap.so"
    with pytest.raises(BuildError, match=r"gap\.so: declared in the header but defined in no C file: bf_gap\."):
        modules.link(tools, compile_units([Unit(source)], tools, lambda _: None), target, strip=False)
    assert not target.exists()


def test_allocator_would_be_found(tmp_path, monkeypatch):
    (tmp_path / "greedy.c").write_text(
        "#include <stdlib.h>\nvoid *greedy(void);\nvoid *greedy(void) { return malloc(9); }\n"
    )
    monkeypatch.setattr(modules, "core_sources", lambda: [tmp_path / "greedy.c"])
    assert checks.find_allocations() == ["greedy.c: malloc"]


def test_compiler_and_flags_of_the_environment_are_obeyed(monkeypatch):
    monkeypatch.setenv("CC", "cc -pipe")
    monkeypatch.setenv("CFLAGS", "-O1 -DFROM_CFLAGS")
    monkeypatch.setenv("LDSHARED", "cc -shared -DFROM_LDSHARED")
    monkeypatch.setenv("LDFLAGS", "-Wl,-z,now")
    tools = toolchain.native()
    assert tools.compile[:2] == ("cc", "-pipe")
    assert tools.compile[-2:] == ("-O1", "-DFROM_CFLAGS")  # after ours: the last one counts
    assert tools.link == ("cc", "-shared", "-DFROM_LDSHARED")
    assert tools.link_flags[-1] == "-Wl,-z,now"


def test_compiler_that_is_not_there_is_one_sentence(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BuildError, match=r"^no C is built: CC=no-such-compiler is not on PATH\.$"):
        toolchain.native()


def test_machine_without_a_compiler_is_one_sentence(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BuildError, match=r"^no C is built: there is no C compiler on PATH .*\.$"):
        toolchain.native()


def test_unknown_target_names_those_there_are():
    with pytest.raises(BuildError, match=r"unknown target 'mips': .*aarch64-linux-gnu, arm-linux-gnueabihf"):
        toolchain.cross("mips")


def test_native_install_needs_cffi_and_declares_both_modules(monkeypatch):
    monkeypatch.delenv("BIFROST_NO_NATIVE", raising=False)
    monkeypatch.delenv("BIFROST_OPCUA", raising=False)
    found = packaging.arguments()
    assert any(need.startswith("cffi") for need in found["install_requires"])
    assert found["cffi_modules"] == ["build_ffi.py:core_ffi", "build_ffi.py:opcua_ffi"]


def test_opcua_module_can_be_left_out(monkeypatch):
    monkeypatch.setenv("BIFROST_OPCUA", "off")
    assert packaging.arguments()["cffi_modules"] == ["build_ffi.py:core_ffi"]


@pytest.mark.parametrize(
    "environment", [{"BIFROST_NO_NATIVE": "1"}, {"PATH": "/nonexistent"}], ids=["asked", "no compiler"]
)
def test_pure_install_needs_no_cffi_and_declares_no_module(monkeypatch, environment):
    monkeypatch.delenv("CC", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert packaging.arguments() == {"install_requires": packaging.RUNTIME}


def test_command_line_builds_nothing_if_so_asked():
    environment = {**os.environ, "BIFROST_NO_NATIVE": "1"}
    run = subprocess.run(
        [sys.executable, "build_ffi.py"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "BIFROST_NO_NATIVE=1: no C is built.\n")


@pytest.mark.parametrize(
    ("arguments", "wish", "status"),
    [([], "auto", 0), ([], "require", 1), ([], "off", 0), (["--only", "opcua"], "auto", 1)],
)
def test_only_the_opcua_module_is_missing_where_its_sources_are(monkeypatch, capsys, arguments, wish, status):
    built = []

    def build(module, tools, target, *, release):
        if module is modules.OPCUA:
            raise BuildError("no OPC UA module: no network.")
        built.append(module)

    monkeypatch.setattr(modules, "build", build)
    monkeypatch.setenv("BIFROST_OPCUA", wish)
    monkeypatch.delenv("BIFROST_NO_NATIVE", raising=False)
    assert build_ffi.main(arguments) == status
    assert built == ([] if arguments else [modules.CORE])
    assert capsys.readouterr().err == ("" if wish == "off" else "no OPC UA module: no network.\n")


def test_module_lands_beside_the_python_of_its_package():
    assert modules.CORE.file == Path("bifrost/_native/_core.abi3.so")

"""Functions of the library that ours replace: a build notices when one is no longer replaced."""

from __future__ import annotations

import re

import pytest

from csrc.builder import BuildError, hooks, modules, toolchain
from csrc.builder.objects import Unit, compile_units

LIBRARY = (
    "int hooked(void);\nint hooked(void) { return 1; }\nint caller(void);\nint caller(void) { return hooked(); }\n"
)
OURS = "int hooked(void);\nint hooked(void) { return 2; }\n"


@pytest.fixture
def tools():
    try:
        return toolchain.native()
    except BuildError as error:  # the pure environment has no compiler, and nothing to prove here
        pytest.skip(str(error))


def check(tools, directory, library, ours, other=""):
    texts = {"unit.c": "#pragma weak hooked\n" + library, "ours.c": ours, "other.c": other + "\nint other;\n"}
    for name, text in texts.items():
        (directory / name).write_text(text)
    units = [Unit(directory / name) for name in texts]
    unit, hook, rest = compile_units(units, tools, lambda _: None)
    hooks.check(directory / "unit.c", unit, hook, [unit, hook, rest])


def test_function_that_is_replaced_passes(tools, tmp_path):
    check(tools, tmp_path, LIBRARY, OURS)


@pytest.mark.parametrize(
    ("library", "ours", "other"),
    [
        (LIBRARY.replace("hooked", "renamed"), OURS, ""),
        (LIBRARY, "int elsewhere;", ""),
        (LIBRARY, OURS + "int forgotten(void);\nint forgotten(void) { return 3; }\n", ""),
        (LIBRARY, OURS, OURS),
    ],
    ids=["renamed in the library", "not defined by us", "not declared weak", "defined a third time"],
)
def test_function_that_is_not_replaced_stops_the_build(tools, tmp_path, library, ours, other):
    with pytest.raises(BuildError, match=r"should be ours are not \(docs/adr/0019\): (hooked|forgotten)\."):
        check(tools, tmp_path, library, ours, other)


def test_what_the_unit_declares_is_what_ours_defines():
    defined = re.findall(r"^\w[\w *]*?\b(\w+)\([^;]*\) \{$", modules.HOOKS.read_text(), re.MULTILINE)
    assert set(defined) == hooks.declared_weak(modules.UNIT)
    assert len(defined) == len(set(defined))

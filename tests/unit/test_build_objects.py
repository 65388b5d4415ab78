"""The compile cache: nothing is compiled twice from the same contents, and everything else is.

Real files and the machine's real compiler, with a cache in a folder of its own.
"""

import dataclasses
import os
import time
from pathlib import Path

import pytest

from csrc.builder import BuildError, toolchain
from csrc.builder.objects import Unit, compile_units


@pytest.fixture
def tools(tmp_path, monkeypatch):
    monkeypatch.setenv("BIFROST_BUILD_CACHE", str(tmp_path / "cache"))
    try:
        return toolchain.native()
    except BuildError as error:  # the pure environment has no compiler, and nothing to prove here
        pytest.skip(str(error))


@pytest.fixture
def units(tmp_path):
    (tmp_path / "limit.h").write_text("#define LIMIT 3\n")
    (tmp_path / "one.c").write_text('#include "limit.h"\nint one(void) { return LIMIT; }\n')
    (tmp_path / "two.c").write_text("int two(void) { return 2; }\n")
    return [Unit(tmp_path / "one.c"), Unit(tmp_path / "two.c")]


def compiled(units, tools):
    """Return the names of the files that were really compiled, and the objects."""
    lines: list[str] = []
    objects = compile_units(units, tools, lines.append)
    assert all(path.is_file() for path in objects)
    return {line.split()[-1] for line in lines if line.startswith("[")}, objects


def test_second_build_compiles_nothing_and_gives_the_same_objects(units, tools):
    first, objects = compiled(units, tools)
    second, again = compiled(units, tools)
    assert first == {"one.c", "two.c"}
    assert second == set()
    assert again == objects


def test_changed_header_compiles_only_the_file_that_reads_it(units, tools, tmp_path):
    compiled(units, tools)
    (tmp_path / "limit.h").write_text("#define LIMIT 4\n")
    assert compiled(units, tools)[0] == {"one.c"}


def test_header_changed_back_is_still_in_the_cache(units, tools, tmp_path):
    compiled(units, tools)
    (tmp_path / "limit.h").write_text("#define LIMIT 4\n")
    compiled(units, tools)
    (tmp_path / "limit.h").write_text("#define LIMIT 3\n")
    assert compiled(units, tools)[0] == set()


def test_changed_source_compiles_only_itself(units, tools, tmp_path):
    compiled(units, tools)
    (tmp_path / "two.c").write_text("int two(void) { return 22; }\n")
    assert compiled(units, tools)[0] == {"two.c"}


def test_other_flags_are_another_object(units, tools):
    _, plain = compiled(units, tools)
    names, other = compiled([dataclasses.replace(unit, flags=("-DNDEBUG",)) for unit in units], tools)
    assert names == {"one.c", "two.c"}
    assert set(other).isdisjoint(plain)


def test_another_compiler_shares_nothing(units, tools):
    compiled(units, tools)
    assert compiled(units, dataclasses.replace(tools, identity="another"))[0] == {"one.c", "two.c"}


def test_header_that_disappeared_is_a_compile_again(units, tools, tmp_path):
    compiled(units, tools)
    (tmp_path / "limit.h").unlink()
    with pytest.raises(BuildError, match=r"limit\.h"):
        compiled(units, tools)


def test_file_saved_while_it_was_compiled_is_compiled_again(units, tools, tmp_path):
    hour_ahead_ns = time.time_ns() + 3_600_000_000_000
    os.utime(tmp_path / "limit.h", ns=(hour_ahead_ns, hour_ahead_ns))
    compiled(units, tools)
    assert compiled(units, tools)[0] == {"one.c"}


def test_name_with_a_space_is_followed(tools, tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "a b.h").write_text("#define A 1\n")
    (folder / "c.c").write_text('#include "a b.h"\nint c = A;\n')
    unit = Unit(folder / "c.c")
    compiled([unit], tools)
    (folder / "a b.h").write_text("#define A 2\n")
    assert compiled([unit], tools)[0] == {"c.c"}


def test_wrong_c_is_reported_in_the_compilers_words(tools, tmp_path):
    (tmp_path / "wrong.c").write_text("int wrong(void) { return missing(); }\n")
    with pytest.raises(BuildError, match=r"(?s)wrong\.c does not compile:.*missing"):
        compile_units([Unit(tmp_path / "wrong.c")], tools, lambda _: None)


def test_progress_counts_to_the_end_and_sums_up(units, tools):
    lines: list[str] = []
    compile_units(units, tools, lines.append)
    assert [line.split("]")[0] for line in lines[:2]] == ["[1/2", "[2/2"]
    assert lines[-1] == "native: 2 files, 2 compiled, 0 from the cache"


def test_cache_holds_no_unfinished_file(units, tools, tmp_path):
    compiled(units, tools)
    kept = [path for path in Path(tmp_path, "cache").rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".o", ".json"}

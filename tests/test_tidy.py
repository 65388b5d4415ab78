"""The repository lints itself: what CONTRIBUTING.md promises and no other tool checks.

Each test reads the files that git knows (or would take) and reports every offence as `path:line: what`. Only the
standard library is used and nothing is built or started, so this is quick enough for every `make check`. Words that
may not stand in the tree are put together from parts here, so that this file can be held to its own rules.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TOP_LEVEL = frozenset(
    {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "THIRD-PARTY-NOTICES.md"}
    | {"pyproject.toml", "setup.py", "build_ffi.py", "MANIFEST.in", "Makefile", ".ci", ".gitignore"}
    | {"bifrost", "csrc", "cross", "tests", "bench", "docs"}
)
CODE = (".py", ".c", ".h")
FILE_LINES_MAX = 500
LONG_FILES = {  # Path -> the reason why it is one idea all the same; two entries at most.
    "csrc/bifrost.h": "the whole C API of the core, so that header and binding cannot disagree",
    "tests/unit/bridge/test_mqtt.py": "one connector against one scripted peer, fault by fault",
}
FUNCTION_LINES_MAX = 70
ROOT_TASKS = frozenset(
    {"bifrost/gateway/app.py"}
)  # The supervisor itself: its end has a deadline, which a group has not.
WATCHING = frozenset(
    {"bifrost/plc/scan.py", "bifrost/opcua/server.py", "bifrost/bridge/connectors/paho_loop.py"}
)  # One place for each C thread, and the loop that a library leaves to us.
THREADS = frozenset(
    {"bifrost/bridge/buffering/journal.py", "bifrost/bridge/connectors/dial.py", "bifrost/core/background.py"}
)  # The one that syncs, the one that connects, and the one that plans a reload: none of it may hold the loop.
LINE_CHARS_MAX = {".toml": 140, ".c": 150, ".h": 150, ".md": 150}  # Python's is held by ruff.
TEXT_BYTES_MAX = 200_000  # Nothing written by hand is longer; data is made by the test that needs it.
PROTOCOL_FILES = frozenset({"frame", "core", "address", "driver", "server", "simulator"})
NOT_PROTOCOLS = frozenset({"drivers"})  # Packages below `bifrost/plc` that hold no protocol.
ADR_SECTIONS = ("Context", "Decision", "Is / Is not", "Consequences", "Rejected, and why")
ADR_LINES_MAX = 80  # A page.
DOC_KINDS = frozenset({"tutorial", "how-to", "reference", "explanation", "adr"})
RUN_LANGUAGES = frozenset({"python", "toml", "console"})  # Run by tests/examples.
SHOWN_LANGUAGES = frozenset({"text", "c", "csv", "json"})  # Only shown.


def _joined(*words: str) -> str:
    """A pattern of alternatives, each word written here with a gap, so that this file does not hold it."""
    return "|".join(re.escape(word.replace(" ", "")) for word in words)


UNFINISHED = re.compile(rf"\b(?:{_joined('FIX ME', 'XX X', 'HA CK')})\b")
LATER = re.compile(rf"\b{_joined('TO DO')}\b(?!.{{0,40}}(?:#|issue )\d)")
REGISTRY_HOSTS = re.compile(
    _joined(
        "deb .debian",
        "debian .org/debian",
        "snapshot .debian",
        "security .debian",
        "archive .ubuntu",
        "deb .nodesource",
    )
    + "|"
    + _joined(
        "py pi.org", "python hosted.org", "registry .npmjs", "proxy .golang", "crates .io", "ghcr .io", "docker .io"
    ),
    re.IGNORECASE,
)
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|root|home/(?!\w*<)\w+|Users/\w+|mnt/\w+)/")
OLD_WORDS = re.compile(rf"\b\w*(?:{_joined('sla ve')}|{_joined('mas ter')}(?![ _]switch))\w*", re.IGNORECASE)
FOREIGN_WORDS = (
    "bifrost/gateway/importing/foreign_words.py",
    "tests/cases/imports/",
)  # What other programs write, in their words.
VAGUE_MODULES = frozenset(
    stem for word in ("util", "helper", "common", "manager", "base", "misc") for stem in (word, word + "s")
)
FOREIGN_SOURCE = re.compile(_joined("SPDX- License", "Copyright ( c)", "All rights re served"), re.IGNORECASE)
DISABLED_C = re.compile(r"^\s*#\s*if\s+0\b|^\s*(?://|/\*)\s*\S.*[)\w\]]\s*;\s*(?:\*/)?\s*$")
SHORT_C_NAMES = re.compile(r"\b(?:src|dst)\b")
SILENCED = re.compile(
    r"#\s*(?:noqa|type:\s*ignore)(?P<codes>(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[a-z\-, ]+\])?)(?P<why>.*)"
)


# -------------------------------------------------------------------------------------------------------------- files


@cache
def files() -> tuple[str, ...]:
    """Every file of the repository, as a path with slashes: what git tracks or would track."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(sorted(name for name in set(listed.split("\0")) if name and (ROOT / name).is_file()))


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


def named(*suffixes: str, below: str = "") -> list[str]:
    return [name for name in files() if name.endswith(suffixes) and name.startswith(below)]


def lines(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """`path:line` and text of every line."""
    for name in names:
        for number, line in enumerate(text_of(name).split("\n"), start=1):
            yield f"{name}:{number}", line


def matches(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    return [f"{place}: {line.strip()[:100]}" for place, line in lines(names) if pattern.search(line)]


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(text_of(name))


def calls(names: Iterable[str]) -> Iterator[tuple[str, ast.Call]]:
    for name in names:
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.Call):
                yield f"{name}:{node.lineno}", node


def dotted(node: ast.expr) -> str:
    """`a.b.c` as written; calls and subscripts in between become `()`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "()"


def report(problems: Iterable[str]) -> None:
    found = list(problems)
    assert not found, "\n" + "\n".join(found)


# ---------------------------------------------------------------------------------------------------- the tree itself


def test_top_level_is_the_design_s():
    report(f"{name}: not in the design's tree" for name in {name.split("/")[0] for name in files()} - TOP_LEVEL)


def test_every_protocol_has_the_same_files():
    packages = {name.split("/")[2] for name in named(".py", below="bifrost/plc/") if name.count("/") == 3}
    for package in sorted(packages - NOT_PROTOCOLS):
        there = {Path(name).stem for name in named(".py", below=f"bifrost/plc/{package}/")}
        report(f"bifrost/plc/{package}/{name}.py is missing" for name in sorted(PROTOCOL_FILES - there))


def test_modules_are_named_by_what_they_hold():
    report(f"{name}: says nothing about its contents" for name in named(*CODE) if Path(name).stem in VAGUE_MODULES)


def test_files_are_short():
    assert len(LONG_FILES) <= 2
    counts = {name: text_of(name).count("\n") for name in named(*CODE) if name not in LONG_FILES}
    report(f"{name}: {count} lines" for name, count in counts.items() if count > FILE_LINES_MAX)


def test_lines_are_short():
    report(
        f"{place}: {len(line)} characters"
        for place, line in lines(name for name in named(*LINE_CHARS_MAX) if not name.startswith("tests/cases/"))
        if len(line) > LINE_CHARS_MAX[Path(place.rpartition(":")[0]).suffix] and not line.startswith(("|", "{"))
    )


def test_text_is_clean():
    """UTF-8, ends with one line end, no tabs (but in Makefiles), carriage returns or trailing spaces; cases may differ."""
    written = [name for name in files() if not name.startswith("tests/cases/")]
    for name in written:
        data = (ROOT / name).read_bytes()
        assert len(data) <= TEXT_BYTES_MAX, f"{name}: {len(data)} bytes"
        assert not {0, 13} & set(data), f"{name}: not plain text"
        assert not data or (data.endswith(b"\n") and not data.endswith(b"\n\n")), f"{name}: must end with one line end"
        data.decode()
    report(
        f"{place}: tab or trailing space"
        # Python's is held by ruff; an empty line of a patch is a space.
        for place, line in lines(name for name in written if not name.endswith((".py", ".patch")))
        if line != line.rstrip() or ("\t" in line and "akefile" not in place)
    )


def test_nothing_of_others_is_committed():
    vendor = [name for name in named("", below="csrc/vendor/") if name != "csrc/vendor/sources.toml"]
    report(f"{name}: only sources.toml and patch files belong here" for name in vendor if not name.endswith(".patch"))
    report(matches(FOREIGN_SOURCE, named(*CODE, ".toml")))


def test_no_host_of_a_registry_and_no_path_of_a_machine():
    report(matches(REGISTRY_HOSTS, files()))
    report(matches(MACHINE_PATHS, files()))


# ----------------------------------------------------------------------------------------------------------- all code


def test_nothing_is_unfinished():
    code = [*named(*CODE, ".toml", ".patch"), "Makefile"]
    report(matches(UNFINISHED, [name for name in code if name in files()]))
    report(matches(LATER, [name for name in code if name in files()]))


def test_words_are_the_fields():
    ours = [name for name in files() if not name.endswith(".md") and not name.startswith(FOREIGN_WORDS)]
    report(matches(OLD_WORDS, ours))


def test_a_silenced_tool_is_named_and_the_reason_given():
    problems = []
    for place, line in lines(named(".py")):
        found = SILENCED.search(line)
        if found and not found["codes"]:
            problems.append(f"{place}: say which rule is silenced")
        elif found and not re.search(r"\w{3,}.*\w", found["why"]):
            problems.append(f"{place}: say why")
    report(problems)


# ------------------------------------------------------------------------------------------------------------- Python


def test_every_module_opens_with_its_idea():
    modules = [name for name in named(".py") if text_of(name)]
    report(f"{name}: no docstring" for name in modules if not ast.get_docstring(tree_of(name)))


def test_every_package_lists_what_is_public():
    inits = [name for name in named("/__init__.py", below="bifrost/") if len(tree_of(name).body) > 1]
    report(f"{name}: no __all__" for name in inits if not re.search(r"^__all__\b", text_of(name), re.MULTILINE))


def test_python_functions_are_short():
    for name in named(".py"):
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = node.body[0] if ast.get_docstring(node) else None
                length = (node.end_lineno or 0) - node.lineno + 1
                length -= (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
                assert length <= FUNCTION_LINES_MAX, f"{name}:{node.lineno}: {node.name} has {length} lines"


def test_only_the_supervisor_catches_everything():
    """Cleaning up after `BaseException` is allowed where the last word is `raise`."""
    for name in named(".py", below="bifrost/"):
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.ExceptHandler) and name != "bifrost/gateway/supervisor.py":
                caught = "Exception" if node.type is None else ast.unparse(node.type)
                last = node.body[-1]
                is_raised_again = caught == "BaseException" and isinstance(last, ast.Raise) and last.exc is None
                catches_all = re.search(r"\b(?:Exception|BaseException)\b", caught)
                assert not catches_all or is_raised_again, f"{name}:{node.lineno}: catches {caught}"


def test_tasks_are_started_in_a_group_and_have_a_name():
    """No loose task, no thread, no `gather`: a TaskGroup is the only way to start something."""
    banned = re.compile(
        r"(?:^|\.)(?:ensure_future|run_in_executor|to_thread|Thread|ThreadPoolExecutor|call_soon_threadsafe)$|^(?:asyncio\.)?gather$"
    )
    for place, call in calls(named(".py", below="bifrost/")):
        called = dotted(call.func)
        assert not banned.search(called) or place.split(":")[0] in THREADS, f"{place}: {called}"
        if called.endswith("create_task"):
            is_loose = re.search(r"(?:^asyncio|loop|\(\))\.create_task", called)
            assert not is_loose or place.split(":")[0] in ROOT_TASKS, f"{place}: {called} is loose"
            assert any(keyword.arg == "name" for keyword in call.keywords), f"{place}: the task has no name"


def test_descriptors_are_watched_where_a_c_thread_reports():
    others = [name for name in named(".py", below="bifrost/") if name not in WATCHING]
    watching = [place for place, call in calls(others) if dotted(call.func).endswith(".add_reader")]
    report(f"{place}: add_reader belongs into {' or '.join(sorted(WATCHING))}" for place in watching)


def test_tests_do_not_sleep():
    quiet = [name for name in named(".py", below="tests/") if "/interop/" not in name]
    sleeping = [place for place, call in calls(quiet) if dotted(call.func) == "time.sleep"]
    report(f"{place}: a test waits for what it needs, not for time" for place in sleeping)


# ------------------------------------------------------------------------------------------------------------------ C


def test_c_functions_are_short():
    """A function begins and ends in column 0, as all our C does."""
    function = re.compile(r"^(\w[^;{}=#]*\([^;{}=]*\)\s*\{\n.*?)^\}", re.MULTILINE | re.DOTALL)
    for name in named(".c"):
        for found in function.finditer(text_of(name)):
            length = found[1].count("\n") + 1
            assert length <= FUNCTION_LINES_MAX, f"{name}: {length} lines: {found[1][:60]}"


def test_every_c_file_opens_with_its_idea():
    report(f"{name}: must open with a comment" for name in named(".c", ".h") if not text_of(name).startswith("/* "))


def test_c_has_no_disabled_code_and_no_short_names():
    report(matches(DISABLED_C, named(".c", ".h")))
    report(matches(SHORT_C_NAMES, named(".c", ".h")))


# ---------------------------------------------------------------------------------------------------------- documents


def test_change_log_has_room_for_the_next_change():
    assert re.search(r"^## Unreleased$", text_of("CHANGELOG.md"), re.MULTILINE)


def test_contributing_lists_the_targets_of_make():
    listed = set(re.findall(r"^make ([a-z]+)  ", text_of("CONTRIBUTING.md"), re.MULTILINE))
    assert listed == set(re.findall(r"^([a-z]+):.*## ", text_of("Makefile"), re.MULTILINE))


def test_every_decision_has_its_sections_and_fits_a_page():
    status = re.compile(r"^\*Status:\* (?:proposed|accepted|replaced by \d{4}), \d{4}-\d\d-\d\d\.", re.MULTILINE)
    records = named(".md", below="docs/adr/")
    numbers = [Path(name).name[:4] for name in records]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)], "numbers run from 0001 without a gap"
    for name in records:
        text = text_of(name)
        assert text.startswith(f"# {Path(name).name[:4]}: "), f"{name}: title"
        assert status.search(text), f"{name}: status"
        assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == ADR_SECTIONS, f"{name}: sections"
        assert text.count("\n") <= ADR_LINES_MAX, f"{name}: longer than a page"


def test_every_page_is_of_one_kind_and_in_the_index():
    index = text_of("docs/README.md")
    for name in named(".md", below="docs/"):
        place = name.removeprefix("docs/")
        if place != "README.md":
            assert Path(place).parent.as_posix() in DOC_KINDS, f"{name}: one page, one kind"
            assert f"({place})" in index, f"{name}: not in docs/README.md"


def prose_of(name: str) -> str:
    """A Markdown file without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text_of(name), flags=re.MULTILINE | re.DOTALL))


def anchors_of(name: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text_of(name), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", [name for name in ("README.md", "CONTRIBUTING.md", "docs") if (ROOT / name).exists()])
def test_links_lead_somewhere(name: str):
    for page in named(".md", below=name):
        for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            goal = (ROOT / page).parent / path if path else ROOT / page
            assert goal.exists(), f"{page}: {link} leads nowhere"
            if anchor:
                headings = anchors_of(goal.resolve().relative_to(ROOT).as_posix())
                assert anchor in headings, f"{page}: no heading for {link}"


def test_every_code_block_names_a_known_language():
    for name in named(".md"):
        fences = re.findall(r"^ *```(.*)$", text_of(name), re.MULTILINE)
        assert len(fences) % 2 == 0, f"{name}: a code block is not closed"
        for fence in fences[::2]:
            language = fence.split(" ")[0]
            assert language in RUN_LANGUAGES | SHOWN_LANGUAGES, f"{name}: ```{fence}"

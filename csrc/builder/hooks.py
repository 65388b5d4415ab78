"""Functions of open62541 that are ours instead: whether each is still replaced (docs/adr/0019).

`ua_unit.c` declares the library's own definition weak and `ua_hooks.c` has the strong one, which then wins in the link. If a release of
the library renames such a function, makes it static or defines it elsewhere, everything still compiles and links, and
ours is never called. So each build looks into the objects.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from csrc.builder import BuildError

WEAK = re.compile(r"^#pragma weak (\w+)$", re.MULTILINE)
LISTED = re.compile(r"^(?P<file>.*):[0-9a-fA-F]+ (?P<kind>[A-TV-Z]) (?P<name>\w+)$")
"""A line of `nm -A` about a global symbol that is defined; Mach-O's leading underscore never comes here."""


def declared_weak(unit: Path) -> set[str]:
    """Return the functions that `unit` lets others replace."""
    return set(WEAK.findall(unit.read_text()))


def check(unit: Path, unit_object: Path, hooks_object: Path, objects: Sequence[Path]) -> None:
    """Look whether each hook replaces one function of the library: weak there, strong in ours, and nowhere else.

    Args:
        unit: The source that declares them.
        unit_object: Its object.
        hooks_object: The object with our definitions, and nothing besides.
        objects: All that is linked, these two included.

    Raises:
        BuildError: One is not; the message names it. Nothing is checked where no `nm` is at hand that reads the files.
    """
    command = ["nm", "-A", "--defined-only", *map(str, objects)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return
    found: dict[str, list[tuple[str, str]]] = {}
    for line in run.stdout.splitlines():
        match = LISTED.match(line)
        if match:
            found.setdefault(match["name"], []).append((match["file"], match["kind"]))
    if run.returncode != 0 or not found:  # objects of another processor, which this nm may not know
        return
    weak = declared_weak(unit)
    ours = {name for name, places in found.items() if (str(hooks_object), "T") in places}
    expected = sorted([(str(unit_object), "W"), (str(hooks_object), "T")])
    wrong = sorted(name for name in weak | ours if sorted(found.get(name, [])) != expected)
    if wrong:
        raise BuildError(
            f"functions of open62541 that should be ours are not (docs/adr/0019): {', '.join(wrong)}."
            f" Each has to be weak in {unit.name}, defined once more in ua_hooks.c, and nowhere else."
        )

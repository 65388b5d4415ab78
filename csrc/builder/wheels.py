"""`python -m csrc.builder.wheels FOLDER`: the sdist, the pure wheel, and a wheel for each target of cross/targets.toml.

All foreign and native wheels are compiled by zig against one old glibc, so their tags hold by construction. Each is
built in a process and a folder of its own, so that nothing of one target finds its way into another's wheel.
"""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from csrc.builder import BUILD, ROOT, BuildError
from csrc.builder.modules import say


def main(folder: Path) -> None:
    """Write all distributions into `folder`. Raises BuildError for the first that fails."""
    _run("build_sdist", folder, "sdist", {})
    _run("build_wheel", folder, "pure", {"BIFROST_NO_NATIVE": "1"})
    targets = tomllib.loads((ROOT / "cross" / "targets.toml").read_text())
    for target, entry in targets.items():
        _run("build_wheel", folder, target, {"BIFROST_TARGET": target}, f"--plat-name={entry['wheel']}")
    for path in sorted(folder.iterdir()):
        say(f"{path.name} {path.stat().st_size:,} bytes")


def _run(hook: str, folder: Path, name: str, environment: dict[str, str], *options: str) -> None:
    """Call one hook of setuptools' build back end, as pip would."""
    say(f"{hook} {name}")
    folder.mkdir(parents=True, exist_ok=True)
    place = BUILD / "wheels" / name
    place.mkdir(parents=True, exist_ok=True)
    configuration = place / "distutils.cfg"
    configuration.write_text(f"[build]\nbuild_base = {place}\n[egg_info]\negg_base = {place}\n")
    settings = {"--build-option": list(options)} if options else None
    code = (
        f"import json; from setuptools import build_meta; "
        f"build_meta.{hook}({str(folder.resolve())!r}, json.loads({json.dumps(settings)!r}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment, "DIST_EXTRA_CONFIG": str(configuration)},
        stdout=subprocess.DEVNULL,  # setuptools' list of copied files; progress and errors go to standard error
        check=False,
    )
    if run.returncode != 0:
        raise BuildError(f"{hook} {name} failed.")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except BuildError as error:
        sys.exit(str(error))

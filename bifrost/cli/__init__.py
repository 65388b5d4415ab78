"""The command line `bifrost`: `main` finds the command, one module a command does the work.

A command module has `configure(parser)`, which adds its arguments, and `run(options)`, which returns the exit code. It is imported only
when its command is used, so that `bifrost --help` stays quick on a small machine.
"""

from __future__ import annotations

__all__: list[str] = []

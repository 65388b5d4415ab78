"""Exit codes of every command, and `code` of error answers on the control socket (CONTRACT, Command line)."""

from __future__ import annotations

from typing import Final

__all__ = ["EXIT_DONE", "EXIT_FAILED", "EXIT_UNREACHABLE", "EXIT_WRONG"]

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_WRONG: Final = 2
"""Wrong usage or configuration."""
EXIT_UNREACHABLE: Final = 3

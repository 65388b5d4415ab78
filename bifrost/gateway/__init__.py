"""The gateway process: a configuration turned into running tasks.

`check` says what a configuration would do; `app` does it; `supervisor` keeps every task alive; `control` and `commands` answer live
commands; `health` knows how everything is doing. This is the only layer that knows all the others.
"""

from __future__ import annotations

__all__: list[str] = []

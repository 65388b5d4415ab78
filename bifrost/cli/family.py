"""Processes that never outlive the one that started them, however that one ends: by itself, by Ctrl-C, or by SIGKILL.

All are in one process group, whose leader waits at a pipe. The other end is open in this process alone, so that the system closes it when
this process is no more; the leader then ends the group. It is five words of shell: nothing of ours runs in the processes themselves.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["Family"]

_STOP_TIMEOUT_S: Final = 1.9  # A gateway takes less than 1.8 s, whatever happens.
_LEADER: Final = 'trap "" HUP INT TERM; read -r _; kill -TERM 0; sleep 2; kill -KILL 0'


class Family:
    """A group of processes; a context manager, at whose end none of them is left."""

    def __init__(self) -> None:
        end, self._lifeline = os.pipe()
        try:
            silent = subprocess.DEVNULL
            self._leader = subprocess.Popen(
                ["/bin/sh", "-c", _LEADER], stdin=end, stdout=silent, stderr=silent, process_group=0
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(end)
        self._members: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """A process without standard input, which signals of the terminal do not reach.

        Args:
            command: Program and arguments.
            options: Further ones of `subprocess.Popen`.
        """
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, process_group=self._leader.pid, close_fds=True, **options
        )
        self._members = [*(member for member in self._members if member.poll() is None), process]
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Asks `process` to end, waits for it, and kills it if it does not. Takes 2 s at most."""
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)

    def close(self) -> None:
        """Kills whoever is left. Safe to call twice."""
        for process in [*self._members, self._leader]:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._members.clear()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""`Paced`: work that may pile up, done one item at a time so that the event loop stays free for everything else.

A thousand devices that refuse their blocks all want to be planned again at once; each plan takes milliseconds. What
waits here is a set: an item that is added again before its turn is done once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Paced"]

_REST_FACTOR: Final = 2.0  # After each item the loop is left alone for twice as long as the item took.

_T = TypeVar("_T", bound=Hashable)


class Paced(Generic[_T]):
    """Calls `work` for each added item, in their order.

    Args:
        loop: Whose time is shared.
        work: What is to be done; it must not raise.
        delay_s: Time before the first item of a pile, in seconds, so that more of the same can arrive.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[_T], None], delay_s: float) -> None:
        self._loop = loop
        self._work = work
        self._delay_s = delay_s
        self._items: dict[_T, None] = {}  # A set that keeps the order.
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: _T) -> None:
        """Puts `item` at the end of the pile, unless it is in it."""
        self._items.setdefault(item)
        if self._timer is None:
            self._timer = self._loop.call_later(self._delay_s, self._next)

    def clear(self) -> None:
        """Forgets what waits."""
        self._items.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        self._timer = None
        item = next(iter(self._items))
        del self._items[item]
        started = self._loop.time()
        self._work(item)
        rest_s = _REST_FACTOR * (self._loop.time() - started)
        if self._items:
            self._timer = self._loop.call_later(rest_s, self._next)

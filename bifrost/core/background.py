"""Long work that is pure, done beside the event loop: in a thread that lives for this one call.

Reading and planning 10,000 tags takes a tenth of a second of Python. In a thread it takes turns with the loop, which gets the interpreter
back within the switch interval (5 ms) whenever it wants it; so control socket, uplinks and keep-alives go on. What runs there may read what
nobody changes meanwhile, and gives back something new; it changes nothing that the loop knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from bifrost.core.errors import BifrostError

__all__ = ["in_background"]

_Result = TypeVar("_Result")


async def in_background(work: Callable[[], _Result]) -> _Result:
    """What `work` gives or raises. When the caller is cancelled the work goes on, and nobody hears of it; it does not hold up a stop."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def tell(settle: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop has ended.
            loop.call_soon_threadsafe(lambda: None if done.cancelled() else settle())

    def run() -> None:
        try:
            result = work()
        except (BifrostError, OSError, ValueError) as error:
            tell(partial(done.set_exception, error))
        except BaseException as error:
            tell(partial(done.set_exception, error))
            raise  # A bug: the thread says so too.
        else:
            tell(partial(done.set_result, result))

    threading.Thread(target=run, name="background", daemon=True).start()
    return await done

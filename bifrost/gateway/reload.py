"""Reload: the configuration files are read again, and the gateway goes over to what they say now, or stays as it is.

A reload that cannot work is refused as a whole, with the messages of `bifrost check`, and changes nothing. One that was carried out is
watched for a while: every tag that was good before, on a device that is polled in another way now, has to give a good value again, and
every uplink that was connected and was changed has to connect. Otherwise the gateway goes back to the configuration before and says why.

One reload at a time; it runs in a child of the supervisor, so that nobody who asks for one and leaves can cut it short.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from bifrost._native import records
from bifrost.core.background import in_background
from bifrost.core.clock import format_time_ns
from bifrost.core.config import Config, read_config
from bifrost.core.errors import BifrostError, LimitError
from bifrost.core.log import fields
from bifrost.core.secrets import SECRETS
from bifrost.core.status import is_good, status_name
from bifrost.gateway.changeover import Changeover
from bifrost.gateway.check import inspect_config
from bifrost.gateway.difference import Difference, compare, restart_errors
from bifrost.gateway.exits import EXIT_FAILED, EXIT_WRONG
from bifrost.gateway.supervisor import failure_of

if TYPE_CHECKING:
    from bifrost.core.columns import TagColumns
    from bifrost.gateway.app import Gateway

__all__ = ["ReloadRefusedError", "ReloadUndoneError", "Reloader"]

_log = logging.getLogger("bifrost.gateway.reload")

_HEALTHY_TIMEOUT_S: Final = 10.0
_LOOK_S: Final = 0.05
_NAMES_SHOWN_MAX: Final = 3


class ReloadRefusedError(BifrostError):
    """The configuration cannot be taken over, and nothing was changed. The text has a line for each mistake."""

    exit_code = EXIT_WRONG


class ReloadUndoneError(BifrostError):
    """The configuration was taken over, did not work, and the one before is back."""

    exit_code = EXIT_FAILED


class _Asked(NamedTuple):
    who: str
    answer: asyncio.Future[dict[str, Any]] | None


class Reloader:
    """Reloads one gateway.

    Args:
        gateway: Running.
        environ: For variables and overrides, as at the start.
        on_begin: Called before anything is read, and
        on_end: when all is done, whatever came of it.
        healthy_timeout_s: How long changed devices and uplinks have to become good again.

    Attributes:
        count: Reloads asked for.
        last: What came of the last one: ``time``, ``result``, and ``message`` or counts; empty before the first.
    """

    def __init__(
        self,
        gateway: Gateway,
        environ: Mapping[str, str],
        *,
        on_begin: Callable[[], None],
        on_end: Callable[[], None],
        healthy_timeout_s: float = _HEALTHY_TIMEOUT_S,
    ) -> None:
        self._gateway = gateway
        self._environ = environ
        self._on_begin = on_begin
        self._on_end = on_end
        self._healthy_timeout_s = healthy_timeout_s
        self._waiting: _Asked | None = None
        self._is_busy = False
        self._news = asyncio.Event()
        self.count = 0
        self.last: dict[str, Any] = {}

    def ask(self, who: str) -> Awaitable[dict[str, Any]]:
        """Asks for a reload; what comes back is `last`.

        Args:
            who: For the audit log.

        Raises:
            ReloadRefusedError: The configuration is wrong, or there is a reload under way; nothing was changed.
            ReloadUndoneError: It was taken back.
        """
        if self._is_busy or self._waiting is not None:
            raise ReloadRefusedError("a reload is under way; try again when it has ended")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting = _Asked(who, answer)
        self._news.set()
        return asyncio.shield(answer)

    def signal(self) -> None:
        """SIGHUP: asks for a reload after the one that is under way; several signals meanwhile are one."""
        if self._waiting is None:
            self._waiting = _Asked("signal", None)
            self._news.set()

    async def run(self) -> None:
        """Reloads whenever it is asked to, until cancelled."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                asked, self._waiting = self._waiting, None
                if asked is not None:
                    await self._serve(asked)
        finally:
            self._is_busy = False

    async def _serve(self, asked: _Asked) -> None:
        self._is_busy = True
        self.count += 1
        self._on_begin()
        failure: BifrostError | None = None
        details: dict[str, Any] = {}
        try:
            details = await self._reload()
        except (ReloadRefusedError, ReloadUndoneError) as error:
            failure, details = error, {"message": SECRETS.redacted(str(error))}
        finally:
            self._is_busy = False
            self._on_end()
            if failure is None and not details and asked.answer is not None:
                asked.answer.cancel()  # A bug, or the gateway stops.
        result = "done"
        if failure is not None:
            result = "undone" if isinstance(failure, ReloadUndoneError) else "refused"
        self.last = {"time": format_time_ns(self._gateway.clock.utc_ns()), "result": result, **details}
        self._tell(asked, failure)

    def _tell(self, asked: _Asked, failure: BifrostError | None) -> None:
        told = {key: value for key, value in self.last.items() if key != "time"}
        level = logging.INFO if failure is None else logging.ERROR
        _log.log(level, "reload", extra=fields(who=asked.who, **told))
        self._gateway.note("reload", asked.who, told, is_durable=True)
        if asked.answer is None or asked.answer.done():
            return
        if failure is None:
            asked.answer.set_result(self.last)
        else:
            asked.answer.set_exception(failure)
            asked.answer.exception()  # Who asked may have left.

    # ---- one reload

    async def _reload(self) -> dict[str, Any]:
        gateway = self._gateway
        before = gateway.config
        after = await self._load()
        difference = await in_background(partial(compare, before, after))
        if not difference.is_any:
            return {"changes": "none"}
        counts = {name: count for name, count in difference.counts(before).items() if count}
        changes = counts | dict.fromkeys(difference.others, "changed")
        good = _good_rows(gateway, before.tags)
        connected = gateway.uplinks.connected() & _changed_uplinks(before, after)
        changeover = await self._go(after, difference, {})
        await asyncio.sleep(_LOOK_S)  # The engine has its new plans now: what is answered from here on counts.
        since_ns = gateway.clock.utc_ns()
        unhealthy = list(changeover.failures) or await self._unhealthy(
            changeover.repolled, before.tags, good, since_ns, connected
        )
        if unhealthy:
            failures = await self._go_back(before, changeover.leftover.rows)
            undone = f"not undone, restart the gateway ({'; '.join(failures)})" if failures else "undone"
            back = "" if failures else ", the configuration before is back"
            raise ReloadUndoneError(f"{undone}{back}: {'; '.join(unhealthy)}")
        changeover.leftover.retire(gateway)
        return changes

    async def _load(self) -> Config:
        """The configuration as the files say now. Raises ReloadRefusedError with every mistake."""
        gateway = self._gateway
        config, problems = await in_background(partial(read_config, gateway.config.file, self._environ))
        if config is None:
            raise ReloadRefusedError("\n".join(_messages(problems.errors, problems.errors_count)))
        errors = list(restart_errors(gateway.config, config))
        if errors:
            raise ReloadRefusedError("\n".join(map(str, errors)))
        limits = gateway.config.limits
        if len(config.tags) > limits.tags_count_max:
            text = f"{len(config.tags)} tags are configured; a restart makes room for them"
            raise ReloadRefusedError(str(LimitError("tags_count_max", limits.tags_count_max, text)))
        config = msgspec.structs.replace(config, limits=limits)
        inspection = await in_background(partial(inspect_config, config))
        if inspection.errors:
            raise ReloadRefusedError("\n".join(inspection.messages))
        return msgspec.structs.replace(config, warnings=inspection.warnings)

    async def _go(self, config: Config, difference: Difference, leftover: Mapping[str, int]) -> Changeover:
        changeover = Changeover(self._gateway, config, difference, leftover)
        try:
            await changeover.prepare()
        except BifrostError as error:
            raise ReloadRefusedError(str(error)) from error
        bug = await failure_of(changeover.carry_out)
        if bug is not None:  # There is a way back all the same.
            _log.error("reload failed", exc_info=bug)
            changeover.failures.append(f"internal error: {bug!r}")
        return changeover

    async def _go_back(self, before: Config, leftover: Mapping[str, int]) -> list[str]:
        """Undoes what `_go` did; gives what went wrong with that."""
        difference = await in_background(partial(compare, self._gateway.config, before))
        try:
            changeover = await self._go(before, difference, leftover)
        except ReloadRefusedError as error:
            return [str(error)]
        changeover.leftover.retire(self._gateway)
        return changeover.failures

    # ---- health

    async def _unhealthy(
        self, devices: frozenset[str], before: TagColumns, good: frozenset[int], since_ns: int, uplinks: frozenset[str]
    ) -> list[str]:
        """What was good and is not good again within the time; empty: all is well."""
        gateway = self._gateway
        tags = gateway.config.tags
        wanted = array(
            "I",
            [row for name in devices for row in tags.device_range(name) if before.id_of(tags.full_name(row)) in good],
        )
        lost: list[str] = []
        deadline_ns = gateway.clock.now_ns() + int(self._healthy_timeout_s * 1e9)
        while gateway.clock.now_ns() < deadline_ns:
            wanted = _not_good_since(gateway, wanted, since_ns)
            lost = sorted(uplinks - gateway.uplinks.connected())
            if not wanted and not lost:
                return []
            await asyncio.sleep(_LOOK_S)
        statuses = gateway.runtime.table.statuses(wanted[:_NAMES_SHOWN_MAX])
        names = [
            f"{tags.full_name(row)} was good and is {_worded(status)}"
            for row, status in zip(wanted, statuses, strict=False)
        ]
        more = [f"so are {len(wanted) - len(names)} more tags"] if len(wanted) > len(names) else []
        return [*names, *more, *(f"uplink {name} was connected and is not" for name in lost)]


def _messages(errors: list[Any], count: int) -> list[str]:
    more = [f"... and {count - len(errors)} more"] if count > len(errors) else []
    return [*map(str, errors), *more]


def _changed_uplinks(before: Config, after: Config) -> frozenset[str]:
    """Names of the uplinks that are in both and not the same."""
    old = {uplink.name: uplink for uplink in before.uplinks}
    return frozenset(one.name for one in after.uplinks if one.name in old and old[one.name] != one)


def _good_rows(gateway: Gateway, tags: TagColumns) -> frozenset[int]:
    statuses = gateway.runtime.table.statuses(array("I", tags.ids))
    return frozenset(row for row, status in zip(tags.ids, statuses, strict=True) if is_good(status))


def _not_good_since(gateway: Gateway, rows: array[int], since_ns: int) -> array[int]:
    """Those of `rows` that have had no good answer since `since_ns` (UTC)."""
    packed = gateway.runtime.table.native.read(rows)
    slots = records.SLOT.iter_unpack(packed)
    return array(
        "I",
        [
            row
            for row, (_, _, server_time, status, _) in zip(rows, slots, strict=True)
            if not is_good(status) or server_time < since_ns
        ],
    )


def _worded(status: int) -> str:
    return "not read again" if is_good(status) else status_name(status)

"""`Scanner`: starts the scan engine, feeds it plans and descriptors, and passes on what it reports.

The engine polls; this decides. When the engine wants a connection, the driver opens it in a named task of the group
that the device's owner gave; the descriptor then belongs to the shell until the link closes. Everything else happens in
callbacks of the loop, so that a Scanner has no task of its own.

States of a link: connecting, up, down (the engine comes back by itself), removed. One plan is pending at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from bifrost._native import contract, records
from bifrost._native.records import Action, Event, OneShot
from bifrost.core.clock import Clock
from bifrost.core.contracts import Driver, Failure, Request
from bifrost.core.errors import BifrostError, ClosedError, ConnectError, LimitError, NoAnswerError
from bifrost.core.runtime import Runtime, shell_limits
from bifrost.core.status import status_name
from bifrost.core.tag import Tag
from bifrost.plc.answers import Answer, end_of, oneshot_event, refusal_of
from bifrost.plc.commands import CommandQueue
from bifrost.plc.links import Device, DeviceStatus, Link, LinkStatus, Planned, Watch
from bifrost.plc.loop_shell import LoopShell
from bifrost.plc.paced import Paced
from bifrost.plc.plan import compile_plan

__all__ = ["Answer", "Device", "DeviceStatus", "LinkStatus", "Scanner", "Watch"]

_log = logging.getLogger("bifrost.plc.scan")

_CONNECT_TIMEOUT_S = 3.5  # A lost SYN is sent again after 1 s, then after 2 more; RFC 6298, 2.
_REPLAN_DELAY_S = 0.05  # At most 20 plans a second, however many blocks a device refuses.
_ONESHOTS_AT_ONCE = 16  # Of one caller, so that others get their turn.
_CLOCK_PERIOD_S = 1.0
_NOTICES_PER_TURN = 256  # Then the loop's other callbacks have their turn.
_POLL_TRIES_MAX = 8  # Of `poll_now` while plans change under it.
_PHASE_STEP = 0.6180339887498949  # Golden ratio: any number of links is spread evenly over the period.


class Scanner:
    """Drives the engine of one runtime, from the running loop only. `close` ends it; so does closing the runtime.

    Args:
        runtime: Whose engine; one Scanner each.
        is_threaded: Let a C thread do the polling if the backend has one; False: the loop does.
        clock: Makes UTC of the engine's times; updated once a second. None: one of its own.
        on_learned: Called with a device whose driver has learned something worth storing (`Driver.learned`).

    Raises:
        OSError: The system refuses to start the thread.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        is_threaded: bool = True,
        clock: Clock | None = None,
        on_learned: Callable[[Device], None] | None = None,
    ) -> None:
        self.runtime = runtime
        self.is_closed = False
        self._loop = asyncio.get_running_loop()
        self.clock = Clock() if clock is None else clock
        self._on_learned = on_learned
        self._links: list[Link | None] = [None] * runtime.limits.links_count_max
        self._shared: dict[str, Link] = {}
        self._futures: dict[int, asyncio.Future[Action]] = {}
        self._token = 0
        self._is_taking = False
        self._clock_known: tuple[int, bool, int] | None = None
        self._handlers = {
            records.ACTION_CONNECT: self._on_connect,
            records.ACTION_UP: Link.on_up,
            records.ACTION_DOWN: Link.on_down,
            records.ACTION_EXCHANGE: self._on_exchange,
            records.ACTION_UNIT: Link.on_unit,
            records.ACTION_PLANNED: self._on_planned,
        }
        self._learned = Paced(self._loop, self._plan_again, _REPLAN_DELAY_S)
        self._shell = self._start_shell(is_threaded)
        self._commands = CommandQueue(self._shell, self._loop, runtime.limits.commands_count_max)
        self._clock_timer: asyncio.TimerHandle | None = None
        self._tell_clock()
        runtime.on_close(self.close)

    def _start_shell(self, is_threaded: bool) -> contract.Shell:
        shell = self.runtime.make_shell() if is_threaded else None
        if shell is None:
            return LoopShell(
                self.runtime.scan,
                shell_limits(self.runtime.limits),
                loop=self._loop,
                watch=self._loop.add_reader,
                notify=self._take_notices,
                now_ns=self.clock.now_ns,
            )
        shell.start()
        self._loop.add_reader(shell.fileno(), self._take_notices)
        return shell

    def close(self) -> None:
        """Stops the shell and fails whoever waits with ClosedError. May be called twice."""
        if self.is_closed:
            return
        self.is_closed = True
        for link in self._links:
            if link is not None:
                self._end_link(link)
                link.run_when_planned()
        if not self._loop.is_closed() and self._shell.fileno() >= 0:
            self._loop.remove_reader(self._shell.fileno())
        if self._clock_timer is not None:
            self._clock_timer.cancel()
        self._learned.clear()
        self._commands.close()
        self._shell.stop()
        for token, future in self._futures.items():
            if not future.done():
                future.set_result(Action(records.ACTION_DONE, 0, code=records.DONE_CLOSED, token=token))

    # ---- devices -----------------------------------------------------------------------------------------------------

    def add_device(
        self,
        driver: Driver,
        tags: Sequence[Tag] = (),
        rows: Sequence[int] = (),
        *,
        group: asyncio.TaskGroup,
        name: str = "",
        shares_link: bool = True,
        requests: Sequence[Request] | None = None,
    ) -> Device:
        """Adds a device and begins to connect; with `tags`, also to poll them into the table.

        Args:
            driver: The device's.
            tags: What to poll; any sequence, kept.
            rows: Row of the table of each tag; defined before.
            group: Where connecting runs; it must outlive the device. Its task fails only by a bug.
            name: For logs and status.
            shares_link: Whether devices with the same `link_key` use one connection.
            requests: What the driver made of `tags`, if the caller has it already; planning 100,000 tags takes a second.

        Raises:
            AddressError: The driver cannot read one of `tags`; nothing is added then.
            LimitError: `links_count_max` links are there.
            ClosedError: The scanner is closed.
        """
        if self.is_closed:
            raise ClosedError("the scanner was closed")
        if requests is None:
            requests = driver.plan(tags, rows) if tags else ()
        link = self._shared.get(driver.link_key) if shares_link else None
        if link is None:
            link = self._make_link(driver, group, shares_link)
        device = Device(name or driver.link_key, driver, link)
        if tags:
            device.watches.append(Watch(tags, rows, requests))
        link.devices.append(device)
        self._replan_soon(link)
        return device

    def remove(self, device: Device) -> None:
        """Polls `device` no longer; the last one of a link closes it. May be called twice."""
        link = device.link
        if self.is_closed or device not in link.devices:
            return
        link.devices.remove(device)
        if link.devices:
            self._replan_soon(link)
            return
        self._end_link(link)
        self._commands.send(Event(records.EVENT_STOP, link.index))
        if link.generation == 0:  # The engine has no plan, whose end it would report.
            self._forget_link(link)

    def watch(
        self, device: Device, tags: Sequence[Tag], rows: Sequence[int], requests: Sequence[Request] | None = None
    ) -> Watch:
        """Polls `tags` too, until `unwatch`; `requests` as in `add_device`. Raises AddressError for a tag that the driver cannot read."""
        watch = Watch(tags, rows, device.driver.plan(tags, rows) if requests is None else requests)
        device.watches.append(watch)
        self._replan_soon(device.link)
        return watch

    def unwatch(self, device: Device, watch: Watch, when_done: Callable[[], None]) -> None:
        """Polls `watch` no longer; `when_done` is called once nothing writes its rows any more."""
        link = device.link
        if watch not in device.watches:
            return
        device.watches.remove(watch)
        if self.is_closed or self._links[link.index] is not link:
            when_done()
            return
        link.when_planned.append(when_done)
        self._replan_soon(link)

    async def wait_up(self, device: Device, timeout_s: float) -> None:
        """Returns once the link of `device` is up.

        Args:
            device: Whose link.
            timeout_s: The longest wait, in seconds.

        Raises:
            ConnectError: An attempt failed meanwhile, or the time is over; the message says why.
            ClosedError: The device was removed.
        """
        link = device.link
        if link.is_up:
            return
        self._require_open(device)
        waiter: asyncio.Future[None] = self._loop.create_future()
        link.waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError as error:
            raise ConnectError(f"{link.key} is not connected: {link.reason}") from error
        finally:
            link.waiters.discard(waiter)

    async def execute(self, device: Device, oneshot: OneShot) -> bytes:
        """Sends one request ahead of all polls and returns the whole answer frame.

        Waits for the requests before it and at most the link's time-out (or its own) for the answer. If the caller is
        cancelled, the request may be sent all the same; its answer is then dropped.

        Args:
            device: Whom to ask.
            oneshot: `exchange.unit` is the unit as the protocol counts it.

        Raises:
            DeviceError: The device said no; `status` is that of a read.
            NoAnswerError: It did not answer in time.
            ClosedError: The link is not up, or closed meanwhile.
            LimitError: Too many requests are waiting.
        """
        [answer] = await self.execute_all(device, [oneshot])
        if isinstance(answer, NoAnswerError):
            raise answer
        if answer.code:
            raise refusal_of(device, answer.code, answer.status)
        return answer.frame

    async def execute_all(self, device: Device, oneshots: Iterable[OneShot]) -> list[Answer | NoAnswerError]:
        """Sends requests one after the other, as the link's window allows, and returns what became of each.

        Raises:
            ClosedError, LimitError: See `execute`; what the others answered is then lost.
        """
        ends = []
        waiting = iter(oneshots)
        while part := list(islice(waiting, _ONESHOTS_AT_ONCE)):
            asked = [self._ask(device, oneshot_event(device.link, oneshot)) for oneshot in part]
            try:
                ends += [end_of(device, await future, self.runtime.limits) for _, future in asked]
            finally:
                for token, _ in asked:
                    self._futures.pop(token, None)
        return ends

    async def poll_now(self, device: Device, row: int) -> None:
        """Polls the block that holds table row `row` now, into the table: the read-back after a write.

        Raises:
            ValueError: Nothing polls that row.
            DeviceError: The device said no; NoAnswerError, ClosedError, LimitError: see `execute`.
        """
        for _ in range(_POLL_TRIES_MAX):
            adopted = device.link.adopted
            number = adopted.plan.exchange_of(row) if adopted is not None else None
            if adopted is None or number is None:
                raise ValueError(f"{device.name}: row {row} is not polled")
            generation = adopted.plan.plan.generation
            event = Event(records.EVENT_POLL, device.link.index, number, value=generation)
            token, future = self._ask(device, event)
            try:
                notice = await future
            finally:
                self._futures.pop(token, None)
            if notice.code == records.DONE_REPLANNED:
                continue
            end = end_of(device, notice, self.runtime.limits)
            if isinstance(end, NoAnswerError):
                raise end
            if end.code:
                raise refusal_of(device, end.code, end.status)
            return
        raise NoAnswerError(f"{device.name}: its plan changes faster than it can be polled")

    async def beat(self) -> None:
        """Returns once the engine has taken an event and answered it, which waits for no device. Raises ClosedError, LimitError."""
        idle = next((index for index, link in enumerate(self._links) if link is None or not link.is_up), 0)
        token, future = self._ask_engine(Event(records.EVENT_POLL, idle))
        try:
            await future
        finally:
            self._futures.pop(token, None)

    def status(self) -> list[LinkStatus]:
        """All links, in the order of their numbers."""
        return [
            link.status(self.runtime.scan.counters(link.index))
            for link in self._links
            if link is not None and not link.is_removed
        ]

    @property
    def notices_dropped(self) -> int:
        """Reports of the engine that were lost because Python did not take them in time."""
        return self._shell.dropped()

    @property
    def cpu_ns(self) -> int:
        """CPU time of the engine's thread, in nanoseconds; 0 when the loop does the work."""
        return self._shell.cpu_ns()

    # ---- links and plans ---------------------------------------------------------------------------------------------

    def _make_link(self, driver: Driver, group: asyncio.TaskGroup, shares_link: bool) -> Link:
        try:
            index = self._links.index(None)
        except ValueError:
            limit = self.runtime.limits.links_count_max
            raise LimitError("links_count_max", limit, f"no room for a connection to {driver.link_key}") from None
        link = self._links[index] = Link(index, driver.link_key, driver.link_options, group)
        if shares_link:
            self._shared[link.key] = link
        self._commands.send(Event(records.EVENT_LINK, index, data=link.options))
        return link

    def _end_link(self, link: Link) -> None:
        """What there is to do in Python; the engine still has to stop it, and says so by a PLANNED of generation 0."""
        link.is_removed = True
        if self._shared.get(link.key) is link:
            del self._shared[link.key]
        if link.replan_timer is not None:
            link.replan_timer.cancel()
        if link.session is not None:
            link.session.cancel()
        link.wake_waiters(ClosedError(f"{link.key} was closed"))

    def _forget_link(self, link: Link) -> None:
        self._links[link.index] = None
        link.run_when_planned()

    def _replan_soon(self, link: Link) -> None:
        link.is_dirty = True
        if link.pending is None and link.replan_timer is None and not link.is_removed:
            link.replan_timer = self._loop.call_later(0.0, self._replan, link)

    def _replan(self, link: Link) -> None:
        link.replan_timer = None
        link.is_dirty = False
        link.generation += 1
        requests: list[Request] = []
        owners: dict[int, Device] = {}
        for device in link.devices:
            requests += device.requests
            owners.update((id(request), device) for request in device.requests)
        codes = link.devices[0].driver.codes
        plan = compile_plan(link.generation, requests, codes, phase=link.index * _PHASE_STEP % 1.0)
        link.pending = Planned(plan, owners)
        self._commands.send(Event(records.EVENT_PLAN, link.index, data=plan.plan))

    def _on_planned(self, link: Link, notice: Action) -> None:
        if link.is_removed:
            if notice.generation == 0:
                self._forget_link(link)
            return
        if link.pending is not None and link.pending.plan.plan.generation == notice.generation:
            link.adopted, link.pending = link.pending, None
            link.units_open.clear()
            if link.is_dirty:
                self._replan_soon(link)
            else:
                link.run_when_planned()

    # ---- notices -----------------------------------------------------------------------------------------------------

    def _take_notices(self) -> None:
        if self._is_taking or self.is_closed:
            return
        self._is_taking = True
        try:
            for _ in range(_NOTICES_PER_TURN):
                notice = self._shell.take()
                if notice is None:
                    return
                self._on_notice(notice)
            self._loop.call_soon(self._take_notices)
        finally:
            self._is_taking = False

    def _on_notice(self, notice: Action) -> None:
        if notice.kind == records.ACTION_DONE:
            future = self._futures.pop(notice.token, None)
            if future is not None and not future.done():
                future.set_result(notice)
            return
        link = self._links[notice.link]
        if link is not None:
            self._handlers[notice.kind](link, notice)

    def _on_connect(self, link: Link, notice: Action) -> None:
        if link.is_removed:
            return
        session = self._open_session(link)
        try:
            link.session = link.group.create_task(session, name=f"bifrost connect {link.key}")
        except RuntimeError:  # The group is ending; its owner is about to remove its devices.
            session.close()
            self._on_failed(link, "its owner is stopping")

    async def _open_session(self, link: Link) -> None:
        """One attempt to connect; the engine decides when there is another."""
        timeout_s = max(_CONNECT_TIMEOUT_S, link.options.timeout_ns / 1e9)
        try:
            async with asyncio.timeout(timeout_s):
                opened = await link.devices[0].driver.open()
        except TimeoutError:
            self._on_failed(link, f"no connection within {timeout_s:g} s")
        except (BifrostError, OSError) as error:
            self._on_failed(link, str(error))
        else:
            self._commands.send(Event(records.EVENT_OPEN, link.index, value=opened.detach()))

    def _on_failed(self, link: Link, reason: str) -> None:
        if link.key not in reason:
            reason = f"{link.key}: {reason}"
        if reason != link.reason:
            _log.warning("%s", reason)
        link.reason = reason
        self._commands.send(Event(records.EVENT_FAILED, link.index))
        link.wake_waiters(ConnectError(reason))

    def _on_exchange(self, link: Link, notice: Action) -> None:
        """A block's answer changed between good and "no": what the driver can learn from it leads to another plan."""
        adopted = link.adopted
        if adopted is None or adopted.plan.plan.generation != notice.generation:
            return
        request = adopted.plan.requests[notice.number]
        device = adopted.owners[id(request)]
        if notice.code == 0:
            if request.label in device.refused:
                del device.refused[request.label]
                _log.info("%s: %s is good again", device.name, request.label)
        elif device.driver.explain(Failure(request, notice.code, notice.data)):
            device.lessons_count += 1
            self._learned.add(device)
            if self._on_learned is not None:
                self._on_learned(device)
        elif request.label not in device.refused:
            device.refused[request.label] = notice.code
            told = (device.name, request.label, notice.code, status_name(notice.status))
            _log.warning("%s: %s is refused with code %d (%s)", *told)

    def _plan_again(self, device: Device) -> None:
        """Plans a device whose driver has learned something; one that was removed meanwhile has no watches."""
        for watch in device.watches:
            watch.requests = device.driver.plan(watch.tags, watch.rows)
        self._replan_soon(device.link)

    # ---- requests and events -----------------------------------------------------------------------------------------

    def _require_open(self, device: Device) -> None:
        if self.is_closed or device.link.is_removed:
            raise ClosedError(f"{device.name} was closed")

    def _ask(self, device: Device, event: Event) -> tuple[int, asyncio.Future[Action]]:
        self._require_open(device)
        return self._ask_engine(event)

    def _ask_engine(self, event: Event) -> tuple[int, asyncio.Future[Action]]:
        if self.is_closed:
            raise ClosedError("the scanner was closed")
        if self._commands.is_full:
            limit = self.runtime.limits.commands_count_max
            raise LimitError("commands_count_max", limit, "the scan engine does not keep up")
        self._token += 1
        future = self._futures[self._token] = self._loop.create_future()
        self._commands.send(event._replace(token=self._token))
        return self._token, future

    def _tell_clock(self) -> None:
        """Tells the engine the offset to UTC when it changed, and again in a second."""
        self._clock_timer = self._loop.call_later(_CLOCK_PERIOD_S, self._tell_clock)
        self.clock.update()
        known = (self.clock.stretch.offset_ns, self.clock.is_synchronised, self.clock.stretch.floor_ns)
        if known != self._clock_known:
            self._clock_known = known
            self._commands.send(Event(records.EVENT_CLOCK, number=int(known[1]), value=known[0], token=known[2]))

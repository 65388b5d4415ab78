"""The gateway: from a configuration file to running tasks, and back to nothing on SIGTERM.

`run_gateway` is what `bifrost run` and `python -m bifrost.gateway` do: read the configuration, take the data directory, allocate
everything, start the children of the supervisor, wait for a signal, stop in order. What is refused is refused before anything is connected,
with the exit codes of CONTRACT: 1 failed (another gateway runs, the disk is not writable), 2 the configuration cannot work.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Final, Self

from bifrost import __version__
from bifrost.core.audit import AuditLog
from bifrost.core.clock import Clock
from bifrost.core.config import Config, load_config
from bifrost.core.errors import AddressError, BifrostError, ConfigError, LimitError, StorageError
from bifrost.core.log import fields, set_up_logging
from bifrost.core.quantity import format_size
from bifrost.core.rows import RowPool
from bifrost.core.runtime import BackendSizes, Runtime
from bifrost.core.secrets import SECRETS
from bifrost.core.writes import WriteQueue
from bifrost.gateway import health
from bifrost.gateway.commands import Commands
from bifrost.gateway.control import ControlServer, bind_socket
from bifrost.gateway.devices import link_errors, make_driver
from bifrost.gateway.diagnostics import Diagnostics
from bifrost.gateway.exits import EXIT_DONE, EXIT_FAILED, EXIT_WRONG
from bifrost.gateway.health import make_metrics
from bifrost.gateway.http import make_http
from bifrost.gateway.learned import LearnedStore
from bifrost.gateway.lock import DirectoryLock
from bifrost.gateway.memory import config_regions, tune_heap
from bifrost.gateway.notify import Notifier
from bifrost.gateway.opcua import OpcUa
from bifrost.gateway.polling import Polled, define_rows, make_pollers, poller_children
from bifrost.gateway.reload import Reloader
from bifrost.gateway.supervisor import Child, ChildStatus, Supervisor
from bifrost.gateway.uplinks import Uplinks, left_buffers
from bifrost.gateway.writing import Delivery
from bifrost.plc.scan import Device, Scanner

__all__ = ["Gateway", "run_gateway"]

_log = logging.getLogger("bifrost.gateway")

_STOP_TIMEOUT_S: Final = 1.8  # A stop takes less than 2 s, whatever a child does.
_FALLBACK_WARNING: Final = (
    "the compiled core is not in use: polling runs in Python, which costs several times the CPU; "
    "'bifrost doctor' says why, BIFROST_BACKEND=c makes it an error"
)


class Gateway:
    """One gateway, allocated and ready to run. Made in a running event loop; a context manager.

    Args:
        config: What it is told.
        environ: For variables and overrides of a reload, and the service manager's socket; None: that of this process.

    Raises:
        ConfigError: A device's settings cannot work.
        AddressError: A tag's address cannot be read.
        LimitError: Something does not fit into the limits.
        OSError: The system refuses a thread.
    """

    def __init__(self, config: Config, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self.config = config
        self.clock = Clock()
        self.started_ns = self.clock.now_ns()
        self.version = __version__
        self.memory_bytes = config.limits.require_memory(BackendSizes(config.limits), config_regions(config))
        self.runtime = Runtime(config.limits)
        self.warnings = self._warnings()
        self.runtime.table.name_of = self.name_of
        self.former_names: dict[int, str] = {}  # Of rows that no tag has any more, and that readers may still meet.
        directory = config.gateway.data_dir
        self.learned = LearnedStore(directory)
        self.devices = self._make_devices()
        self.rows = RowPool(
            self.runtime.table,
            self.clock,
            rows_count_max=config.limits.tags_count_max,
            rows_count=self.runtime.table.rows_count,
            passed=self._passed,
        )
        self.audit = AuditLog(os.path.join(directory, "state"), config.limits.audit_bytes_max, self.clock.utc_ns)
        self.scanner = Scanner(self.runtime, clock=self.clock, on_learned=self._on_learned)
        self.delivery = Delivery(config.tags, self.runtime.table, self.scanner, self.devices)
        self.writes = WriteQueue(
            is_enabled=config.gateway.writes,
            count_max=config.limits.write_queue_count_max,
            target_of=self.delivery.target_of,
            deliver=self.delivery.deliver,
            audit=self.audit.append,
            now_ns=self.clock.now_ns,
        )
        bind_socket(config.gateway.control).close()  # Refused now, and not found missing later, if it cannot be served.
        self.control = ControlServer(
            config.gateway.control,
            Commands(self),
            clients_count_max=config.limits.control_clients_max,
            line_bytes_max=config.limits.control_line_bytes_max,
        )
        self.diagnostics = None if config.opcua is None else Diagnostics(self)
        self.opcua = None if config.opcua is None else OpcUa(self)
        self.uplinks = Uplinks(self)
        self.pollers = make_pollers(self.scanner, self.devices)
        self.notifier = Notifier(environ, status=lambda: health.status_line(self), beat=self._beat)
        self.reloader = Reloader(self, environ, on_begin=self.notifier.reloading, on_end=self.notifier.ready)
        self.supervisor = Supervisor(_report_failure, now_ns=self.clock.now_ns)
        self.metrics = make_metrics(self)

    async def run(self, stop: asyncio.Event) -> None:
        """Runs every child until `stop` is set, then cancels them and waits until each has cleaned up."""
        children = [
            Child("control", self.control.run),
            Child("writes", self.writes.run),
            Child("learned", self.learned.run),
            Child("reload", self.reloader.run),
            *poller_children(self.pollers),
        ]
        if self.notifier.is_needed:
            children.append(Child("notify", self.notifier.run))
        if self.config.http.bind is not None:
            children.append(Child("http", make_http(self).run))
        if self.diagnostics is not None and self.opcua is not None:
            children += [Child("diagnostics", self.diagnostics.run), Child("opcua", self.opcua.run)]
        children += self.uplinks.children()
        self.note("start", "gateway", {"version": self.version, "config": self.config.file}, is_durable=True)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.supervisor.run(children), name="supervisor")
            self._log_summary()
            self.notifier.ready()
            await stop.wait()
            self.notifier.stopping()
            task.cancel()
        await self.uplinks.close()
        self.note("stop", "gateway", {}, is_durable=True)

    def note(self, event: str, who: str, details: Mapping[str, Any], *, is_durable: bool = False) -> None:
        """Adds to the audit log what has happened anyway: a disk that does not take it is said in the log and stops nothing."""
        try:
            self.audit.append(event, who, durable=is_durable, **details)
        except StorageError as error:
            _log.warning("the audit log failed", extra=fields(event=event, error=error))

    def close(self) -> None:
        """Ends polling and closes files. Safe to call twice."""
        self.runtime.close()
        self.uplinks.stop_thread()
        self.audit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def name_of(self, row: int) -> str:
        """Full name of the tag or diagnostic in a row of the table, or that of the tag it had before."""
        if self.config.tags.has_id(row):
            return self.config.tags.full_name(row)
        own = self.diagnostics.name_of(row) if self.diagnostics is not None else None
        return own or self.former_names.get(row, str(row))

    def _passed(self) -> int:
        """The position in the change ring that all readers have passed; OPC UA follows at each reload."""
        head = self.runtime.table.native.ring_head()
        passed = self.uplinks.passed()
        return head if passed is None else min(head, passed)

    async def _beat(self) -> None:
        await self.scanner.beat()
        self.uplinks.require_moving()

    async def show_configuration(self, before: Config) -> None:
        """Whatever shows or sends tags follows `config`, which was `before` until now.

        Raises:
            BifrostError: Something cannot; the others follow all the same.
        """
        self.warnings = self._warnings()
        self.memory_bytes = self.config.limits.memory_bytes(
            BackendSizes(self.config.limits), config_regions(self.config)
        )
        failures: list[BifrostError] = []
        for follow in (self._show_in_opcua, self._send_by_uplinks, partial(self._serve_http, before)):
            try:
                await follow()
            except BifrostError as error:
                failures.append(error)
        self.metrics = make_metrics(self)
        if failures:
            raise failures[0]

    async def _show_in_opcua(self) -> None:
        if self.opcua is not None:
            await self.opcua.show_anew()

    async def _send_by_uplinks(self) -> None:
        await self.uplinks.follow(self.config.tags)
        await self.uplinks.change()

    async def _serve_http(self, before: Config) -> None:
        if before.http != self.config.http:
            await self.supervisor.stop("http")
            if self.config.http.bind is not None:
                self.supervisor.start(Child("http", make_http(self).run))

    def _warnings(self) -> list[str]:
        fallback = [] if self.runtime.backend.BACKEND == "c" else [_FALLBACK_WARNING]
        return [*self.config.warnings, *left_buffers(self.config), *fallback]

    def _make_devices(self) -> list[Polled]:
        devices = []
        for device in self.config.devices:
            driver = make_driver(device)
            for error in link_errors(device, driver, self.config.limits):
                raise error
            driver.remember(self.learned.of(device.name, device.url.text))
            devices.append(define_rows(self.runtime.table, self.config.tags, device, driver))
        return devices

    def _on_learned(self, device: Device) -> None:
        urls = {polled.config.name: polled.config.url.text for polled in self.devices}
        self.learned.note(device.name, urls[device.name], device.driver.learned)

    def _log_summary(self) -> None:
        limits = self.config.limits
        _log.info(
            "gateway is running",
            extra=fields(
                name=self.config.gateway.name,
                devices=len(self.devices),
                links=len(self.pollers),
                tags=len(self.config.tags),
                requests_per_s=sum(polled.requests_per_s for polled in self.devices),
                memory_bytes=self.memory_bytes,
                memory_bytes_max=f"{limits.memory_bytes_max} ({format_size(limits.memory_bytes_max)})",
                writes="on" if self.config.gateway.writes else "off",
                backend=self.runtime.backend.BACKEND,
                control=self.config.gateway.control,
                data_dir=self.config.gateway.data_dir,
            ),
        )
        for warning in self.warnings:
            _log.warning("configuration", extra=fields(warning=warning))


def run_gateway(path: str, *, log_level: str = "info", environ: Mapping[str, str] | None = None) -> int:
    """Runs the gateway of the configuration file `path` until SIGTERM or SIGINT; gives the exit code.

    Args:
        path: The TOML file.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        environ: For variables and overrides; None: that of this process.
    """
    environ = os.environ if environ is None else environ
    tune_heap()
    try:
        config = load_config(path, environ)
    except ConfigError as error:
        return _refuse(str(error), EXIT_WRONG)
    try:
        with DirectoryLock(config.gateway.data_dir):
            return _run_locked(config, log_level, environ)
    except (BifrostError, OSError) as error:
        return _refuse(str(error), EXIT_FAILED)


def _run_locked(config: Config, log_level: str, environ: Mapping[str, str]) -> int:
    clock = Clock()
    set_up_logging(
        sys.stderr,
        level=log_level,
        now_ns=clock.now_ns,
        utc_ns=None if "JOURNAL_STREAM" in environ else clock.utc_ns,  # journald stamps lines by itself.
        lines_per_second=config.limits.log_lines_per_second,
    )
    try:
        asyncio.run(_serve(config, environ))
    except (ConfigError, AddressError, LimitError) as error:
        return _refuse(_explained(config, error), EXIT_WRONG)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return EXIT_DONE


async def _serve(config: Config, environ: Mapping[str, str]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _begin_stop, stop)
    loop.set_exception_handler(_report_callback_failure)
    with Gateway(config, environ) as gateway:
        loop.add_signal_handler(signal.SIGHUP, gateway.reloader.signal)
        gc.collect()
        gc.freeze()  # What was made until here stays: the collector need not look at it again.
        await gateway.run(stop)
        _log.info("gateway has stopped", extra=fields(name=config.gateway.name))


def _begin_stop(stop: asyncio.Event) -> None:
    """Stops in order; should that take too long, whatever the reason, the process ends all the same."""
    stop.set()
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, _STOP_TIMEOUT_S)


def _give_up(number: int, frame: FrameType | None) -> None:
    running = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks()))
    _log.error("stop was not clean", extra=fields(after_s=_STOP_TIMEOUT_S, running=running))
    logging.shutdown()
    os._exit(EXIT_FAILED)


def _explained(config: Config, error: BifrostError) -> str:
    """All mistakes with their places, found by the dry run; `error` itself when that finds none."""
    from bifrost.gateway.check import inspect_config

    return "\n".join(inspect_config(config).messages) or str(error)


def _report_failure(status: ChildStatus, error: Exception | None, delay_s: float | None) -> None:
    details = fields(task=status.name, error=status.last_error, restarts=status.restarts, restart_in_s=delay_s)
    # The traceback is for errors that nobody raised on purpose: those are bugs.
    trace = error if error is not None and not isinstance(error, BifrostError | OSError) else None
    _log.error("task failed", extra=details, exc_info=trace)


def _report_callback_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    _log.error("callback failed", extra=fields(what=context.get("message", "")), exc_info=error)


def _refuse(text: str, code: int) -> int:
    sys.stderr.write(SECRETS.redacted(text) + "\n")
    return code

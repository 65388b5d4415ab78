"""What the service manager hears: a real datagram socket stands for systemd's."""

import asyncio
import os
import socket

import pytest

from bifrost.core.errors import StorageError
from bifrost.gateway.notify import Notifier

_PATIENCE_S = 10


class Manager:
    """The other end of the socket."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self):
        try:
            return self.socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return None

    async def hear(self):
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                lines = self.heard()
                if lines is not None:
                    return lines
                await asyncio.sleep(0.001)


@pytest.fixture
def manager(tmp_path):
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


async def beats():
    return


def notifier(tmp_path, *, beat=beats, **environ):
    return Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), **environ}, status=lambda: "all is well", beat=beat)


def test_ready_reloading_and_stopping_are_said(tmp_path, manager):
    ours = notifier(tmp_path)
    ours.ready()
    assert manager.heard() == ["READY=1", "STATUS=all is well"]
    ours.reloading()
    reloading, monotonic, _ = manager.heard()
    assert (reloading, monotonic.partition("=")[0]) == ("RELOADING=1", "MONOTONIC_USEC")
    assert int(monotonic.partition("=")[2]) > 0
    ours.stopping()
    assert manager.heard()[0] == "STOPPING=1"


def test_abstract_socket_is_found():
    name = f"@bifrost-test-{os.getpid()}"
    manager = Manager("\0" + name[1:])
    ours = Notifier({"NOTIFY_SOCKET": name}, status=lambda: "", beat=beats)
    ours.ready()
    assert manager.heard()[0] == "READY=1"
    manager.socket.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:1:2"}])
def test_without_a_service_manager_nothing_happens(environ):
    ours = Notifier(environ, status=lambda: "", beat=beats)
    assert not ours.is_needed
    ours.ready()
    ours.stopping()


def test_manager_that_went_away_does_no_harm(tmp_path, caplog):
    ours = notifier(tmp_path)
    assert ours.is_needed
    ours.ready()
    ours.stopping()
    assert caplog.text.count("does not listen") == 1


async def run_until(ours, done):
    async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
        task = group.create_task(ours.run(), name="notify")
        result = await done()
        task.cancel()
    return result


def test_watchdog_is_fed_while_everything_moves(tmp_path, manager):
    ours = notifier(tmp_path, WATCHDOG_USEC="30000", WATCHDOG_PID=str(os.getpid()))

    async def three():
        return [await manager.hear() for _ in range(3)]

    assert asyncio.run(run_until(ours, three)) == [["WATCHDOG=1", "STATUS=all is well"]] * 3


def test_watchdog_is_not_fed_while_the_engine_does_not_answer(tmp_path, manager):
    is_hanging = True

    async def beat():
        if is_hanging:
            await asyncio.Event().wait()

    ours = notifier(tmp_path, beat=beat, WATCHDOG_USEC="30000")

    async def recover():
        nonlocal is_hanging
        first = await manager.hear()
        is_hanging = False
        while "WATCHDOG=1" not in (later := await manager.hear()):
            assert later[0].startswith("STATUS=hangs")
        return first

    assert asyncio.run(run_until(ours, recover)) == ["STATUS=hangs: the scan engine does not answer"]


def test_watchdog_is_not_fed_while_a_journal_hangs(tmp_path, manager):
    async def beat():
        raise StorageError("the journal waits for the disk")

    ours = notifier(tmp_path, beat=beat, WATCHDOG_USEC="30000")
    assert asyncio.run(run_until(ours, manager.hear)) == ["STATUS=hangs: the journal waits for the disk"]


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "30000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_watchdog_of_nobody_or_of_another_process_is_not_fed(tmp_path, manager, environ):
    ours = notifier(tmp_path, **environ)
    assert asyncio.run(run_until(ours, manager.hear)) == ["STATUS=all is well"]

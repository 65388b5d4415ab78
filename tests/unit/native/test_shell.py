"""What the C shell does with real sockets: it polls, sees what happens to its peer, loses no command, and ends at once.

No thread but the shell's own: the test plays the plant and the session in one loop over `select`, which sleeps until one of them has
something to do. Only the shell's thread reads a clock; the test waits for what must happen, with a deadline far away.
"""

from __future__ import annotations

import os
import select
import socket
import time
import warnings
from array import array
from collections.abc import Callable, Iterator

import pytest

from bifrost._native import records as r
from bifrost._native import select as select_backend
from bifrost._native.contract import Backend, Shell, Table
from tests.sim import plant
from tests.sim.plant import MS, SECOND, Block, Cycle

DEADLINE_S = 20.0
SHELL_LIMITS = r.ShellLimits(
    commands_count_max=64, notices_count_max=32, notice_bytes_max=260, request_bytes_max=260, read_bytes=32 * 300
)
OPTIONS = plant.OPTIONS._replace(
    timeout_ns=50 * MS, reconnect_min_ns=MS, reconnect_max_ns=20 * MS, breaker_failures=100, timeouts_to_close=3
)
TAGS = Block(1, 0, 4)
PLAN = plant.make_plan(1, [Cycle(2 * MS, 10 * SECOND, [TAGS])])


class World:
    """A shell, the plant it polls on loopback, and the session that connects."""

    def __init__(
        self, backend: Backend, limits: r.ShellLimits = SHELL_LIMITS, options: r.LinkOptions = OPTIONS
    ) -> None:
        scan_limits = plant.SCAN_LIMITS._replace(request_bytes_max=limits.request_bytes_max)
        self.table: Table = plant.make_table(backend)
        self.scan = backend.make_scan(scan_limits, self.table, 1)
        made = backend.make_shell(limits, scan_limits, self.scan)
        assert made is not None
        self.shell: Shell = made
        self.notices: list[r.Action] = []
        self.listener: socket.socket | None = None
        self.address = ("127.0.0.1", 0)
        self.peers: list[socket.socket] = []
        self.is_hung = False
        self.steps = 0
        self.code = 0  # Exception code instead of values.
        assert self.shell.post(r.Event(r.EVENT_LINK, data=options)) == r.OK

    def listen(self) -> None:
        self.listener = socket.create_server(self.address)
        self.address = self.listener.getsockname()

    def kill(self) -> None:
        for one in (*self.peers, *([self.listener] if self.listener else [])):
            one.close()
        self.peers, self.listener = [], None

    def run_until(self, is_done: Callable[[], bool], *, is_taking: bool = True) -> None:
        """Plays plant and session until `is_done`."""
        deadline = time.monotonic() + DEADLINE_S
        while not is_done():
            assert time.monotonic() < deadline, f"nothing came: {self.notices[-5:]}, {self.scan.counters(0)}"
            readers = [self.shell.fileno()] if is_taking else []
            readers += [] if self.is_hung else [peer.fileno() for peer in self.peers]
            readers += [self.listener.fileno()] if self.listener else []
            ready = select.select(readers, [], [], 0.02)[0]
            if self.shell.fileno() in ready:
                self.take()
            if self.listener and self.listener.fileno() in ready:
                self.peers.append(self.listener.accept()[0])
            for peer in [peer for peer in self.peers if peer.fileno() in ready]:
                self.serve(peer)

    def serve(self, peer: socket.socket) -> None:
        try:
            requests = plant.split_requests(peer.recv(4096))
            for request in requests:
                self.steps += 1
                peer.send(plant.refusal(request, self.code) if self.code else plant.answer(request, self.steps))
        except (ConnectionResetError, BrokenPipeError):
            requests = []
        if not requests:
            self.peers.remove(peer)
            peer.close()

    def take(self) -> None:
        while (notice := self.shell.take()) is not None:
            self.notices.append(notice)
            if notice.kind == r.ACTION_CONNECT:
                self.connect(notice.link)

    def connect(self, link: int) -> None:
        one = socket.socket()
        try:
            one.connect(self.address)
        except ConnectionRefusedError:
            one.close()
            assert self.shell.post(r.Event(r.EVENT_FAILED, link)) == r.OK
        else:
            assert self.shell.post(r.Event(r.EVENT_OPEN, link, value=one.detach())) == r.OK

    def count(self, kind: int, code: int | None = None) -> int:
        return sum(notice.kind == kind and code in (None, notice.code) for notice in self.notices)

    def slot(self, tag: int) -> r.Slot:
        return r.Slot(*r.SLOT.unpack(self.table.read(array("I", [tag]))))

    def close(self) -> None:
        self.shell.stop()
        self.kill()


@pytest.fixture
def c_backend() -> Backend:
    try:
        return select_backend("c")
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture
def world(c_backend) -> Iterator[World]:
    made = World(c_backend)
    yield made
    made.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def polling(world: World) -> None:
    """The link is up and answered."""
    world.listen()
    world.shell.start()
    assert world.shell.post(r.Event(r.EVENT_PLAN, data=PLAN)) == r.OK
    world.run_until(lambda: world.scan.counters(0).answers_good >= 3)


def oneshot(token: int, link: int = 0) -> r.Event:
    exchange = plant.read_exchange(Block(1, 50, 2), 0)._replace(decode_count=0)
    return r.Event(r.EVENT_ONESHOT, link, token=token, data=r.OneShot(exchange, plant.read_request(1, 50, 2)))


def test_it_polls_into_the_table(world):
    polling(world)
    world.run_until(lambda: world.scan.counters(0).answers_good >= 50)
    assert world.slot(3).status == r.GOOD
    assert world.slot(3).value >> plant.STEP_BITS == 3
    assert [notice.kind for notice in world.notices] == [r.ACTION_PLANNED, r.ACTION_CONNECT, r.ACTION_UP]
    assert world.shell.cpu_ns() > 0


def test_a_killed_server_is_noticed_and_found_again_when_it_is_back(world):
    polling(world)
    world.kill()
    world.run_until(lambda: world.count(r.ACTION_DOWN) == 1 and world.count(r.ACTION_CONNECT) >= 4)
    assert world.slot(0).status == r.UNCERTAIN_LAST_USABLE
    world.listen()
    world.run_until(lambda: world.count(r.ACTION_UP) == 2)
    answered = world.scan.counters(0).answers_good
    world.run_until(lambda: world.scan.counters(0).answers_good > answered + 3)
    assert world.slot(0).status == r.GOOD


def test_a_hung_server_is_given_up(world):
    polling(world)
    world.is_hung = True
    world.run_until(lambda: world.count(r.ACTION_DOWN, r.CLOSE_SILENT) == 1)
    assert world.scan.counters(0).timeouts == OPTIONS.timeouts_to_close
    world.is_hung = False
    world.run_until(lambda: world.slot(0).status == r.GOOD)


def test_a_oneshot_comes_back(world):
    polling(world)
    assert world.shell.post(oneshot(1 << 40)) == r.OK
    world.run_until(lambda: world.count(r.ACTION_DONE, r.DONE_GOOD) == 1)
    done = next(notice for notice in world.notices if notice.kind == r.ACTION_DONE)
    assert done.token == 1 << 40
    assert len(done.data) == 9 + 8


def test_a_request_that_does_not_fit_into_the_socket_goes_out_later_and_whole(c_backend):
    size = 60_000
    world = World(c_backend, SHELL_LIMITS._replace(request_bytes_max=size), OPTIONS._replace(timeout_ns=10 * SECOND))
    received = b""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            client.connect(listener.getsockname())
            peer = listener.accept()[0]
        world.shell.start()
        world.shell.post(r.Event(r.EVENT_PLAN, data=plant.make_plan(1, [])))
        world.shell.post(r.Event(r.EVENT_OPEN, value=client.detach()))
        request = plant.read_request(1, 50, 2) + os.urandom(size - 12)
        exchange = plant.read_exchange(Block(1, 50, 2), 0)._replace(decode_count=0)
        world.shell.post(r.Event(r.EVENT_ONESHOT, token=1, data=r.OneShot(exchange, request)))
        world.shell.post(oneshot(2))
        peer.settimeout(DEADLINE_S)
        while len(received) < size:
            received += peer.recv(2048)
        assert received == request
        peer.send(plant.answer(request, 1))
        assert peer.recv(100) == plant.read_request(1, 50, 2, transaction=1)
        peer.close()
    finally:
        world.close()


def test_a_second_descriptor_for_a_live_link_is_closed(world):
    polling(world)
    before = descriptors()
    ours, theirs = socket.socketpair()
    world.shell.post(r.Event(r.EVENT_OPEN, value=theirs.detach()))
    ours.settimeout(DEADLINE_S)
    assert ours.recv(1) == b""
    ours.close()
    answered = world.scan.counters(0).answers_good
    world.run_until(lambda: world.scan.counters(0).answers_good > answered)
    assert descriptors() == before


def test_a_descriptor_that_cannot_be_watched_is_a_failed_connection(world):
    world.shell.start()
    world.shell.post(r.Event(r.EVENT_PLAN, data=PLAN))
    with open(os.devnull) as file:  # epoll refuses a file
        world.shell.post(r.Event(r.EVENT_OPEN, value=os.dup(file.fileno())))
    world.listen()
    world.run_until(lambda: world.count(r.ACTION_UP) == 1)


def test_exchange_notices_give_way_and_those_that_count_do_not(world):
    polling(world)
    world.shell.post(oneshot(5))
    for _ in range(100):  # Nobody takes notices while every answer is news.
        world.code = 0 if world.code else 6
        answered = world.scan.counters(0)
        world.run_until(lambda old=answered: world.scan.counters(0) != old, is_taking=False)
    world.run_until(lambda: world.shell.dropped() > 0, is_taking=False)
    world.kill()
    world.run_until(lambda: world.count(r.ACTION_DOWN) == 1)
    assert [notice.token for notice in world.notices if notice.kind == r.ACTION_DONE] == [5]
    assert world.count(r.ACTION_EXCHANGE) <= SHELL_LIMITS.notices_count_max


def test_commands_wait_while_nobody_takes_notices_and_none_is_lost(world):
    world.shell.start()
    posted = 0
    while posted < 1000:  # To a link that is down: each is DONE at once, and nobody takes that.
        if world.shell.post(oneshot(posted)) == r.OK:
            posted += 1
        elif select.select([world.shell.fileno()], [], [], DEADLINE_S)[0]:
            world.take()
    world.run_until(lambda: world.count(r.ACTION_DONE) == 1000)
    assert [notice.token for notice in world.notices] == list(range(1000))
    assert world.shell.dropped() == 0


def test_a_full_command_ring_says_so(world):
    results = [world.shell.post(oneshot(number)) for number in range(SHELL_LIMITS.commands_count_max + 1)]
    assert results == [r.OK] * (SHELL_LIMITS.commands_count_max - 1) + [r.E_FULL] * 2  # The first place holds LINK.


def test_the_descriptor_is_readable_only_while_there_are_notices(world):
    world.shell.start()
    assert select.select([world.shell.fileno()], [], [], 0)[0] == []
    world.shell.post(oneshot(1))
    assert select.select([world.shell.fileno()], [], [], DEADLINE_S)[0]
    assert world.shell.take() is not None
    assert world.shell.take() is None
    assert select.select([world.shell.fileno()], [], [], 0)[0] == []


def test_stop_is_quick_and_leaves_no_descriptor(c_backend):
    before = descriptors()
    for _ in range(20):
        world = World(c_backend)
        polling(world)
        begin = time.monotonic()
        world.shell.stop()
        assert time.monotonic() - begin < 0.1
        world.shell.stop()
        world.kill()
        assert descriptors() == before


def test_stop_without_start_closes_what_was_handed_over(c_backend):
    before = descriptors()
    world = World(c_backend)
    ours, theirs = socket.socketpair()
    assert world.shell.post(r.Event(r.EVENT_OPEN, value=theirs.detach())) == r.OK
    world.shell.stop()
    assert ours.recv(1) == b""
    ours.close()
    assert world.shell.post(oneshot(1)) == r.E_ARGUMENT
    assert descriptors() == before


def test_a_forgotten_shell_stops(c_backend):
    before = descriptors()
    world = World(c_backend)
    polling(world)
    world.kill()
    del world
    assert descriptors() == before


def test_a_child_after_fork_does_not_wait_for_a_thread_that_it_does_not_have(world):
    polling(world)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # Python warns of a fork beside threads: that is what is tested.
        child = os.fork()
    if child == 0:
        world.shell.stop()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    answered = world.scan.counters(0).answers_good
    world.run_until(lambda: world.scan.counters(0).answers_good > answered)

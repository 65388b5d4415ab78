"""The OPC UA stack in C: a server is made, answers, and is deleted by its own thread, and every byte comes back.

The peer here is twenty lines of the standard's connection protocol (OPC 10000-6, 7.1.2), so that the proof does not
rest on the library it is about.
"""

import os
import socket
import struct

import pytest

try:
    from bifrost._native import opcua
except ImportError as error:
    if os.environ.get("BIFROST_OPCUA") == "require":
        raise
    pytest.skip(f"the OPC UA module is not built here: {error}", allow_module_level=True)

GOOD = 0
BAD_OUT_OF_MEMORY = 0x80030000
BAD_INVALID_ARGUMENT = 0x80AB0000
LOOPBACK = "opc.tcp://127.0.0.1:0"


@pytest.fixture(autouse=True)
def nothing_leaked():
    """Hold every test to it: no byte stays, and no block went around the count."""
    assert opcua.memory().live_bytes == 0
    yield
    opcua.limit_memory(opcua.UNLIMITED_BYTES)
    assert opcua.memory().live_bytes == 0
    assert opcua.memory().foreign_count == 0


@pytest.fixture
def server():
    made = opcua.Server()
    yield made
    made.stop()


def hello(port):
    """Send Hello and return the type of the answer with its numbers (OPC 10000-6, 7.1.2.3 and 7.1.2.4)."""
    url = f"opc.tcp://127.0.0.1:{port}".encode()
    body = struct.pack("<IIIIII", 0, 65535, 65535, 0, 0, len(url)) + url
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(struct.pack("<4sI", b"HELF", 8 + len(body)) + body)
        answer = b""
        while len(answer) < 28:
            part = peer.recv(28 - len(answer))
            assert part, f"closed after {answer!r}"
            answer += part
    return answer[:4], struct.unpack("<IIIIII", answer[4:])


@pytest.mark.parametrize("self_signed", [False, True], ids=["plain", "encrypted"])
def test_server_listens_answers_hello_and_gives_every_byte_back(server, self_signed):
    assert server.start(LOOPBACK, self_signed=self_signed) == GOOD
    kind, (size, version, *_) = hello(server.port)
    assert (kind, size, version) == (b"ACKF", 28, 0)
    assert opcua.memory().live_bytes > 1_000_000  # the whole of namespace 0 is there
    server.stop()
    assert opcua.memory().live_bytes == 0


def test_server_runs_in_one_thread_that_python_does_not_know(server):
    before = len(os.listdir("/proc/self/task"))
    assert server.start(LOOPBACK) == GOOD
    assert len(os.listdir("/proc/self/task")) == before + 1
    server.stop()
    assert len(os.listdir("/proc/self/task")) == before


def test_server_can_be_started_again_and_beside_another(server):
    assert server.start(LOOPBACK) == GOOD
    server.stop()
    assert server.port == 0
    assert server.start(LOOPBACK) == GOOD
    other = opcua.Server()
    try:
        assert other.start(LOOPBACK) == GOOD
        assert other.port != server.port
        assert hello(other.port)[0] == b"ACKF"
    finally:
        other.stop()
    assert hello(server.port)[0] == b"ACKF"


def test_connection_left_open_is_freed_with_the_server(server):
    assert server.start(LOOPBACK) == GOOD
    with socket.create_connection(("127.0.0.1", server.port), timeout=10):
        hello(server.port)
        server.stop()


def test_port_in_use_is_refused(server):
    assert server.start(LOOPBACK) == GOOD
    assert opcua.Server().start(f"opc.tcp://127.0.0.1:{server.port}") != GOOD


def test_port_is_free_again_at_once_for_a_server_that_is_restarted(server):
    assert server.start(LOOPBACK) == GOOD
    port = server.port
    with socket.create_connection(("127.0.0.1", port), timeout=10):
        hello(port)
        server.stop()  # closes first, so the connection lingers in TIME-WAIT
    assert server.start(f"opc.tcp://127.0.0.1:{port}") == GOOD


@pytest.mark.parametrize("url", ["", "opc.tcp://", "http://127.0.0.1:0", "opc.tcp://127.0.0.1:1x"])
def test_url_that_can_not_be_listened_on_is_refused(url):
    assert opcua.Server().start(url) != GOOD


@pytest.mark.parametrize("sessions", [0, 1001])
def test_number_of_sessions_outside_its_range_is_refused(sessions):
    assert opcua.Server().start(LOOPBACK, sessions_max=sessions) == BAD_INVALID_ARGUMENT


def test_starting_twice_is_a_mistake_of_the_caller(server):
    assert server.start(LOOPBACK) == GOOD
    with pytest.raises(RuntimeError, match="serving already"):
        server.start(LOOPBACK)


def test_stopping_twice_does_nothing(server):
    server.start(LOOPBACK)
    server.stop()
    server.stop()


def test_ceiling_too_low_refuses_the_start_and_counts_it():
    refused = opcua.memory().refused_count
    opcua.limit_memory(4096)
    assert opcua.Server().start(LOOPBACK) != GOOD
    assert opcua.memory().refused_count > refused
    opcua.limit_memory(0)
    assert opcua.Server().start(LOOPBACK) == BAD_OUT_OF_MEMORY


def test_version_is_one_that_sources_toml_accepts():
    assert opcua.version() in {"1.4.18", "1.4.11"}

"""The OPC UA stack in C: a server is made, answers, and is deleted by its own thread, and every byte comes back.

The peer here is twenty lines of the standard's connection protocol (OPC 10000-6, 7.1.2), so that the proof does not
rest on the library it is about. What clients see is tested in `tests/interop/test_opcua_*.py`.
"""

import os
import socket
import struct
import time
from array import array
from pathlib import Path

import msgspec
import pytest

from bifrost._native import records
from bifrost.core.columns import TagColumns
from bifrost.core.datatypes import DataType, TypeSpec
from bifrost.core.limits import Limits
from bifrost.core.runtime import Runtime
from bifrost.core.table import Batch, RowColumns
from bifrost.core.tag import Tag
from bifrost.opcua.address_space import ShownDevice, compile_space
from bifrost.opcua.certificate import parse_certificate
from bifrost.opcua.memory import opcua_region, server_limits

try:
    from bifrost._native import _c, opcua
except ImportError as error:
    if os.environ.get("BIFROST_OPCUA") == "require":
        raise
    pytest.skip(f"the OPC UA module is not built here: {error}", allow_module_level=True)

GOOD = 0
BAD_OUT_OF_MEMORY = 0x80030000
BAD_COMMUNICATION_ERROR = 0x80050000
BAD_INVALID_ARGUMENT = 0x80AB0000
LOOPBACK = "opc.tcp://127.0.0.1:0"
URI = "urn:host:bifrost:test"
TAGS_COUNT = 50


@pytest.fixture(autouse=True)
def nothing_leaked():
    """Hold every test to it: no byte stays, and no block went around the count."""
    assert opcua.memory().live_bytes == 0
    yield
    opcua.limit_memory(opcua.UNLIMITED_BYTES)
    opcua.fail_memory()
    assert opcua.memory().live_bytes == 0
    assert opcua.memory().foreign_count == 0


@pytest.fixture(scope="module")
def own():
    status, certificate, key = opcua.make_certificate("Bifrost test", URI, "host", 30)
    assert status == GOOD
    return certificate, key


class Bench:
    """A runtime with some tags, and what a server over them is started with."""

    def __init__(self, directory, own=(b"", b"")):
        self.columns = TagColumns(1_000)
        self.columns.begin_device("plant")
        for number in range(TAGS_COUNT):
            self.columns.append(Tag(f"tag-{number}", number + 1, writable=True))
        self.columns.freeze()
        self.limits = Limits.for_gateway(TAGS_COUNT, links_configured=1, has_opcua=True)
        self.runtime = Runtime(self.limits, backend=_c)
        self.definitions = RowColumns.from_types([(TypeSpec(DataType.FLOAT64), False)] * TAGS_COUNT)
        self.runtime.table.define(self.definitions)
        for name in ("trusted", "issuers", "revoked", "rejected"):
            (directory / name).mkdir(exist_ok=True)
        memory_bytes = opcua_region(self.limits, self.columns).bytes
        self.config = opcua.ServerConfig(
            url=LOOPBACK,
            application_uri=URI,
            application_name="Bifrost test",
            version="0.0",
            certificate=own[0],
            key=own[1],
            folders=tuple(str(directory / name) for name in ("trusted", "issuers", "revoked", "rejected")),
            users=[],
            policies=["None", "Basic256Sha256"] if own[0] else ["None"],
            anonymous="read",
            limits=server_limits(self.limits, memory_bytes),
        )

    def space(self, count=TAGS_COUNT):
        columns = TagColumns(1_000)
        columns.begin_device("plant")
        for tag in list(self.columns)[:count]:
            columns.append(tag)
        columns.freeze()
        definitions = self.definitions
        rows = columns.device_range("plant")
        device = ShownDevice(
            "plant", 10**9, rows, definitions.value_types, definitions.cell_sizes, definitions.kinds, []
        )
        space = compile_space(columns, [device], [], rows_count=TAGS_COUNT, writes=True)
        return opcua.Space(space.nodes, space.details, space.texts, space.rows_count)

    def start(self, server, **changes):
        return server.start(self.config._replace(**changes), self.space(), self.runtime.table.native)


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.runtime.close()


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


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "encrypted"])
def test_server_listens_answers_hello_and_gives_every_byte_back(server, own, tmp_path, is_secure):
    bench = Bench(tmp_path, own if is_secure else (b"", b""))
    assert bench.start(server) == GOOD
    kind, (size, version, *_) = hello(server.port)
    assert (kind, size, version) == (b"ACKF", 28, 0)
    assert opcua.memory().live_bytes > 1_000_000  # the whole of namespace 0 is there
    server.stop()
    assert opcua.memory().live_bytes == 0
    bench.runtime.close()


def test_port_in_use_is_said_by_the_promised_status(bench, server):
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"opc.tcp://127.0.0.1:{other.getsockname()[1]}"
        assert bench.start(server, url=url) == BAD_COMMUNICATION_ERROR
    assert bench.start(server, url=url) == GOOD


def test_server_runs_in_one_thread_that_python_does_not_know(bench, server):
    before = len(os.listdir("/proc/self/task"))
    assert bench.start(server) == GOOD
    assert len(os.listdir("/proc/self/task")) == before + 1
    server.stop()
    assert len(os.listdir("/proc/self/task")) == before


def test_server_can_be_started_again_and_beside_another(bench, server):
    assert bench.start(server) == GOOD
    server.stop()
    assert (server.port, server.fileno(), server.take(), server.stats()) == (0, -1, None, {})
    assert bench.start(server) == GOOD
    other = opcua.Server()
    try:
        assert bench.start(other) == GOOD
        assert other.port != server.port
        assert hello(other.port)[0] == b"ACKF"
    finally:
        other.stop()
    assert hello(server.port)[0] == b"ACKF"


def test_connection_left_open_is_freed_with_the_server(bench, server):
    assert bench.start(server) == GOOD
    with socket.create_connection(("127.0.0.1", server.port), timeout=10):
        hello(server.port)
        server.stop()


def test_port_in_use_is_refused(bench, server):
    assert bench.start(server) == GOOD
    assert bench.start(opcua.Server(), url=f"opc.tcp://127.0.0.1:{server.port}") != GOOD


def test_port_is_free_again_at_once_for_a_server_that_is_restarted(bench, server):
    assert bench.start(server) == GOOD
    port = server.port
    with socket.create_connection(("127.0.0.1", port), timeout=10):
        hello(port)
        server.stop()  # closes first, so the connection lingers in TIME-WAIT
    assert bench.start(server, url=f"opc.tcp://127.0.0.1:{port}") == GOOD


@pytest.mark.parametrize("url", ["", "opc.tcp://", "http://127.0.0.1:0", "opc.tcp://127.0.0.1:1x"])
def test_url_that_can_not_be_listened_on_is_refused(bench, url):
    assert bench.start(opcua.Server(), url=url) != GOOD


@pytest.mark.parametrize("name", [name for name in opcua.LIMITS if name != "reserve_bytes"])
def test_no_limit_may_be_zero(bench, name):
    assert bench.start(opcua.Server(), limits={**bench.config.limits, name: 0}) == BAD_INVALID_ARGUMENT


def test_policy_without_certificate_is_refused(bench):
    assert bench.start(opcua.Server(), policies=["Basic256Sha256"]) == BAD_INVALID_ARGUMENT


def test_starting_twice_is_a_mistake_of_the_caller(bench, server):
    assert bench.start(server) == GOOD
    with pytest.raises(RuntimeError, match="serving already"):
        bench.start(server)


def test_stopping_twice_does_nothing(bench, server):
    bench.start(server)
    server.stop()
    server.stop()
    server.finish_write(1, 0)


def test_changes_of_the_table_are_taken_without_being_asked(bench, server):
    assert bench.start(server) == GOOD
    rows = array("I", range(TAGS_COUNT))
    values = [float(row) for row in rows]
    bench.runtime.table.put(
        Batch(rows, values, time.time_ns()), server_time_ns=time.time_ns(), now_ns=time.monotonic_ns()
    )
    deadline_s = time.monotonic() + 10
    while server.stats()["changes"] < TAGS_COUNT:
        assert time.monotonic() < deadline_s
    assert server.stats()["changes_missed"] == 0


def test_space_can_be_replaced_while_serving(bench, server):
    assert bench.start(server) == GOOD
    before = opcua.memory().live_bytes
    for count in (TAGS_COUNT // 2, TAGS_COUNT, 1, TAGS_COUNT):
        assert server.swap_space(bench.space(count)) == GOOD
    assert opcua.memory().live_bytes == before


def test_users_can_be_replaced_while_serving(bench, server):
    assert bench.start(server) == GOOD
    user = opcua.User("scada", bytes(16), bytes(32), 1, "write")
    assert server.set_users([user], "") == GOOD
    assert server.set_users([], "read") == GOOD


@pytest.mark.parametrize(
    "damage",
    [
        lambda nodes: nodes[:-1],
        lambda nodes: records_with(nodes, 1, parent=99),
        lambda nodes: records_with(nodes, 0, children=1_000),
        lambda nodes: records_with(nodes, 3, row=TAGS_COUNT),
    ],
    ids=["torn", "parent", "children", "row"],
)
def test_impossible_space_is_refused(bench, server, damage):
    space = bench.space()
    damaged = space._replace(nodes=damage(bytearray(space.nodes)))
    status = server.start(bench.config, damaged, bench.runtime.table.native)
    if len(damaged.nodes) % 40 == 0:
        assert status == BAD_INVALID_ARGUMENT
    server.stop()


def records_with(nodes, number, **fields):
    """The packed nodes with some fields of one changed."""
    for name, value in fields.items():
        at = number * 40 + {"parent": 4, "children": 12, "row": 16}[name]
        nodes[at : at + 4] = struct.pack("<I", value)
    return nodes


def test_ceiling_too_low_refuses_the_start_and_counts_it(bench):
    refused = opcua.memory().refused_count
    limits = {**bench.config.limits, "memory_bytes_max": 1 << 20, "reserve_bytes": 1 << 10}
    assert bench.start(opcua.Server(), limits=limits) == BAD_OUT_OF_MEMORY
    assert opcua.memory().refused_count > refused


def test_certificate_has_the_uri_that_is_asked_for(own):
    found = parse_certificate(own[0])
    assert (found.uri, found.hosts, found.subject) == (URI, ("host",), "Bifrost test (Bifrost)")
    assert (found.not_after - found.not_before).days == 30
    assert found.is_self_signed


def test_certificate_with_impossible_texts_is_refused():
    status, certificate, key = opcua.make_certificate("x" * 1_000, URI, "host", 30)
    assert (status, certificate, key) == (BAD_INVALID_ARGUMENT, b"", b"")


def test_every_limit_has_a_value_of_ours():
    limits = msgspec.structs.replace(Limits.small())
    assert sorted(server_limits(limits, 1)) == sorted(opcua.LIMITS)


def test_types_of_the_seam_are_those_of_the_table():
    assert records.TYPE_FLOAT64 == 11


def test_version_is_one_that_sources_toml_accepts():
    assert opcua.version() in {"1.4.18", "1.4.11"}


def test_code_that_only_the_start_needed_is_given_back(bench, server):
    def resident_share():
        resident = size = 0
        for line in Path("/proc/self/smaps").read_text().splitlines():
            word, *rest = line.split()
            if not word.endswith(":"):
                is_code = rest[0] == "r-xp" and line.endswith("_opcua.abi3.so")
            elif is_code and word in ("Size:", "Rss:"):
                size += int(rest[0]) if word == "Size:" else 0
                resident += int(rest[0]) if word == "Rss:" else 0
        return resident / size

    assert bench.start(server) == GOOD
    assert resident_share() < 0.5
    assert hello(server.port)[0] == b"ACKF"  # what is needed comes back

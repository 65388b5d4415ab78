"""The OPC UA face against node-opcua: a client in another language, with a certificate it made itself.

It browses the whole tree, reads every attribute of every node, writes, subscribes, on each endpoint that is offered; and what must
be refused is.
"""

from __future__ import annotations

import shutil
import threading

import pytest

from tests.interop import node_peer
from tests.interop.opcua_bench import POLICIES, add_users, compiled_only, face
from tests.interop.peers.opcua_face import TYPES, tag_name

pytestmark = [pytest.mark.interop, compiled_only]

ENDPOINTS = [("None", "None"), *((policy, mode) for policy in POLICIES for mode in ("Sign", "SignAndEncrypt"))]
LEVEL = "ns=2;s=plant.level"
OPERATOR = {"user": "operator", "password": "operator password"}
VALUE_RANK = 15


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("node")
    add_users(directory)
    with face(directory, "--stack", "open62541", "--extra", "700") as process:
        process.put("plant.level", 21.5)
        yield process


@pytest.fixture(scope="module")
def place(server, tmp_path_factory):
    """Where the client keeps its certificate, which the server has been told to trust."""
    directory = tmp_path_factory.mktemp("client")
    (refusal,) = node_peer.client(directory, url=server.url, policy="Basic256Sha256", mode="Sign", do=[])
    assert "refused" in refusal
    rejected = list((server.directory / "pki" / "rejected").iterdir())
    assert len(rejected) == 1
    shutil.move(rejected[0], server.directory / "pki" / "trusted")
    return directory


def test_endpoints_are_those_that_are_configured(server, place):
    (found,) = node_peer.results(place, url=server.url, endpoints=True)
    assert sorted(map(tuple, found)) == sorted(ENDPOINTS)


@pytest.mark.parametrize(("policy", "mode"), ENDPOINTS)
def test_trusted_client_reads_writes_and_follows_on_every_endpoint(server, place, policy, mode):
    server.put("plant.level", 21.5)
    security = {"policy": policy, "mode": mode}
    steps = [
        {"read": [LEVEL]},
        {"write": {LEVEL: ["Double", 44.5]}},
        {"subscribe": [LEVEL], "publishing_ms": 20, "changes": 1},
    ]
    read, written, came = node_peer.results(place, url=server.url, **security, **OPERATOR, do=steps)
    assert read[0][:3] == ["Double", 21.5, 0]
    assert written == [0]
    assert server.obey(written=True)[-1][1] == 44.5
    assert came[0][:3] == [LEVEL, 21.5, 0]  # A write changes no slot: the read-back does.


def test_whole_tree_is_browsed_both_ways_and_every_attribute_answers(server, place):
    """The standard's own nodes too; each attribute has a value, is none of the node's, or waits for data."""
    steps = [
        {"browse": "ns=2;s=plant"},
        {"tree_attributes": "i=84"},
        {"inverse": [LEVEL, "ns=2;s=plant.level#EURange", "ns=2;s=plant.many.n699", "ns=2;s=plant"]},
    ]
    tree, attributes, parents = node_peer.results(place, url=server.url, **OPERATOR, do=steps)
    expected = {f"ns=2;s=plant.many.n{index}" for index in range(700)}
    expected |= {f"ns=2;s=plant.types.{tag_name(datatype)}" for datatype in TYPES}
    expected |= {LEVEL, "ns=2;s=plant.level#EURange", "ns=2;s=plant.level#EngineeringUnits", "ns=2;s=plant#Connected"}
    assert expected <= tree.keys()
    assert tree["ns=2;s=plant.many.n699"] == "n699"
    assert attributes["odd"] == []
    assert attributes["asked"] > 1_000 * 27
    assert parents == [["ns=2;s=plant"], [LEVEL], ["ns=2;s=plant.many"], ["ns=2;s=#Bifrost"]]


def test_each_type_is_written_as_this_client_encodes_it(server, place):
    written = {
        "bool": ("Boolean", True), "int8": ("SByte", -5), "uint8": ("Byte", 250), "int16": ("Int16", -30_000),
        "uint16": ("UInt16", 60_000), "int32": ("Int32", -2_000_000_000), "uint32": ("UInt32", 4_000_000_000),
        "float32": ("Float", 0.5), "float64": ("Double", -1e300), "bcd16": ("UInt16", 1_234), "stringx32": ("String", "Grüße °C"),
        "int16x4": ("Int16", [-1, 2, -3, 4]), "float64x4": ("Double", [0.5, 1.5, -2.5, 3.5]),
        "boolx4": ("Boolean", [True, False, True, True]),
    }  # fmt: skip
    before = len(server.obey(written=True))
    values = {f"ns=2;s=plant.types.{name}": list(value) for name, value in written.items()}
    (statuses,) = node_peer.results(place, url=server.url, **OPERATOR, do=[{"write": values}])
    assert statuses == [0] * len(written)
    assert [value for _, value, _ in server.obey(written=True)[before:]] == [value for _, value in written.values()]


def test_what_may_not_be_written_is_refused_with_its_status(server, place):
    values = {
        "ns=2;s=plant.locked": ["Double", 1],
        "ns=2;s=plant#Connected": ["Boolean", False],
        "ns=2;s=plant.none": ["Double", 1],
        LEVEL: ["String", "text"],
        "i=2258": ["DateTime", None],
    }
    before = len(server.obey(written=True))
    (statuses,) = node_peer.results(place, url=server.url, **OPERATOR, do=[{"write": values}])
    assert statuses[:4] == [0x803B0000, 0x803B0000, 0x80340000, 0x80740000]
    assert statuses[4] in (0x803B0000, 0x801F0000, 0x80740000)
    (as_guest,) = node_peer.results(place, url=server.url, do=[{"write": {LEVEL: ["Double", 1]}}])
    assert as_guest[0] in (0x801F0000, 0x803B0000)
    assert len(server.obey(written=True)) == before


def test_subscription_misses_nothing(server, place):
    count = 3_000
    server.put("plant.types.float64", 0.0)
    options = {"directory": str(place), "url": server.url, **OPERATOR}
    steps = [{"subscribe": ["ns=2;s=plant.types.float64"], "queue": 500, "publishing_ms": 100, "changes": count + 1}]
    process = node_peer.start("client.js", {**options, "do": steps})
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        said = node_peer.lines(process)
        assert next(said) == {"subscribed": True}
        server.obey(ramp="plant.types.float64", count=count, period_s=0.001)
        came = next(said)["result"]
    finally:
        watchdog.cancel()
        node_peer.end(process)
    assert [value for _, value, _, _ in came] == [float(number) for number in range(count + 1)]
    assert {status for _, _, status, _ in came} == {0}
    stamps = [stamp for _, _, _, stamp in came]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize(("policy", "mode"), [ENDPOINTS[0], *ENDPOINTS[2::2]])
def test_wrong_password_is_refused(server, place, policy, mode):
    (said,) = node_peer.client(
        place, url=server.url, policy=policy, mode=mode, user="operator", password="wrong", do=[]
    )
    assert "BadUserAccessDenied" in said["refused"]


@pytest.mark.parametrize("is_expired", [False, True], ids=["unknown", "expired"])
def test_certificate_that_is_unknown_or_expired_is_refused(server, tmp_path, is_expired):
    """The expired one although it is trusted; what the client is told on the wire, `test_opcua_tshark` sees."""
    options = {"url": server.url, "policy": "Basic256Sha256", "mode": "SignAndEncrypt", "expired": is_expired, "do": []}
    (said,) = node_peer.client(tmp_path, **options)
    assert "refused" in said
    if is_expired:
        pem = (tmp_path / "client.pem").read_bytes()
        (server.directory / "pki" / "trusted" / "expired.pem").write_bytes(pem)
        (said,) = node_peer.client(tmp_path, **options)
        assert "refused" in said
    reasons = [details["reason"] for name, _, details in server.obey(reports=True) if name == "certificate_rejected"]
    assert reasons[-1] == ("BadCertificateTimeInvalid" if is_expired else "BadCertificateUntrusted")

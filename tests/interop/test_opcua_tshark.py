"""What goes over the wire is well-formed by a third opinion: tshark dissects a day's traffic and finds no malformed frame.

asyncua and node-opcua browse, read, write, subscribe and do what is refused, over plain text, while the loopback is captured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.interop import node_peer
from tests.interop.opcua_bench import (
    Follower,
    add_users,
    client,
    compiled_only,
    face,
    make_certificate,
    node,
    secure_client,
    until,
)
from tests.interop.peers.opcua_face import TYPES, tag_name

from asyncua import ua  # isort: skip  # skipped by the line above where it is missing
from asyncua.ua.uaerrors import UaError  # isort: skip  # likewise

pytestmark = [pytest.mark.interop, compiled_only]

ANSWERS = {
    431: "GetEndpoints", 449: "OpenSecureChannel", 464: "CreateSession", 470: "ActivateSession", 476: "CloseSession", 530: "Browse",
    536: "BrowseNext", 557: "TranslateBrowsePaths", 634: "Read", 676: "Write", 754: "CreateMonitoredItems", 784: "DeleteMonitoredItems",
    790: "CreateSubscription", 796: "ModifySubscription", 829: "Publish", 850: "DeleteSubscriptions", 397: "ServiceFault",
}  # fmt: skip
"""Numeric ids of the encodings; OPC 10000-6, A.3 (NodeIds.csv). What the traffic below must have in it."""
BAD_SECURITY_CHECKS_FAILED = 0x80130000
BAD_TCP_MESSAGE_TYPE_INVALID = 0x807E0000


def installed_tshark() -> str:
    """Where tshark is; installs it if it is not there."""
    if shutil.which("tshark") is None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "tshark"]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
        assert done.returncode == 0, f"tshark is missing and apt-get cannot install it:\n{done.stderr}"
    found = shutil.which("tshark")
    assert found is not None
    return found


@contextlib.contextmanager
def capture(target: Path, port: int):
    """Writes what goes to and from `port` on the loopback into `target`."""
    command = [installed_tshark(), "-q", "-i", "lo", "-f", f"tcp port {port}", "-w", str(target), "-B", "64"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while "Capturing on" not in said:
        line = process.stderr.readline()
        assert line, f"tshark cannot capture on the loopback, which needs root or CAP_NET_RAW: {said}"
        said += line
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def dissect(path: Path, port: int, wanted: str, *fields: str) -> list[list[str]]:
    """The fields of all frames that match the filter `wanted`."""
    columns = [option for field in fields for option in ("-e", field)]
    command = [
        installed_tshark(),
        "-r",
        str(path),
        "-d",
        f"tcp.port=={port},opcua",
        "-Y",
        wanted,
        "-T",
        "fields",
        *columns,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


async def ordinary_day(server) -> None:
    async with client(server.url) as connected:
        root = await connected.nodes.root.get_child(["0:Objects", "2:Bifrost"])
        names = [f"plant.types.{tag_name(datatype)}" for datatype in TYPES]
        nodes = [node(connected, name) for name in ["plant.level", *names]]
        for one in [root, node(connected, "plant"), node(connected, "plant.many"), *nodes]:
            await one.get_children()
            for attribute in ua.AttributeIds:
                await one.read_attribute(attribute, raise_on_bad_status=False)
        await connected.read_attributes([node(connected, f"plant.many.n{index}") for index in range(500)])
        await nodes[0].write_value(3.0, ua.VariantType.Double)
        with pytest.raises(UaError):
            await node(connected, "plant.locked").write_value(3.0, ua.VariantType.Double)
        follower = Follower()
        subscription = await connected.create_subscription(20, follower)
        handles = await subscription.subscribe_data_change(nodes, queuesize=500)
        await asyncio.to_thread(server.obey, ramp="plant.level", count=200, period_s=0.001)
        await until(lambda: len(follower.values.get("plant.level", [])) > 200)
        await connected.uaclient.modify_subscription(modification(subscription))
        await subscription.unsubscribe(handles)
        await subscription.delete()
        await connected.delete_nodes([node(connected, "plant.level")])  # refused in its result
        await browse_in_parts(connected)


def modification(subscription):
    return ua.ModifySubscriptionParameters(subscription.subscription_id, 50.0, 1_000, 10)


async def browse_in_parts(connected) -> None:
    """At most 100 references an answer: the rest comes by BrowseNext."""
    description = ua.BrowseDescription(
        ua.NodeId("plant.many", 2), ua.BrowseDirection.Forward, ua.NodeId(33), True, 0, 63
    )
    view = ua.ViewDescription()
    found = (await connected.uaclient.browse(ua.BrowseParameters(view, 100, [description])))[0]
    count = len(found.References)
    while found.ContinuationPoint:
        following = ua.BrowseNextParameters(False, [found.ContinuationPoint])
        found = (await connected.uaclient.browse_next(following))[0]
        count += len(found.References)
    assert count == 500


async def refused_day(server, directory) -> None:
    with pytest.raises(UaError):
        async with client(server.url, "operator", "wrong"):
            pass
    stranger = make_certificate(directory, "stranger")
    with pytest.raises((UaError, ConnectionError, TimeoutError)):
        async with secure_client(server.url, "Basic256Sha256", ua.MessageSecurityMode.SignAndEncrypt, stranger):
            pass
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as raw:
        raw.sendall(b"XXXF" + struct.pack("<I", 8))
        raw.recv(1_000)


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """A capture of everything above, and the server's port."""
    directory = tmp_path_factory.mktemp("tshark")
    add_users(directory)
    path = directory / "day.pcapng"
    with face(directory, "--stack", "open62541", "--extra", "500") as server:
        for index, name in enumerate(("plant.level", "plant.types.stringx32", "plant.types.int16x4")):
            server.put(name, (1.5, "Grüße", [1, -2, 3, -4])[index])
        port = urlsplit(server.url).port
        with capture(path, port):
            asyncio.run(asyncio.wait_for(ordinary_day(server), 60))
            asyncio.run(asyncio.wait_for(refused_day(server, directory), 60))
            level = "ns=2;s=plant.level"
            steps = [
                {"tree_attributes": "ns=2;s=plant"},
                {"write": {level: ["Double", 1], "ns=2;s=plant.none": ["Double", 1]}},
                {"subscribe": [level], "changes": 1},
            ]
            login = {"user": "operator", "password": "operator password"}
            node_peer.results(directory, url=server.url, **login, do=steps)
    return path, port


def test_no_frame_is_malformed(captured):
    path, port = captured
    faults = dissect(path, port, "_ws.malformed or opcua.fragment.error or _ws.short", "frame.number", "_ws.col.Info")
    assert faults == []


def test_each_service_was_seen(captured):
    """So that "no malformed frame" says something: the answers are there, and tshark knew them as such."""
    path, port = captured
    numbers = {
        int(number)
        for (cell,) in dissect(path, port, f"tcp.srcport == {port} and opcua", "opcua.servicenodeid.numeric")
        for number in cell.split(",")
        if number
    }
    assert {name for number, name in ANSWERS.items() if number not in numbers} == set()


def test_refusals_carry_their_status(captured):
    path, port = captured
    errors = {int(cell, 0) for (cell,) in dissect(path, port, 'opcua.transport.type == "ERR"', "opcua.transport.error")}
    assert BAD_SECURITY_CHECKS_FAILED in errors  # an unknown certificate; OPC 10000-4, 6.1.3: not told why
    assert BAD_TCP_MESSAGE_TYPE_INVALID in errors  # what was no OPC UA at all

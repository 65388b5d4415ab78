"""What Bifrost relies on inside paho-mqtt, held against the installed version: a new one that differs fails here first."""

import asyncio
import inspect
import socket

import pytest
from paho.mqtt.client import Client, _WebsocketWrapper
from paho.mqtt.enums import MQTTErrorCode

from bifrost.bridge.connectors.mqtt_settings import read_settings
from bifrost.bridge.connectors.paho_client import PahoClient
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.device_url import parse_url


def client(**settings):
    uplink = UplinkConfig(name="plant", url=parse_url("mqtt://127.0.0.1:1"), **settings)
    return PahoClient(read_settings(uplink, "g"), keeps_session=True)


@pytest.fixture
def wire():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "name", ["_create_socket", "_sock_recv", "_sock_send", "_handle_pubrec", "_handle_pubackcomp", "_do_on_publish"]
)
def test_what_is_overridden_or_called_is_there(name):
    assert callable(getattr(Client, name))
    assert list(inspect.signature(_WebsocketWrapper).parameters) == [
        "socket",
        "host",
        "port",
        "is_ssl",
        "path",
        "extra_headers",
    ]


def test_a_client_takes_the_socket_it_is_given_and_connects_nowhere(wire):
    ours, theirs = wire
    paho = client()
    paho.begin(ours, clean_start=True, password=None)
    assert paho.socket() is ours
    assert paho.want_write(), "CONNECT waits for the owner to write it"
    paho.loop_write()
    assert theirs.recv(100)[:1] == b"\x10"
    assert paho.bytes_count > 0


def test_nothing_is_written_before_the_packet_identifier_is_known(wire):
    ours, theirs = wire
    paho = client()
    paho.begin(ours, clean_start=True, password=None)
    paho.loop_write()
    theirs.recv(1000)
    info = paho.publish("t", b"x", 1)
    assert info.mid > 0
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)


def test_a_message_never_waits_in_paho_s_queue(wire):
    ours, _ = wire
    paho = client()
    paho.begin(ours, clean_start=True, password=None)
    states = {message.info.rc for message in (paho.publish("t", b"x", 1) and paho._out_messages).values()}
    assert states == {MQTTErrorCode.MQTT_ERR_SUCCESS}
    for _ in range(200):
        paho.publish("t", b"x", 1)
    assert len(paho._out_packet) == 202, "all are on their way to the socket: CONNECT and 201 messages"
    assert len(paho.drop_out_messages()) == 201


def test_a_dead_socket_says_why(wire):
    ours, theirs = wire
    paho = client()
    paho.begin(ours, clean_start=True, password=None)
    theirs.close()
    paho.loop_write()
    assert isinstance(paho.wire_error, BrokenPipeError)
    assert paho.socket() is None


def test_a_client_needs_no_event_loop_to_be_made():
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    assert client().socket() is None

"""The MQTT connector against a broker that does what a test says: acknowledgements, refusals, loss, resumed sessions."""

import asyncio
import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifrost.bridge.connectors.mqtt import MqttConnector
from bifrost.bridge.connectors.paho_client import PahoClient
from bifrost.core.config_rules import SecretRef
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.contracts import Outcome, Record
from bifrost.core.device_url import parse_url
from bifrost.core.errors import ConfigError, ConnectError
from tests.unit.bridge.mqtt_peer import (
    CONNACK,
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    Broker,
    until,
)

RECEIVE_MAX_2 = b"\x21\x00\x02"
PACKET_MAX_200 = b"\x27\x00\x00\x00\xc8"
QOS_MAX_1 = b"\x24\x01"
NO_RETAIN = b"\x25\x00"
KEEP_ALIVE_1_S = b"\x13\x00\x01"
NO_SESSION_KEPT = b"\x11\x00\x00\x00\x00"
NO_TOPIC_ALIAS = b"\x22\x00\x00"
SECOND_NS = 1_000_000_000


def connector(port, **chosen):
    chosen = {"timeout_ns": 20 * SECOND_NS, "qos": 1} | chosen
    uplink = UplinkConfig(name="plant", url=parse_url(f"mqtt://127.0.0.1:{port}"), **chosen)
    return MqttConnector(uplink, "line-3", lambda secret: f"secret of {secret}")


def records(*sequences):
    return [
        Record(sequence, b"payload %d" % sequence, "t/x", f"store/plant/{sequence}", "text/plain")
        for sequence in sequences
    ]


def outcomes(acks):
    return [(ack.sequence, ack.outcome) for ack in acks]


def run(scenario, *scripts, **settings):
    """Runs `scenario(connector, broker)` against a broker with these scripts."""

    async def main():
        async with asyncio.timeout(30), Broker(*scripts).running() as broker:
            ours = connector(broker.port, **settings)
            try:
                await scenario(ours, broker)
            finally:
                await ours.close()

    asyncio.run(main())


async def obliging(peer):
    """Takes everything."""
    await peer.welcome()
    while True:
        packet = await peer.packet()
        if packet.kind == PUBLISH and packet.qos == 1:
            peer.answer(PUBACK, packet.packet_id)
        elif packet.kind == PUBLISH and packet.qos == 2:
            peer.answer(PUBREC, packet.packet_id)
        elif packet.kind == PUBREL:
            peer.answer(PUBCOMP, packet.packet_id)


# ------------------------------------------------------------------------------------------------ acknowledgements


def test_each_record_gets_the_answer_to_its_own_packet_identifier():
    async def broker(peer):
        await peer.welcome()
        first, second, third = await peer.packets(3)
        peer.answer(PUBACK, 60_000)  # Never sent.
        peer.answer(PUBACK, third.packet_id, 0x10)  # No subscribers: taken over all the same.
        peer.answer(PUBACK, third.packet_id)  # Twice.
        peer.answer(PUBACK, second.packet_id, 0x99)
        peer.answer(PUBACK, first.packet_id, 0x97)
        await peer.packet()

    async def scenario(ours, _):
        await ours.open()
        acks = await ours.send(records(1, 2, 3))
        assert outcomes(acks) == [(1, Outcome.AGAIN), (2, Outcome.REFUSED), (3, Outcome.DELIVERED)]
        assert "quota exceeded" in acks[0].reason
        assert "payload format invalid" in acks[1].reason

    run(scenario, broker)


@pytest.mark.parametrize("code", [0x95, 0xEE])
@pytest.mark.parametrize(("qos", "kind"), [(1, PUBACK), (2, PUBREC)])
def test_refusal_with_a_code_that_the_standard_does_not_list_there(qos, kind, code):
    """As mosquitto's for a message beyond its `message_size_limit`. It is no reason to give the connection up."""

    async def broker(peer):
        await peer.welcome()
        first, _ = await peer.packets(2)
        peer.answer(kind, first.packet_id, code)
        await peer.packet()

    async def scenario(ours, _):
        await ours.open()
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(ours.send(records(1)), name="refused")
            group.create_task(ours.send(records(2)), name="without an answer")
            (ack,) = await sending
            assert ack.outcome is Outcome.AGAIN
            assert ours.is_open
            await ours.close()

    run(scenario, broker, qos=qos)


def test_qos_2_is_delivered_at_pubcomp_and_refused_at_pubrec():
    released = []

    async def broker(peer):
        await peer.welcome()
        first, second = await peer.packets(2)
        peer.answer(PUBREC, second.packet_id, 0x99)
        peer.answer(PUBREC, first.packet_id)
        packet = await peer.packet()
        released.append((packet.kind, packet.packet_id == first.packet_id))
        peer.answer(PUBCOMP, first.packet_id)
        await peer.packet()

    async def scenario(ours, _):
        await ours.open()
        acks = await ours.send(records(1, 2))
        assert outcomes(acks) == [(1, Outcome.DELIVERED), (2, Outcome.REFUSED)]
        assert released == [(PUBREL, True)]

    run(scenario, broker, qos=2)


def test_messages_say_their_identity_and_form():
    seen = []

    async def broker(peer):
        await peer.welcome()
        packet = await peer.packet()
        seen.append(packet)
        peer.answer(PUBACK, packet.packet_id)
        await peer.packet()

    async def scenario(ours, _):
        await ours.open()
        await ours.send(records(7))
        assert seen[0].topic == "t/x"
        assert seen[0].payload == b"payload 7"
        assert b"\x26\x00\x0abifrost-id\x00\x0dstore/plant/7" in seen[0].body  # User property; MQTT 5.0, 3.3.2.3.7.
        assert b"\x03\x00\x0atext/plain" in seen[0].body  # Content type; 3.3.2.3.9.

    run(scenario, broker)


def test_the_window_is_the_smaller_of_ours_and_the_broker_s():
    most = []

    async def broker(peer):
        await peer.welcome(properties=RECEIVE_MAX_2)
        waiting = []
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    while True:
                        waiting.append((await peer.packet()).packet_id)
            most.append(len(waiting))
            for packet_id in waiting:
                peer.answer(PUBACK, packet_id)
            waiting.clear()

    async def scenario(ours, _):
        await ours.open()
        assert ours.capabilities.in_flight_max == 2
        acks = await ours.send(records(*range(7)))
        assert {ack.outcome for ack in acks} == {Outcome.DELIVERED}
        assert max(most) == 2

    run(scenario, broker)


def test_what_the_broker_never_takes_is_refused_here_and_the_rest_passes():
    async def broker(peer):
        await peer.welcome(properties=PACKET_MAX_200)
        while True:
            peer.answer(PUBACK, (await peer.packet()).packet_id)

    async def scenario(ours, _):
        await ours.open()
        good, long, bad_topic, no_topic, last = records(1, 2, 3, 4, 5)
        batch = [good, long._replace(payload=bytes(300)), bad_topic._replace(topic="a/+"), no_topic._replace(topic="")]
        acks = await ours.send([*batch, last])
        refused = [ack.outcome is Outcome.REFUSED for ack in acks]
        assert refused == [False, True, True, True, False]
        assert "takes 200" in acks[1].reason

    run(scenario, broker)


def test_calls_overlap_and_records_leave_in_the_order_of_the_calls():
    seen = []

    async def broker(peer):
        await peer.welcome(properties=RECEIVE_MAX_2)
        while True:
            packet = await peer.packet()
            if packet.kind == PUBLISH:
                seen.append(packet.payload)
                peer.answer(PUBACK, packet.packet_id)

    async def scenario(ours, _):
        await ours.open()
        batches = [records(*range(start, start + 5)) for start in (0, 5, 10)]
        async with asyncio.TaskGroup() as group:
            for batch in batches:
                group.create_task(ours.send(batch), name="send")
        assert seen == [b"payload %d" % sequence for sequence in range(15)]

    run(scenario, broker)


# ------------------------------------------------------------------------------------------------------------ loss


async def silent_after_two(peer):
    """Acknowledges the first of three messages, then ends the connection."""
    await peer.welcome()
    packets = await peer.packets(3)
    peer.answer(PUBACK, packets[0].packet_id)
    await peer.writer.drain()


def test_a_lost_connection_gives_back_what_was_not_acknowledged():
    async def scenario(ours, broker):
        await ours.open()
        acks = await ours.send(records(1, 2, 3))
        assert outcomes(acks) == [(1, Outcome.DELIVERED), (2, Outcome.AGAIN), (3, Outcome.AGAIN)]
        assert "closed the connection" in acks[1].reason
        assert not ours.is_open
        assert outcomes(await ours.send(records(2))) == [(2, Outcome.AGAIN)]
        await ours.open()
        assert outcomes(await ours.send(records(2, 3))) == [(2, Outcome.DELIVERED), (3, Outcome.DELIVERED)]
        assert broker.connections_count == 2

    run(scenario, silent_after_two, obliging)


def test_a_resumed_session_sends_each_message_once_more_and_under_its_old_identifier():
    first, second = [], []

    async def begins(peer):
        first.append(await peer.welcome())
        first.extend(await peer.packets(3))
        peer.answer(PUBACK, first[1].packet_id)
        await peer.writer.drain()

    async def resumes(peer):
        second.append(await peer.welcome(session_present=True))
        while True:
            second.append(await peer.packet())
            peer.answer(PUBACK, second[-1].packet_id)

    async def scenario(ours, _):
        await ours.open()
        await ours.send(records(1, 2, 3))
        await ours.open()
        acks = await ours.send(records(2, 3, 4))
        assert {ack.outcome for ack in acks} == {Outcome.DELIVERED}
        assert first[0].connect_flags & 2, "the first connection of a process begins a session"
        assert not second[0].connect_flags & 2, "a later one resumes it"
        assert [packet.payload for packet in second[1:]] == [b"payload 2", b"payload 3", b"payload 4"]
        assert [packet.is_duplicate for packet in second[1:]] == [True, True, False]
        assert [packet.packet_id for packet in second[1:3]] == [packet.packet_id for packet in first[2:]]

    run(scenario, begins, resumes)


def test_qos_2_goes_on_where_it_was_in_a_resumed_session():
    seen = []

    async def begins(peer):
        await peer.welcome()
        packet = await peer.packet()
        peer.answer(PUBREC, packet.packet_id)
        assert (await peer.packet()).kind == PUBREL

    async def resumes(peer):
        await peer.welcome(session_present=True)
        packet = await peer.packet()
        seen.append(packet.kind)
        peer.answer(PUBCOMP, packet.packet_id, 0x92)  # Finished before the connection was lost.
        seen.append((await peer.packet()).kind)

    async def scenario(ours, _):
        await ours.open()
        assert outcomes(await ours.send(records(1))) == [(1, Outcome.AGAIN)]
        await ours.open()
        assert outcomes(await ours.send(records(1))) == [(1, Outcome.DELIVERED)]
        await ours.close()
        assert seen[0] == PUBREL

    run(scenario, begins, resumes, qos=2)


def test_session_at_which_the_broker_ends_the_connection_again_is_given_up():
    """What was in flight would otherwise be sent, and end the connection, each time."""
    flags = []

    async def dies(peer):
        flags.append((await peer.welcome(session_present=bool(flags))).connect_flags & 2)
        await peer.packet()

    async def takes(peer):
        flags.append((await peer.welcome()).connect_flags & 2)
        while True:
            peer.answer(PUBACK, (await peer.packet()).packet_id)

    async def scenario(ours, _):
        await ours.open()
        await ours.send(records(1))
        await ours.open()
        await until(lambda: not ours.is_open)
        await ours.open()
        assert outcomes(await ours.send(records(1))) == [(1, Outcome.DELIVERED)]
        assert flags == [2, 0, 2]

    run(scenario, dies, dies, takes)


@pytest.mark.parametrize("settings", [{}, {"session_expiry_ns": 0}])
def test_without_a_session_nothing_is_sent_behind_the_caller_s_back(settings):
    seen = []

    async def new(peer):
        seen.append(await peer.welcome())
        while True:
            seen.append(await peer.packet())
            peer.answer(PUBACK, seen[-1].packet_id)

    async def scenario(ours, _):
        await ours.open()
        await ours.send(records(1, 2, 3))
        await ours.open()
        assert outcomes(await ours.send(records(9))) == [(9, Outcome.DELIVERED)]
        assert [packet.payload for packet in seen[1:]] == [b"payload 9"]
        assert bool(seen[0].connect_flags & 2) == bool(settings)

    run(scenario, silent_after_two, new, **settings)


def test_a_session_with_more_in_flight_than_the_broker_takes_now_begins_anew():
    seen = []

    async def begins(peer):
        await peer.welcome()
        await peer.packets(3)

    async def resumes(peer):
        await peer.welcome(session_present=True, properties=RECEIVE_MAX_2)
        await peer.packet()

    async def anew(peer):
        seen.append(await peer.welcome(properties=RECEIVE_MAX_2))
        while True:
            peer.answer(PUBACK, (await peer.packet()).packet_id)

    async def scenario(ours, _):
        await ours.open()
        await ours.send(records(1, 2, 3))
        with pytest.raises(ConnectError, match="the session begins anew"):
            await ours.open()
        await ours.open()
        assert seen[0].connect_flags & 2
        acks = await ours.send(records(1, 2, 3))
        assert {ack.outcome for ack in acks} == {Outcome.DELIVERED}

    run(scenario, begins, resumes, anew)


def test_mqtt_3_ends_an_older_session_before_it_begins_one_to_keep():
    seen = []

    async def broker(peer):
        packet = await peer.packet()
        seen.append(packet.connect_flags & 2)
        peer.send(CONNACK, b"\0\0")
        seen.append((await peer.packet()).kind)

    async def scenario(ours, _):
        await ours.open()
        await ours.close()
        await ours.open()
        await ours.close()
        await until(lambda: len(seen) >= 6)
        assert seen == [2, DISCONNECT, 0, DISCONNECT, 0, DISCONNECT]

    run(scenario, broker, version="3.1.1", qos=2)


def test_a_cancelled_send_leaves_a_connector_that_works():
    async def scenario(ours, _):
        await ours.open()
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(ours.send(records(*range(50))), name="send")
            await asyncio.sleep(0)
            sending.cancel()
        acks = await ours.send(records(*range(50)))
        assert {ack.outcome for ack in acks} == {Outcome.DELIVERED}

    run(scenario, obliging)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x8B, "server shutting down"),
        (0x8D, "keep alive timeout"),
        (0x8E, "session taken over"),
        (0x95, "packet too large"),
        (0x96, "message rate too high"),
        (0x97, "quota exceeded"),
    ],
)
def test_a_broker_that_ends_the_connection_says_why(code, words):
    async def broker(peer):
        await peer.welcome()
        await peer.packet()
        peer.send(DISCONNECT, bytes([code, 0]))

    async def scenario(ours, _):
        await ours.open()
        (ack,) = await ours.send(records(1))
        assert ack.outcome is Outcome.AGAIN
        assert words in ack.reason

    run(scenario, broker)


def test_the_broker_says_how_often_it_wants_to_hear_of_us():
    pings = asyncio.Event()

    async def broker(peer):
        await peer.welcome(properties=KEEP_ALIVE_1_S)
        for _ in range(2):
            assert await peer.raw(2) == bytes([PINGREQ << 4, 0])
            peer.send(PINGRESP, b"")
        pings.set()
        await peer.packet()

    async def scenario(ours, _):
        await ours.open()
        await pings.wait()
        assert ours.is_open

    run(scenario, broker, keep_alive_ns=3600 * SECOND_NS)


def test_a_session_that_the_broker_did_not_keep_is_begun_anew():
    """It was to be kept for an hour; the broker said in CONNACK that it would not be."""
    seen = []

    async def forgets(peer):
        await peer.welcome(properties=NO_SESSION_KEPT)
        await peer.packets(2)

    async def again(peer):
        await peer.welcome(properties=NO_SESSION_KEPT)
        while True:
            seen.append(await peer.packet())
            peer.answer(PUBACK, seen[-1].packet_id)

    async def scenario(ours, _):
        await ours.open()
        acks = await ours.send(records(1, 2))
        assert {ack.outcome for ack in acks} == {Outcome.AGAIN}
        await ours.open()
        acks = await ours.send(records(1, 2))
        assert {ack.outcome for ack in acks} == {Outcome.DELIVERED}
        assert [(packet.payload, packet.is_duplicate) for packet in seen] == [
            (b"payload 1", False),
            (b"payload 2", False),
        ]

    run(scenario, forgets, again)


def test_a_topic_is_sent_whole_to_a_broker_that_takes_no_alias():
    topics = []

    async def broker(peer):
        await peer.welcome(properties=NO_TOPIC_ALIAS)
        while True:
            packet = await peer.packet()
            topics.append(packet.topic)
            peer.answer(PUBACK, packet.packet_id)

    async def scenario(ours, _):
        await ours.open()
        await ours.send(records(1, 2, 3))
        assert topics == ["t/x"] * 3

    run(scenario, broker)


def test_what_is_to_be_retained_is_not_sent_to_a_broker_that_keeps_nothing():
    async def broker(peer):
        await peer.welcome(properties=NO_RETAIN)
        await peer.packet()

    async def scenario(ours, _):
        with pytest.raises(ConnectError, match="keeps no messages for new subscribers"):
            await ours.open()

    run(scenario, broker, retain=True)


def test_a_reset_is_noticed_while_bytes_wait_for_the_socket():
    """Reader and writer are both registered then, and paho closes the socket before it says so."""
    reset = asyncio.Event()

    async def broker(peer):
        await peer.welcome()
        await reset.wait()
        peer.writer.transport.abort()

    async def scenario(ours, _):
        await ours.open()
        async with asyncio.TaskGroup() as group:
            batch = [record._replace(payload=bytes(1 << 20)) for record in records(*range(16))]
            sending = group.create_task(ours.send(batch), name="send")
            await until(lambda: ours._line._is_writer_added)
            reset.set()
        assert {ack.outcome for ack in sending.result()} == {Outcome.AGAIN}
        assert not ours.is_open

    run(scenario, broker)


def test_a_loss_is_noticed_while_nothing_is_sent():
    async def broker(peer):
        await peer.welcome()

    async def scenario(ours, _):
        await ours.open()
        await until(lambda: not ours.is_open)

    run(scenario, broker)


# ------------------------------------------------------------------------------------------- a broker that is not well


async def never(peer):
    """Reads and says nothing."""
    while True:
        await peer.packet()


async def garbage(peer):
    await peer.packet()
    peer.writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n" + b"<p>no</p>" * 20)
    await peer.packet()


async def not_authorised(peer):
    await peer.welcome(reason=0x87)


async def too_often(peer):
    await peer.welcome(reason=0x9F)


async def wants_less(peer):
    await peer.welcome(properties=QOS_MAX_1)
    await peer.packet()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (never, "within 0.3 s: the broker does not answer CONNECT"),
        (not_authorised, "refused the connection: not authorized"),
        (too_often, "refused the connection: connection rate exceeded"),
        (garbage, "what the peer says is not MQTT"),
        (wants_less, "takes QoS 1 at most"),
    ],
)
def test_connecting_ends_in_time_and_with_a_reason(script, message):
    async def scenario(ours, _):
        begin_s = time.monotonic()
        with pytest.raises(ConnectError, match=message):
            await ours.open()
        assert time.monotonic() - begin_s < 5
        assert not ours.is_open
        assert outcomes(await ours.send(records(1))) == [(1, Outcome.AGAIN)]

    run(scenario, script, timeout_ns=300_000_000, qos=2)


def test_a_refused_port_is_named():
    async def scenario(ours, broker):
        nobody = connector(1)
        with pytest.raises(ConnectError, match=r"cannot connect to 127\.0\.0\.1:1: Connection refused"):
            await nobody.open()

    run(scenario, obliging)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_broker_that_falls_silent_is_given_up(qos):
    async def broker(peer):
        await peer.welcome()
        while True:  # Pings are answered, messages are not.
            await peer.packet()

    async def scenario(ours, _):
        await ours.open()
        (ack,) = await ours.send(records(1))
        assert ack.outcome is Outcome.AGAIN
        assert "no sign of life from the broker for 0.3 s" in ack.reason
        assert not ours.is_open

    run(scenario, broker, timeout_ns=300_000_000, qos=qos)


def test_a_broker_that_reads_no_more_is_given_up_and_nothing_piles_up():
    async def broker(peer):
        await peer.welcome()
        peer.writer.transport.pause_reading()
        await asyncio.Event().wait()

    async def scenario(ours, _):
        await ours.open()
        acks = await ours.send([record._replace(payload=bytes(1 << 20)) for record in records(*range(60))])
        assert {ack.outcome for ack in acks[20:]} == {Outcome.AGAIN}
        assert not ours.is_open

    run(scenario, broker, timeout_ns=300_000_000, qos=0)


def test_an_attempt_that_is_cancelled_leaves_nothing_open():
    async def scenario(ours, broker):
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(ours.open(), name="open")
            await until(lambda: broker.connections_count)
            opening.cancel()
        assert not ours.is_open
        await ours.open()
        assert outcomes(await ours.send(records(1))) == [(1, Outcome.DELIVERED)]

    run(scenario, never, obliging)


def test_status_topic_says_whether_the_gateway_is_there():
    seen = []

    async def broker(peer):
        seen.append(await peer.welcome())
        while True:
            seen.append(await peer.packet())

    async def scenario(ours, _):
        await ours.open()
        await ours.close()
        await until(lambda: len(seen) >= 4)
        assert b'state/line-3\x00\x23{"gateway":"line-3","online":false}' in seen[0].body
        assert [packet.payload for packet in seen[1:3]] == [
            b'{"gateway":"line-3","online":true}',
            b'{"gateway":"line-3","online":false}',
        ]
        assert [packet.flags for packet in seen[1:3]] == [1, 1], "retained"
        assert seen[3].kind == DISCONNECT

    run(scenario, broker, status_topic="state/${gateway}")


def test_user_and_password_are_revealed_at_each_connection():
    seen = []

    async def broker(peer):
        seen.append(await peer.welcome())
        await peer.packet()

    async def scenario(ours, _):
        await ours.open()
        assert b"\x00\x05alice\x00\x13secret of cred:mqtt" in seen[0].body

    run(scenario, broker, user="alice", password=SecretRef("cred", "mqtt"))


# -------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("url", "settings", "message"),
    [
        ("mqtt:///x", {}, "url: the URL names no host"),
        ("mqtt://b/topic", {}, "url: '/topic' has no meaning here"),
        ("mqtts://b?x=1", {}, "url: an MQTT URL has no 'x'"),
        ("mqtt://b?alpn=mqtt", {}, "url: 'mqtt://' is not encrypted"),
        ("mqtt://b", {"ca": SecretRef("file", "ca.pem")}, "ca: 'mqtt://' is not encrypted"),
        ("mqtts://b", {"key": SecretRef("file", "k.pem")}, "key: a key is of use with its certificate only"),
        ("mqtt://b", {"password": SecretRef("env", "P")}, "password: a password is of use with its user only"),
        ("mqtt://b", {"status_topic": "a/#"}, "status_topic: 'a/#' contains '#'"),
    ],
)
def test_settings_that_cannot_work_are_refused(url, settings, message):
    with pytest.raises(ConfigError, match=f"uplink.plant.{message}"):
        MqttConnector(UplinkConfig(name="plant", url=parse_url(url), **settings), "g", str)


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15), st.binary(max_size=12)), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_whatever_a_broker_says_every_record_gets_an_answer(packets):
    async def broker(peer):
        await peer.welcome()
        await peer.packet()
        for kind, flags, body in packets:
            peer.send(kind, body, flags)
        await peer.writer.drain()

    async def scenario(ours, _):
        await ours.open()
        acks = await ours.send(records(1, 2, 3))
        assert [ack.sequence for ack in acks] == [1, 2, 3]

    run(scenario, broker, qos=2)


def test_a_packet_that_paho_cannot_read_ends_the_connection(monkeypatch):
    def fails(client):
        raise ValueError("Expected exactly one name, found []")

    async def scenario(ours, _):
        await ours.open()
        monkeypatch.setattr(PahoClient, "loop_read", fails)
        (ack,) = await ours.send(records(1))
        assert ack.reason == "what the peer says is not MQTT"

    run(scenario, obliging)

"""What connectors are made of: messages in flight, connecting in a thread, TLS settings, lines in a file."""

import asyncio
import base64
import json
import socket
import ssl
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifrost.bridge.connectors.dial import Attempt, Dialer
from bifrost.bridge.connectors.file import FileConnector
from bifrost.bridge.connectors.in_flight import Batch, InFlight
from bifrost.bridge.connectors.tls import explain, make_context
from bifrost.core import plugins
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.contracts import Outcome, Record
from bifrost.core.device_url import parse_url
from bifrost.core.errors import ConfigError, ConnectError
from bifrost.testing import check_connector
from tests.unit.bridge.mqtt_peer import until

DELIVERED, AGAIN = Outcome.DELIVERED, Outcome.AGAIN


def records(*sequences):
    return [Record(sequence, b"{}", "t", f"s/p/{sequence}", "application/json") for sequence in sequences]


# ------------------------------------------------------------------------------------------------ messages in flight


def batch_of(*sequences):
    done = []
    return Batch(records(*sequences), lambda: done.append(True)), done


def test_a_batch_is_done_when_all_of_it_is_settled_and_each_place_once():
    batch, done = batch_of(1, 2)
    batch.settle(1, DELIVERED)
    batch.settle(1, AGAIN, "too late")
    assert not done
    batch.settle(0, AGAIN, "lost")
    assert done == [True]
    assert [(ack.sequence, ack.outcome, ack.reason) for ack in batch.acks()] == [(1, AGAIN, "lost"), (2, DELIVERED, "")]
    assert batch_of()[1] == [True]


def test_an_orphan_that_was_answered_before_it_is_claimed_is_delivered_at_once():
    in_flight = InFlight()
    batch, _ = batch_of(1, 2)
    in_flight.sent(10, batch, 0)
    in_flight.sent(11, batch, 1)
    in_flight.lost("gone")
    assert in_flight.answered(10, DELIVERED)
    again, done = batch_of(1, 2)
    assert in_flight.claim(again, 0)
    assert in_flight.claim(again, 1)
    assert not in_flight.claim(again, 1), "claimed once"
    assert not done
    in_flight.answered(11, DELIVERED)
    assert done
    assert len(in_flight) == 0


def test_nothing_is_claimed_from_a_session_that_is_gone():
    in_flight = InFlight()
    batch, _ = batch_of(1)
    in_flight.sent(10, batch, 0)
    in_flight.lost("gone")
    in_flight.forget()
    assert not in_flight.claim(batch_of(1)[0], 0)
    assert not in_flight.answered(10, DELIVERED)


def test_records_without_a_name_are_never_claimed():
    in_flight = InFlight()
    batch = Batch([Record(1, b"x", "t")], lambda: None)
    in_flight.sent(10, batch, 0)
    in_flight.lost("gone")
    assert not in_flight.claim(Batch([Record(1, b"x", "t")], lambda: None), 0)


@given(
    st.lists(st.tuples(st.sampled_from(["send", "answer", "lose", "leave", "forget"]), st.integers(0, 9)), max_size=80)
)
def test_every_owner_gets_one_answer_whatever_happens(steps):
    in_flight = InFlight()
    waiting = {}
    packet_id = 0
    for step, number in steps:
        if step == "send":
            batch, done = batch_of(number)
            if not in_flight.claim(batch, 0):
                packet_id += 1
                in_flight.sent(packet_id, batch, 0)
            if not done:
                waiting[id(batch)] = (batch, done)
        elif step == "answer" and packet_id:
            in_flight.answered(packet_id - number % packet_id, DELIVERED)
        elif step == "leave" and waiting:
            in_flight.leave(waiting.pop(next(iter(waiting)))[0])
        elif step in {"lose", "forget"}:
            in_flight.lost("gone")
            if step == "forget":
                in_flight.forget()
                assert len(in_flight) == 0
            assert all(done == [True] for _, done in waiting.values())
        waiting = {key: found for key, found in waiting.items() if not found[1]}
        assert len(waiting) <= len(in_flight)


# ------------------------------------------------------------------------------------------------------ connecting


class Made:
    """Something that was connected."""

    def __init__(self):
        self.closed = threading.Event()

    def close(self):
        self.closed.set()


def test_the_loop_goes_on_while_the_thread_waits_and_gets_what_it_made():
    async def main():
        may_end = threading.Event()
        made = Made()

        def connect(attempt):
            may_end.wait(10)
            return made

        async with asyncio.TaskGroup() as group:
            dialing = group.create_task(Dialer("dial-x").dial(connect, Attempt()), name="dial")
            for _ in range(5):
                await asyncio.sleep(0)
            assert not dialing.done()
            may_end.set()
        assert dialing.result() is made
        assert not made.closed.is_set()

    asyncio.run(main())


@pytest.mark.parametrize("error", [OSError("wire"), ValueError("name"), ConfigError("settings")])
def test_what_the_thread_raises_arrives(error):
    def connect(attempt):
        raise error

    with pytest.raises(type(error), match=str(error)):
        asyncio.run(Dialer("dial-x").dial(connect, Attempt()))


def test_an_attempt_is_cut_and_what_it_made_too_late_is_closed():
    """The thread waits at a socket that says nothing; giving up wakes it."""

    async def main():
        ours, theirs = socket.socketpair()
        made = Made()
        woken = threading.Event()

        def connect(attempt):
            attempt.hold(ours)
            assert ours.recv(1) == b""
            woken.set()
            return made

        dialer = Dialer("dial-x")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await dialer.dial(connect, Attempt())
        assert await asyncio.get_running_loop().run_in_executor(None, woken.wait, 10)
        await until(made.closed.is_set)
        ours.close()
        theirs.close()

    asyncio.run(main())


def test_while_a_lookup_hangs_there_is_no_second_thread():
    async def main():
        may_end = threading.Event()
        dialer = Dialer("dial-x")
        threads = []

        def hangs(attempt):
            threads.append(threading.current_thread().name)
            may_end.wait(10)
            return Made()

        attempt = Attempt()
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await dialer.dial(hangs, attempt)
        assert attempt.stage == "the attempt before still hangs in the lookup of the name"
        assert threads == ["dial-x"]
        may_end.set()
        await dialer.dial(hangs, Attempt())

    asyncio.run(main())


def test_a_cut_attempt_does_not_wait_at_another_socket():
    attempt = Attempt()
    attempt.cut()
    unused = socket.socket()
    with pytest.raises(ConnectionAbortedError):
        attempt.hold(unused)
    unused.close()


# ------------------------------------------------------------------------------------------------------------- TLS


@pytest.mark.parametrize(
    ("given_texts", "key"),
    [({"ca": "no certificate"}, "ca"), ({"ca": ""}, "ca"), ({"cert": "no", "key": "no"}, "cert")],
)
def test_texts_that_are_no_certificates_are_refused(given_texts, key):
    with pytest.raises(ConfigError) as caught:
        make_context(**given_texts)
    assert caught.value.key == key


def test_a_context_checks_certificate_and_name():
    context = make_context(alpn=["mqtt"])
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_errors_are_explained():
    assert explain(ConnectionRefusedError(111, "Connection refused")) == "Connection refused"
    assert (
        explain(ssl.SSLError(1, "[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] x"))
        == "TLS failed: [ssl: sslv3 alert certificate expired] x"
    )


# ------------------------------------------------------------------------------------------------------------ files


def file_connector(path, query=""):
    uplink = UplinkConfig(name="stick", url=parse_url(f"file://{path}{query}"))
    return FileConnector(uplink, "g", str)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_file_connector_keeps_the_contract(tmp_path):
    path = tmp_path / "out.jsonl"

    async def received(count):
        return [json.dumps(line["message"], separators=(",", ":")).encode() for line in lines_of(path)]

    asyncio.run(check_connector(file_connector(path, "?bytes_max=1MiB"), received))


def test_lines_hold_topic_identity_and_message(tmp_path):
    async def main():
        connector = file_connector(tmp_path / "out.jsonl")
        await connector.open()
        await connector.send([records(1)[0], Record(2, b"\0\xff", "t/2")])
        await connector.close()

    asyncio.run(main())
    assert lines_of(tmp_path / "out.jsonl") == [
        {"topic": "t", "id": "s/p/1", "message": {}},
        {"topic": "t/2", "id": "", "base64": base64.b64encode(b"\0\xff").decode()},
    ]


def test_two_files_never_hold_more_than_the_cap_and_keep_the_newest(tmp_path):
    path = tmp_path / "out.jsonl"

    async def main():
        connector = file_connector(path, "?bytes_max=64KiB")
        await connector.open()
        for sequence in range(1_000):
            (ack,) = await connector.send(
                [Record(sequence, b'{"n":%d}' % sequence + b" " * 300, "t", "", "application/json")]
            )
            assert ack.outcome is DELIVERED
        await connector.close()

    asyncio.run(main())
    older = tmp_path / "out.jsonl.1"
    assert path.stat().st_size + older.stat().st_size <= 64 << 10
    numbers = [line["message"]["n"] for line in lines_of(older) + lines_of(path)]
    assert numbers == list(range(numbers[0], 1_000))


def test_a_line_without_its_end_costs_only_itself(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text('{"topic":"half')

    async def main():
        connector = file_connector(path)
        await connector.open()
        await connector.send(records(1))
        await connector.close()

    asyncio.run(main())
    assert json.loads(path.read_text().splitlines()[1])["id"] == "s/p/1"


def test_a_full_disk_leaves_no_half_line_and_asks_to_send_again():
    async def main():
        connector = file_connector("/dev/full")
        await connector.open()
        (ack,) = await connector.send(records(1))
        assert ack.outcome is AGAIN
        assert "No space left" in ack.reason
        await connector.close()

    asyncio.run(main())


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConnectError, match="cannot append to"):
        asyncio.run(file_connector(tmp_path / "no" / "out").open())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file://out.jsonl", "three slashes"),
        ("file:///", "no path"),
        ("file:///x?y=1", "'y'"),
        ("file:///x?bytes_max=1", "out of range|unit|size"),
    ],
)
def test_file_urls_that_cannot_be_are_refused(url, message):
    with pytest.raises(ConfigError, match=message):
        FileConnector(UplinkConfig(name="stick", url=parse_url(url)), "g", str)


def test_connectors_are_found_by_scheme():
    from bifrost.bridge.connectors.mqtt import MqttConnector

    for scheme in ("mqtt", "mqtts", "ws", "wss"):
        assert plugins.load(plugins.CONNECTORS, scheme) is MqttConnector
    assert plugins.load(plugins.CONNECTORS, "file") is FileConnector
    plugins.check_scheme(plugins.CONNECTORS, "file", "")
    with pytest.raises(ValueError, match="names no host"):
        plugins.check_scheme(plugins.CONNECTORS, "mqtt", "")

"""The MQTT connector against foreign brokers: mosquitto in every way it can be reached, amqtt, and brokers that are not well.

mosquitto_sub says what arrived. How late the event loop is while a broker is not well, `bench/bench_uplink_faults.py` measures.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket

import pytest

from bifrost.bridge.connectors.mqtt import MqttConnector
from bifrost.core.config_rules import SecretRef
from bifrost.core.config_sections import UplinkConfig
from bifrost.core.contracts import Outcome, Record
from bifrost.core.device_url import parse_url
from bifrost.core.errors import ConfigError, ConnectError
from bifrost.testing import check_connector
from tests.interop.peers import brokers
from tests.interop.peers.lines import Relay, serving

pytestmark = pytest.mark.interop

CA, CERT, KEY = (SecretRef("file", name) for name in ("ca.pem", "client.pem", "client.key"))
SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    made = brokers.Certificates(tmp_path_factory.mktemp("certificates"))
    made.sign("server")
    made.sign("client", subject="gateway.example")
    made.sign("expired", days=-1)
    made.sign("other", subject="other.example")
    made.sign("late", days=-1, subject="gateway.example")
    return made


@pytest.fixture(scope="module")
def ports(tmp_path_factory, certificates):
    """A mosquitto with a listener for each way in; the ports by name."""
    names = ("mqtt", "mqtts", "mutual", "ws", "wss", "expired", "other", "users")
    ports = {name: brokers.free_port() for name in names}
    directory = tmp_path_factory.mktemp("mosquitto")
    password_file = directory / "passwords"
    password_file.touch(0o700)
    brokers.subprocess.run([brokers.need("mosquitto_passwd"), "-b", password_file, "alice", "right"], check=True)
    pem = certificates.directory

    def tls(name):
        return f"cafile {pem}/ca.pem\ncertfile {pem}/{name}.pem\nkeyfile {pem}/{name}.key\n"

    extra = {
        "mqtts": tls("server"),
        "mutual": tls("server") + "require_certificate true\n",
        "ws": "protocol websockets\n",
        "wss": "protocol websockets\n" + tls("server"),
        "expired": tls("expired"),
        "other": tls("other"),
        "users": f"password_file {password_file}\n",
    }
    config = ""
    for name, port in ports.items():
        anonymous = "false" if name == "users" else "true"
        config += f"listener {port} 127.0.0.1\nallow_anonymous {anonymous}\n{extra.get(name, '')}"
    with brokers.mosquitto(directory, config, port):
        yield ports


def connector(url, certificates, **settings):
    settings = {"timeout_ns": 20 * SECOND_NS, "qos": 1} | settings
    uplink = UplinkConfig(name="plant", url=parse_url(url), **settings)
    return MqttConnector(uplink, "line-3", lambda secret: certificates.text(secret.name))


def records(count, payload=b""):
    return [Record(number, payload or b"%d" % number, "fault/x", f"s/p/{number}") for number in range(count)]


@contextlib.contextmanager
def subscribed(port, topic, **options):
    subscriber = brokers.Subscriber(port, topic, options)
    try:
        yield subscriber
    finally:
        subscriber.close()


def check(ours, ports, topic):
    """The contract, with mosquitto_sub as the destination."""
    with subscribed(ports["mqtt"], topic, **{"-q": "2", "-V": "311"}) as subscriber:

        async def received(count):
            found = []
            while len(set(found)) < count:
                found += await asyncio.to_thread(subscriber.lines, 1)
            return found

        asyncio.run(check_connector(ours, received, topic=topic))


# ------------------------------------------------------------------------------------------------------------ ways in


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_the_contract_is_kept(version, qos, ports, certificates):
    ours = connector(f"mqtt://127.0.0.1:{ports['mqtt']}", certificates, version=version, qos=qos)
    check(ours, ports, f"contract/{version}/{qos}")


@pytest.mark.parametrize("way", ["mqtts", "mutual", "ws", "wss"])
def test_the_contract_is_kept_over_tls_and_websocket(way, ports, certificates):
    scheme = "mqtts" if way == "mutual" else way
    secrets = {"ca": CA} if scheme in {"mqtts", "wss"} else {}
    if way == "mutual":
        secrets |= {"cert": CERT, "key": KEY}
    check(connector(f"{scheme}://127.0.0.1:{ports[way]}", certificates, **secrets), ports, f"contract/{way}")


def test_user_property_and_content_type_arrive(ports, certificates):
    async def main():
        ours = connector(f"mqtt://127.0.0.1:{ports['mqtt']}", certificates, retain=True)
        await ours.open()
        await ours.send([Record(1, b"{}", "props/x", "5e0a/plant/1", "application/json")])
        await ours.close()

    with subscribed(ports["mqtt"], "props/#", **{"-V": "5", "-F": "%t %C %P %p"}) as subscriber:
        asyncio.run(main())
        assert subscriber.lines(1) == [b"props/x application/json bifrost-id:5e0a/plant/1 {}"]
    with subscribed(ports["mqtt"], "props/#", **{"-F": "%r %p"}) as subscriber:
        assert subscriber.lines(1) == [b"1 {}"], "retained"


def test_the_will_says_that_a_gateway_was_lost(ports, certificates):
    async def main():
        ours = connector(f"mqtt://127.0.0.1:{ports['mqtt']}", certificates, status_topic="state/${gateway}")
        await ours.open()
        ours._line.end("as if killed")

    with subscribed(ports["mqtt"], "state/#") as subscriber:
        asyncio.run(main())
        assert subscriber.lines(2) == [
            b'{"gateway":"line-3","online":true}',
            b'{"gateway":"line-3","online":false}',
        ]


def test_amqtt_is_served_too(tmp_path, certificates):
    port = brokers.free_port()
    with brokers.amqtt(tmp_path, port):
        for qos in (0, 1, 2):
            ours = connector(f"mqtt://127.0.0.1:{port}", certificates, version="3.1.1", qos=qos, window=20)
            check(ours, {"mqtt": port}, f"contract/{qos}")


# ------------------------------------------------------------------------------------------------------- who gets in


@pytest.mark.parametrize(
    ("way", "secrets", "message"),
    [
        ("expired", {"ca": CA}, "the broker's certificate is refused: certificate has expired (the clock of this"),
        ("other", {"ca": CA}, "the broker's certificate is refused: IP address mismatch"),
        ("mqtts", {}, "the broker's certificate is refused: "),
        ("mutual", {"ca": CA}, "certificate required"),
        ("mutual", {"ca": CA, "cert": SecretRef("file", "late.pem"), "key": SecretRef("file", "late.key")}, "expired"),
        ("mqtt", {"ca": CA}, "TLS failed|ended TLS|reset|EOF"),
    ],
)
def test_what_is_wrong_with_certificates_is_said(way, secrets, message, ports, certificates):
    ours = connector(f"mqtts://127.0.0.1:{ports[way]}", certificates, **secrets)
    with pytest.raises(ConnectError) as caught:
        asyncio.run(ours.open())
    pattern = message if "|" in message else re.escape(message)
    assert re.search(pattern, str(caught.value)), str(caught.value)


def test_a_key_of_another_certificate_is_refused(ports, certificates):
    secrets = {"ca": CA, "cert": CERT, "key": SecretRef("file", "other.key")}
    ours = connector(f"mqtts://127.0.0.1:{ports['mutual']}", certificates, **secrets)
    with pytest.raises(
        ConfigError, match=r"uplink\.plant\.cert: certificate and key cannot be used: key values mismatch"
    ):
        asyncio.run(ours.open())


@pytest.mark.parametrize(("password", "is_right"), [("right", True), ("wrong", False)])
@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_user_and_password(version, password, is_right, ports):
    uplink = UplinkConfig(
        name="plant",
        url=parse_url(f"mqtt://127.0.0.1:{ports['users']}"),
        version=version,
        user="alice",
        password=SecretRef("env", "P"),
    )

    async def main():
        ours = MqttConnector(uplink, "line-3", lambda secret: password)
        if is_right:
            await ours.open()
            await ours.close()
            return
        with pytest.raises(ConnectError, match=r"the broker refused the connection: (not authorized|bad user)"):
            await ours.open()

    asyncio.run(main())


# -------------------------------------------------------------------------------------------- brokers that are not well


def watched(scenario):
    """Runs `scenario()`; while the broker is not well the loop must go on, which a scenario that hangs would show."""

    async def main():
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(main())


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
def test_a_broker_that_falls_silent_is_given_up_in_time(scheme, ports, certificates):
    """Half-open: the connection stands, nothing comes any more; then it passes again."""

    async def scenario():
        async with Relay(ports[scheme]).running() as relay:
            secrets = {"ca": CA} if scheme == "mqtts" else {}
            ours = connector(f"{scheme}://127.0.0.1:{relay.port}", certificates, timeout_ns=SECOND_NS, **secrets)
            await ours.open()
            relay.is_passing.clear()
            acks = await ours.send(records(300, bytes(4_000)))
            assert {ack.outcome for ack in acks} == {Outcome.AGAIN}
            assert "no sign of life" in acks[0].reason
            with pytest.raises(ConnectError, match="within 1 s: "):
                await ours.open()
            relay.is_passing.set()
            await ours.open()
            acks = await ours.send(records(300))
            assert {ack.outcome for ack in acks} == {Outcome.DELIVERED}
            await ours.close()

    watched(scenario)


def test_a_reset_gives_back_what_was_not_acknowledged(ports, certificates):
    async def scenario():
        async with Relay(ports["mqtt"]).running() as relay:
            ours = connector(f"mqtt://127.0.0.1:{relay.port}", certificates)
            for _ in range(20):
                await ours.open()
                async with asyncio.TaskGroup() as group:
                    sending = group.create_task(ours.send(records(2_000)), name="send")
                    await asyncio.sleep(0.02)
                    relay.reset()
                outcomes = [ack.outcome for ack in sending.result()]
                assert set(outcomes) <= {Outcome.DELIVERED, Outcome.AGAIN}
                assert outcomes[-1] is Outcome.AGAIN

    watched(scenario)


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
def test_a_peer_that_accepts_and_says_nothing(scheme, certificates):
    async def scenario():
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
            ours = connector(
                url,
                certificates,
                timeout_ns=SECOND_NS // 2,
                **({"ca": CA} if scheme[-1] == "s" and scheme != "ws" else {}),
            )
            with pytest.raises(ConnectError, match=r"within 0\.5 s: "):
                await ours.open()

    watched(scenario)


@pytest.mark.parametrize("scheme", ["mqtts", "ws"])
def test_a_peer_that_sends_a_byte_now_and_then(scheme, certificates):
    """Each byte starts the library's own time-outs anew; the deadline holds all the same, and the thread ends."""

    async def drip(reader, writer):
        with contextlib.suppress(OSError):
            for byte in b"\x16\x03\x03\x3f\xff" + bytes(200) if scheme == "mqtts" else b"HTTP/1.1 " + b"x" * 200:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)
        writer.close()

    async def scenario():
        async with serving(drip) as port:
            url = f"{scheme}://127.0.0.1:{port}"
            secrets = {"ca": CA} if scheme == "mqtts" else {}
            ours = connector(url, certificates, timeout_ns=SECOND_NS // 2, **secrets)
            for _ in range(2):
                with pytest.raises(ConnectError, match=r"within 0\.5 s: "):
                    await ours.open()

    watched(scenario)


def test_a_black_hole(certificates):
    """Nobody answers SYN: the queue of a listener is full."""

    async def scenario():
        with socket.socket() as hole, contextlib.ExitStack() as stack:
            hole.bind(("127.0.0.1", 0))
            hole.listen(0)
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(hole.getsockname())
            await asyncio.sleep(0.1)
            ours = connector(f"mqtt://127.0.0.1:{hole.getsockname()[1]}", certificates, timeout_ns=SECOND_NS // 2)
            with pytest.raises(ConnectError, match=r"connecting to|timed out|within"):
                await ours.open()

    watched(scenario)


def test_a_slow_line_carries_what_it_can_and_is_not_given_up(ports, certificates):
    """A relay that passes 200 kB/s: 1 MB takes longer than the time-out, but something moves all the time."""

    async def scenario():
        relay = Relay(ports["mqtt"])
        relay.bytes_per_second = 200_000
        async with relay.running():
            ours = connector(f"mqtt://127.0.0.1:{relay.port}", certificates, timeout_ns=2 * SECOND_NS)
            await ours.open()
            acks = await ours.send(records(50, bytes(20_000)))
            assert {ack.outcome for ack in acks} == {Outcome.DELIVERED}
            await ours.close()

    watched(scenario)

"""`discover` against devices that tell less than ours: a scripted Modbus server in a thread, which answers as old devices do."""

import contextlib
import socket
import threading

import pytest

from bifrost.cli.discover import Discovered, discover_host
from bifrost.plc.modbus.frame import encode_adu, next_frame


@contextlib.contextmanager
def device(answers):
    """A server that answers each PDU as `answers` says, by function code; one it does not know gets no answer. Gives its port."""

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    received = b""
                    while data := connection.recv(260):
                        received += data
                        _, header = next_frame(received)
                        answer = answers.get(received[7])
                        if header is not None and answer is not None:
                            connection.sendall(encode_adu(header.transaction, header.unit, answer))
                        received = b""

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def identification(more, next_id, **objects):
    """A good answer to Read Device Identification, regular level; AP V1.1b3, 6.21."""
    body = bytes((0x2B, 0x0E, 2, 0x82, more, next_id, len(objects)))
    for number, text in objects.items():
        body += bytes((int(number[1:]), len(text))) + text
    return body


REFUSES = {0x2B: b"\xab\x01", 0x11: b"\x91\x01"}


@pytest.mark.parametrize(
    ("answers", "by", "details"),
    [
        (
            {0x2B: identification(0, 0, o0=b"Acme", o1=b"P-1", o2=b"3.2", o5=b"X")},
            "identification",
            {"vendor": "Acme", "product": "P-1", "revision": "3.2", "model": "X"},
        ),
        ({0x2B: b"\xab\x01", 0x11: b"\x11\x06PLC\x0042"}, "server id", {"product": "PLC?42"}),
        ({0x2B: b"\xab\x01", 0x11: b"\x11\x06PLC\x80 \xff"}, "server id", {"product": "PLC?"}),
        (REFUSES, "refusal", {}),
        ({0x2B: b"\x2b\x0e\x02\x82\x00\x00\x05\x00\x09Acme", 0x11: b"\x91\x01"}, "refusal", {}),
        ({0x2B: b"\xab\x01", 0x11: b"\x11\x09PLC"}, "refusal", {}),
        ({0x2B: identification(0xFF, 0, o0=b"Acme")}, "identification", {"vendor": "Acme"}),
    ],
)
def test_what_a_device_tells(answers, by, details):
    with device(answers) as port:
        assert list(discover_host("127.0.0.1", port, [1], 0.2)) == [Discovered("127.0.0.1", port, 1, by, details)]


def test_silent_device_is_left_out():
    with device({}) as port:
        assert list(discover_host("127.0.0.1", port, [255, 1], 0.02)) == []

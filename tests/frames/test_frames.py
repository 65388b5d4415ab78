"""Golden frames: the worked examples of the standards, byte for byte, one file a frame.

Each `<protocol>/<name>.toml` holds a `title`, its `source` (standard and clause), a `[request]` and the `[answer]` to
it as hex texts, and what they mean. For every file the runner checks both directions: meaning to bytes and bytes to
meaning. A frame that once broke something becomes a file here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bifrost.plc.modbus import frame, schema

FOLDER = Path(__file__).parent
FRAMES = sorted(FOLDER.glob("*/*.toml"))


def load(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def modbus_request(part: dict[str, Any]) -> frame.Request:
    fields = dict(part["fields"])
    if "data" in part:
        fields["data"] = bytes.fromhex(part["data"])
    record: frame.Request = getattr(frame, part["record"])(**fields)
    return record


def check_modbus(golden: dict[str, Any]) -> None:
    pdu = bytes.fromhex(golden["request"]["pdu"])
    request = modbus_request(golden["request"])
    assert frame.encode_request(request) == pdu
    assert frame.decode_request(pdu) == request
    check_modbus_answer(request, golden["answer"])
    check_modbus_schema(pdu, bytes.fromhex(golden["answer"]["pdu"]))
    if "transaction" in golden:
        for part in (golden["request"], golden["answer"]):
            adu = bytes.fromhex(part["adu"])
            assert frame.encode_adu(golden["transaction"], golden["unit"], bytes.fromhex(part["pdu"])) == adu
            header = frame.Header(golden["transaction"], 0, len(adu) - frame.LENGTH_END, golden["unit"])
            assert frame.next_frame(adu) == (frame.FrameStatus.WHOLE, header)


def check_modbus_answer(request: frame.Request, part: dict[str, Any]) -> None:
    pdu = bytes.fromhex(part["pdu"])
    answer = frame.decode_answer(request, pdu)
    assert isinstance(answer, frame.Answer)
    assert answer.exception == part.get("exception", 0)
    if answer.exception:
        assert frame.encode_exception(request.function, answer.exception) == pdu
        return
    assert frame.encode_answer(request, answer.data) == pdu
    if "data" in part:
        assert answer.data == bytes.fromhex(part["data"])
    if "bits" in part:
        bits = [bit == "1" for bit in part["bits"]]
        assert frame.unpack_bits(answer.data, len(bits)) == bits
        assert frame.pack_bits(bits) == answer.data
    if "objects" in part:
        objects = {number: text.encode() for number, text in enumerate(part["objects"])}
        identification = frame.Identification(part["conformity"], None, objects)
        assert frame.decode_identification(answer.data) == identification
        assert frame.encode_identification(identification) == answer.data


def check_modbus_schema(request: bytes, answer: bytes) -> None:
    """The declarations of `schema` take the same frames apart and put them together again."""
    declared = schema.REQUESTS[request[0]]
    assert declared.build(declared.parse(request)) == request
    declared = schema.EXCEPTION if answer[0] & 0x80 else schema.ANSWERS[answer[0]]
    assert declared.build(declared.parse(answer)) == answer


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {"modbus": check_modbus}


@pytest.mark.parametrize("path", FRAMES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_frame_is_encoded_and_decoded_as_the_standard_says(path: Path):
    golden = load(path)
    assert golden["title"]
    assert golden["source"]
    CHECKS[path.parent.name](golden)


def test_every_function_has_a_golden_frame():
    functions = {bytes.fromhex(load(path)["request"]["pdu"])[0] for path in FRAMES if path.parent.name == "modbus"}
    assert functions == set(frame.Function)

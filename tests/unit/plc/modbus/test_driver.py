"""The driver's plan, its writes, and how it hunts holes; a device is a function from addresses to yes or no."""

from __future__ import annotations

import pytest

from bifrost._native import records
from bifrost.core.config_sections import DeviceConfig
from bifrost.core.contracts import Failure, Write
from bifrost.core.datatypes import ByteOrder
from bifrost.core.device_url import parse_url
from bifrost.core.errors import AddressError, ConfigError
from bifrost.core.tag import Tag
from bifrost.plc.modbus import frame
from bifrost.plc.modbus.address import Table, parse_range
from bifrost.plc.modbus.driver import ModbusDriver


def make_driver(url: str = "modbus-tcp://10.0.0.5:5020?unit=7", **settings: object) -> ModbusDriver:
    return ModbusDriver(DeviceConfig(name="boiler", url=parse_url(url), **settings))  # type: ignore[arg-type]  # any key of the section


def tags_at(*addresses: str | int, **settings: object) -> list[Tag]:
    return [
        Tag(f"t{index}", address, device="boiler", **settings)  # type: ignore[arg-type]  # any key of the section
        for index, address in enumerate(addresses)
    ]


def labels(driver: ModbusDriver, tags: list[Tag]) -> list[str]:
    return [request.label for request in driver.plan(tags, range(len(tags)))]


def test_link_and_port_come_from_the_url():
    assert make_driver().link_key == "modbus-tcp://10.0.0.5:5020"
    assert make_driver("modbus-tcp://plc").link_key == "modbus-tcp://plc:502"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("modbus-tcp://plc?untit=1", "unknown key 'untit'.*did you mean 'unit'"),
        ("modbus-tcp://plc?unit=256", "unit must be 0 to 255, not '256'"),
        ("modbus-tcp://plc/path", "must be modbus-tcp://HOST:PORT"),
    ],
)
def test_a_url_that_modbus_does_not_understand_is_refused(url, message):
    with pytest.raises(ConfigError, match=message):
        make_driver(url)


def test_neighbours_share_a_read_and_tables_do_not():
    tags = tags_at("hr:0", "hr:1", "ir:0", "co:3", "hr:200", "2!hr:0")
    assert labels(make_driver(), tags) == ["2!hr:0-0", "7!co:3-3", "7!hr:0-1", "7!hr:200-200", "7!ir:0-0"]


def test_tags_with_other_periods_are_read_apart():
    tags = [Tag("fast", "hr:0", scan_ns=10**7), Tag("slow", "hr:1")]
    periods = {request.label: request.period_ns for request in make_driver().plan(tags, [0, 1])}
    assert periods == {"7!hr:0-0": 10**7, "7!hr:1-1": 10**9}


def test_thousand_contiguous_registers_take_eight_reads():
    assert len(labels(make_driver(), tags_at(*(f"hr:{at}" for at in range(1000))))) == 8


def test_request_and_expected_answer_are_those_of_the_standard():
    (request,) = make_driver().plan(tags_at("hr:107", "hr:109"), [0, 1])
    assert request.request.hex() == "00000000000607" + "03006b0003"  # AP V1.1b3, 6.3: the worked example.
    exchange = request.exchange
    answer = bytes.fromhex("0000000000090703" + "06022b00000064")
    assert len(answer) == exchange.answer_length
    assert answer[exchange.expect_offset :].startswith(exchange.expect)
    refused = bytes.fromhex("000000000003078302")
    assert len(refused) == exchange.error_length
    assert refused[exchange.error_expect_offset :].startswith(exchange.error_expect)
    assert refused[exchange.error_code_offset] == 2


_BODY = bytes.fromhex("1234567841200000c00081a2")


@pytest.mark.parametrize(
    ("address", "order", "value"),
    [
        ("hr:0", "ABCD", 0x1234),
        ("hr:0", "BADC", 0x3412),
        ("hr:0:uint32", "CDAB", 0x56781234),
        ("hr:0.2", "ABCD", 1),
        ("hr:0.3", "ABCD", 0),
        ("hr:0.9", "ABCD", 1),
        ("hr:0.9", "BADC", 0),
        ("hr:0.10", "BADC", 1),
        ("hr:0:int8", "ABCD", 0x34),
        ("hr:0:int8", "BADC", 0x12),
        ("hr:0:bcd16", "ABCD", 1234),
        ("hr:4:int16", "ABCD", (1 << 64) - 0x4000),
        ("hr:5:uint8", "ABCD", 0xA2),
    ],
)
def test_values_are_found_where_they_are(backend, address, order, value):
    tags = [Tag("x", address, byte_order=ByteOrder(order))]
    (request,) = make_driver().plan(tags, [0])
    first = parse_range(request.label).first
    status, values, statuses, _ = backend.gather(_BODY[2 * first :], records.WALK_NONE, request.decodes, 64)
    assert (status, statuses[0], values[0]) == (records.OK, records.GOOD, value)


def test_coils_are_found_by_their_bit(backend):
    tags = tags_at("co:10", "co:19", "co:20:bool[3]")
    (request,) = make_driver().plan(tags, [0, 1, 2])
    _, values, _, cells = backend.gather(b"\x01\x0e", records.WALK_NONE, request.decodes, 64)
    assert (values[0], values[1], list(cells)) == (1, 1, [1, 1, 0])


@pytest.mark.parametrize(
    ("address", "settings", "message"),
    [
        ("hr:0:string[300]", {}, "takes 150 holding registers, but one read takes at most 125"),
        ("hr:0:float64", {"read_registers_max": 3}, "at most 3"),
        ("hr:105", {"forbidden": ("hr:100-120",)}, "lies in 'hr:100-120'"),
        ("hr:x", {}, "not understood"),
    ],
)
def test_a_tag_that_cannot_be_read_is_refused_by_name(address, settings, message):
    with pytest.raises(AddressError, match=f"tag 'boiler.t0': .*{message}"):
        make_driver(**settings).plan(tags_at(address), [0])


def test_a_forbidden_range_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"device.boiler.forbidden.*ends before"):
        make_driver(forbidden=("hr:9-3",))


def hunt(driver: ModbusDriver, tags: list[Tag], refused: set[int]) -> int:
    """Polls a device that refuses the registers `refused` until nothing changes any more; gives the number of plans."""
    plans = 0
    while True:
        plans += 1
        assert plans < 100
        learned = False
        for request in driver.plan(tags, range(len(tags))):
            read = parse_range(request.label)
            if refused.isdisjoint(range(read.first, read.last + 1)):
                continue
            learned |= driver.explain(Failure(request, frame.ExceptionCode.ILLEGAL_DATA_ADDRESS, b""))
        if not learned:
            return plans


def test_a_hole_between_tags_is_found_and_only_it_is_avoided():
    driver = make_driver()
    tags = tags_at(*(f"hr:{at}" for at in range(0, 50, 2)))
    hunt(driver, tags, {21})
    assert driver.learned == {"holes": ["7!hr:21-21"]}
    assert labels(driver, tags) == ["7!hr:0-20", "7!hr:22-48"]


def test_a_tag_the_device_refuses_is_read_alone():
    driver = make_driver()
    tags = tags_at(*(f"hr:{at}" for at in range(100)))
    plans = hunt(driver, tags, {37})
    assert labels(driver, tags) == ["7!hr:0-36", "7!hr:37-37", "7!hr:38-99"]
    assert plans <= 10
    holds = [request.exchange.hold_code for request in driver.plan(tags, range(100))]
    assert holds == [2, 0, 2]


def test_many_holes_are_all_found():
    driver = make_driver()
    tags = tags_at(*(f"hr:{at}" for at in range(60)))
    hunt(driver, tags, {3, 4, 30, 59})
    alone = {label for label in labels(driver, tags) if label.split("-")[0].split(":")[1] == label.split("-")[1]}
    assert alone == {"7!hr:3-3", "7!hr:4-4", "7!hr:30-30", "7!hr:59-59"}


def test_what_was_learned_survives_a_restart():
    driver = make_driver()
    driver.remember({"holes": ["7!hr:21-21", "nonsense"]})
    assert driver.learned == {"holes": ["7!hr:21-21"]}
    assert labels(driver, tags_at("hr:20", "hr:22")) == ["7!hr:20-20", "7!hr:22-22"]


def test_other_refusals_teach_nothing():
    driver = make_driver()
    (request,) = driver.plan(tags_at("hr:0", "hr:1"), [0, 1])
    assert not driver.explain(Failure(request, frame.ExceptionCode.SERVER_DEVICE_BUSY, b""))


@pytest.mark.parametrize(
    ("address", "datatype", "value", "pdu"),
    [
        ("co:172", None, True, "0500acff00"),  # AP V1.1b3, 6.5
        ("co:172", None, False, "0500ac0000"),
        ("hr:1", None, 3, "0600010003"),  # 6.6
        ("co:19", "bool[10]", [b == "1" for b in "1011001110"], "0f0013000a02cd01"),  # 6.11
        ("hr:1", "uint16[2]", [0x000A, 0x0102], "1000010002" + "04000a0102"),  # 6.12
        ("hr:4.1", None, True, "160004fffd0002"),
        ("hr:4.9", None, False, "160004fdff0000"),
        ("hr:4", "int8", -1, "160004ff0000ff"),
        ("hr:4", "float32", 1.5, "1000040002043fc00000"),
    ],
)
def test_writes_use_the_function_the_standard_has_for_them(address, datatype, value, pdu):
    tag = Tag("x", address, datatype, device="boiler", writable=True)
    oneshot = make_driver().compile_write(Write(tag, value))
    assert oneshot.request[6:].hex() == "07" + pdu
    echo = oneshot.exchange.expect[5:].hex()
    assert pdu.startswith(echo) or echo == pdu


@pytest.mark.parametrize(
    ("address", "datatype", "message"),
    [
        ("ir:0", None, "an input register cannot be written|input register cannot be written"),
        ("di:0", None, "discrete input cannot be written"),
        ("hr:0.1", "bool[3]", "array of bits"),
        ("hr:0", "int8[3]", "half a register"),
        ("hr:0", "string[248]", "takes 124 registers"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused(address, datatype, message):
    values = {"bool[3]": [True] * 3, "int8[3]": [1] * 3, "string[248]": "x"}
    with pytest.raises(AddressError, match=message):
        make_driver().compile_write(Write(Tag("x", address, datatype), values.get(datatype, 1)))


def test_status_of_a_refused_write_says_out_of_range():
    assert make_driver().write_status(3) == 0x803C0000
    assert make_driver().codes[3] == 0x80890000


def test_tables_have_their_functions():
    assert set(frame.READ_FUNCTIONS) == set(Table)

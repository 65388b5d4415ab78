"""The survey against devices that are a set of items: what is there is found, with few requests, and what is barred is never asked for."""

import pytest

from bifrost.plc.modbus.address import AddressRange, Table, parse_range
from bifrost.plc.modbus.frame import Answer
from bifrost.plc.modbus.survey import Survey, survey_device


class Device:
    """Registers that are there, with their own number as value; answers as the standard says."""

    def __init__(self, *there, longest=125, code=2):
        self.there = {offset for run in there for offset in run}
        self.longest, self.code = longest, code
        self.asked = []

    def answer(self, request):
        self.asked.append(range(request.offset, request.offset + request.count))
        if request.count > self.longest:
            return Answer(3, b"")
        if not self.there.issuperset(self.asked[-1]):
            return Answer(self.code, b"")
        return Answer(0, b"".join(offset.to_bytes(2) for offset in self.asked[-1]))


def look(device, wanted="hr:0-999", forbidden=(), step=10, requests_max=1000):
    survey = Survey()
    ranges = [parse_range(text) for text in wanted.split()]
    barred = [parse_range(text) for text in forbidden]
    asking = survey_device(ranges, barred, step=step, requests_max=requests_max, survey=survey)
    answer = None
    while True:
        try:
            answer = device.answer(asking.send(answer) if survey.requests else next(asking))
        except StopIteration:
            return survey


def areas(survey):
    return [str(area.range) for area in survey.areas]


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ([range(1000)], ["hr:0-999"]),
        ([range(64)], ["hr:0-63"]),
        ([range(1)], ["hr:0-0"]),
        ([range(100, 137)], ["hr:100-136"]),
        ([range(97, 131), range(400, 402)], ["hr:97-130", "hr:400-401"]),
        ([range(4), range(6, 64)], ["hr:0-3", "hr:6-63"]),
        ([range(995, 1000)], []),
        ([range(989, 1000)], ["hr:989-999"]),
        ([], []),
    ],
)
def test_ranges_are_found_to_the_register(there, found):
    device = Device(*there)
    survey = look(device)
    assert areas(survey) == found
    assert all(area.values == list(range(area.first, area.first + len(area.values))) for area in survey.areas)
    assert survey.requests == len(device.asked) < 150


def test_a_step_of_one_finds_what_lies_between():
    assert areas(look(Device(range(995, 999)), step=1, requests_max=2000)) == ["hr:995-998"]


def test_a_whole_table_takes_as_many_requests_as_it_has_blocks():
    assert look(Device(range(1000))).requests == 8


def test_forbidden_ranges_are_never_asked_for():
    device = Device(range(1000))
    survey = look(device, forbidden=["hr:100-120", "hr:500"])
    assert areas(survey) == ["hr:0-99", "hr:121-499", "hr:501-999"]
    assert not any(set(asked) & {*range(100, 121), 500} for asked in device.asked)


def test_forbidden_ranges_are_not_asked_for_on_the_way_back_either():
    device = Device(range(105, 200))
    survey = look(device, forbidden=["hr:103-107"])
    assert not any(set(asked) & set(range(103, 108)) for asked in device.asked)
    assert areas(survey) == ["hr:108-199"]


def test_shorter_reads_for_a_device_that_takes_no_longer_ones():
    assert areas(look(Device(range(200), longest=32))) == ["hr:0-199"]


def test_a_table_that_the_device_does_not_know_is_asked_for_once():
    device = Device(code=1)
    survey = look(device, "hr:0-999 ir:0-999")
    assert survey.refused == {Table.HOLDING_REGISTER: 1, Table.INPUT_REGISTER: 1}
    assert survey.requests == 2


def test_requests_are_bounded_and_the_rest_is_named():
    survey = look(Device(), "hr:0-999 ir:0-99", requests_max=12)
    assert survey.requests == 12
    assert survey.unseen == [AddressRange(Table.HOLDING_REGISTER, 110, 999), AddressRange(Table.INPUT_REGISTER, 0, 99)]


def test_a_silent_device_is_left_alone():
    class Silent(Device):
        def answer(self, request):
            self.asked.append(request)

    survey = look(Silent())
    assert survey.is_silent
    assert survey.requests == 2
    assert [str(one) for one in survey.unseen] == ["hr:0-999"]


def test_the_last_item_of_a_table_can_be_looked_at():
    assert areas(look(Device(range(65_530, 65_536)), "hr:65000-65535")) == ["hr:65530-65535"]

"""The write queue: every refusal, one write at a time per device, time-outs, and that nothing is sent unless it is in the audit log."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from bifrost.core.datatypes import DataType, TypeSpec
from bifrost.core.errors import AddressError, ConnectError, DeviceError, NoAnswerError, ProtocolError, StorageError
from bifrost.core.status import StatusCode
from bifrost.core.writes import WriteQueue, WriteTarget

_S = 1_000_000_000
_FAR = 1_000 * _S
_UINT16 = TypeSpec(DataType.UINT16)
_TARGETS = {
    0: WriteTarget("boiler.setpoint", "boiler", _UINT16, True, scale=0.1, range=(0, 150), old=20.0),
    1: WriteTarget("boiler.measured", "boiler", _UINT16, False),
    2: WriteTarget("pump.speed", "pump", _UINT16, True),
    3: WriteTarget("boiler.mode", "boiler", _UINT16, True),
}


class Plant:
    """Devices that answer when a test says so, and an audit log that is a list."""

    def __init__(self, *, is_enabled=True, count_max=4):
        self.now_ns = 0
        self.records = []
        self.sent = []
        self.answers = {}
        self.disk_is_full = False
        self.queue = WriteQueue(
            is_enabled=is_enabled,
            count_max=count_max,
            target_of=_TARGETS.get,
            deliver=self.deliver,
            audit=self.audit,
            now_ns=lambda: self.now_ns,
        )

    async def deliver(self, tag_id, value):
        self.sent.append((tag_id, value))
        answer = self.answers.get(tag_id, StatusCode.Good)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return StatusCode.Good
        return answer

    def audit(self, event, who, *, durable=True, **details):
        if self.disk_is_full:
            raise StorageError("full")
        self.records.append((event, details.get("tag"), details.get("result")))

    def write(self, tag_id, value=1, deadline_ns=_FAR):
        return self.queue.accept(tag_id, value, "test", deadline_ns)


@asynccontextmanager
async def running(plant):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(plant.queue.run(), name="writes")
        yield
        task.cancel()


async def settled():
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_write_that_still_waits_can_be_taken_back_and_one_under_way_cannot():
    async def scenario():
        plant = Plant()
        plant.answers[0] = gate = asyncio.Event()
        async with running(plant):
            sent, waits = plant.write(0, 25.0), plant.write(3)
            await settled()
            assert not plant.queue.withdraw(sent, StatusCode.BadSessionClosed)
            assert plant.queue.withdraw(waits, StatusCode.BadSessionClosed)
            assert not plant.queue.withdraw(waits, StatusCode.BadSessionClosed)
            assert (await waits, plant.queue.count) == (StatusCode.BadSessionClosed, 1)
            gate.set()
            assert await sent == StatusCode.Good
        assert plant.sent == [(0, 25.0)]
        assert ("write_refused", "boiler.mode", "BadSessionClosed") in plant.records

    asyncio.run(scenario())


def test_a_write_reaches_the_device_and_brings_back_its_answer():
    async def scenario():
        plant = Plant()
        plant.answers[2] = StatusCode.BadDeviceFailure
        async with running(plant):
            assert await plant.write(0, 25.0) == StatusCode.Good
            assert await plant.write(2, 7) == StatusCode.BadDeviceFailure
        assert plant.sent == [(0, 25.0), (2, 7)]
        assert plant.records == [
            ("write_sent", "boiler.setpoint", None),
            ("write_done", "boiler.setpoint", "Good"),
            ("write_sent", "pump.speed", None),
            ("write_done", "pump.speed", "BadDeviceFailure"),
        ]
        assert (plant.queue.count, plant.queue.sent_count) == (0, 2)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("tag_id", "value", "deadline_ns", "status"),
    [
        (9, 1, _FAR, StatusCode.BadNodeIdUnknown),
        (1, 1, _FAR, StatusCode.BadNotWritable),
        (0, "hot", _FAR, StatusCode.BadTypeMismatch),
        (0, 151, _FAR, StatusCode.BadOutOfRange),
        (2, 70_000, _FAR, StatusCode.BadOutOfRange),
        (2, 1, 0, StatusCode.BadTimeout),
    ],
)
def test_what_cannot_be_is_refused_at_once_and_noted(tag_id, value, deadline_ns, status):
    async def scenario():
        plant = Plant()
        assert plant.write(tag_id, value, deadline_ns).result() == status
        assert plant.records[0][0] == "write_refused"
        assert (plant.sent, plant.queue.count, plant.queue.refused_count) == ([], 0, 1)

    asyncio.run(scenario())


def test_nothing_is_written_while_the_master_switch_is_off():
    async def scenario():
        plant = Plant(is_enabled=False)
        assert plant.write(0).result() == StatusCode.BadNotWritable

    asyncio.run(scenario())


def test_a_full_queue_refuses():
    async def scenario():
        plant = Plant(count_max=2)
        waiting = [plant.write(0), plant.write(2)]
        assert plant.write(3).result() == StatusCode.BadTooManyOperations
        async with running(plant):
            assert [await result for result in waiting] == [StatusCode.Good, StatusCode.Good]
            assert await plant.write(3) == StatusCode.Good

    asyncio.run(scenario())


def test_a_device_gets_one_write_at_a_time_in_order_and_delays_no_other():
    async def scenario():
        plant = Plant()
        plant.answers[0] = gate = asyncio.Event()
        async with running(plant):
            first, second, other = plant.write(0), plant.write(3), plant.write(2)
            assert await other == StatusCode.Good
            assert plant.sent == [(0, 1), (2, 1)]
            gate.set()
            assert (await first, await second) == (StatusCode.Good, StatusCode.Good)
            assert plant.sent[2] == (3, 1)

    asyncio.run(scenario())


def test_deadlines_hold_under_way_and_while_waiting():
    async def scenario():
        plant = Plant()
        plant.answers[0] = asyncio.Event()
        async with running(plant):
            slow = plant.write(0, deadline_ns=_S // 50)
            waiting = plant.write(3, deadline_ns=_S // 100)
            assert await waiting == StatusCode.BadTimeout
            assert await slow == StatusCode.BadTimeout
            assert await plant.write(3) == StatusCode.Good
        assert plant.sent == [(0, 1), (3, 1)]
        assert ("write_refused", "boiler.mode", "BadTimeout") in plant.records
        assert ("write_done", "boiler.setpoint", "BadTimeout") in plant.records
        assert plant.queue.count == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoAnswerError("late"), StatusCode.BadTimeout),
        (DeviceError(StatusCode.BadOutOfRange, "exception 3"), StatusCode.BadOutOfRange),
        (ConnectError("refused"), StatusCode.BadCommunicationError),
        (ProtocolError("torn"), StatusCode.BadCommunicationError),
        (AddressError("an input cannot be written"), StatusCode.BadNotWritable),
        (ValueError("does not fit"), StatusCode.BadOutOfRange),
    ],
)
def test_errors_of_the_driver_become_status_codes(error, status):
    async def scenario():
        plant = Plant()
        plant.answers[2] = error
        async with running(plant):
            assert await plant.write(2) == status

    asyncio.run(scenario())


def test_nothing_is_sent_that_is_not_in_the_audit_log():
    async def scenario():
        plant = Plant()
        plant.disk_is_full = True
        async with running(plant):
            assert await plant.write(0) == StatusCode.BadResourceUnavailable
            assert plant.write(1).result() == StatusCode.BadNotWritable
        assert (plant.sent, plant.queue.audit_failures_count) == ([], 2)

    asyncio.run(scenario())


def test_who_gave_up_waiting_is_not_served():
    async def scenario():
        plant = Plant()
        plant.answers[0] = gate = asyncio.Event()
        async with running(plant):
            first, second = plant.write(0), plant.write(3)
            await settled()
            second.cancel()
            first.cancel()
            gate.set()
            assert await plant.write(2) == StatusCode.Good
            await settled()
        assert [tag_id for tag_id, _ in plant.sent] == [0, 2]
        assert plant.queue.count == 0

    asyncio.run(scenario())


def test_stopping_refuses_what_waits():
    async def scenario():
        plant = Plant()
        plant.answers[0] = asyncio.Event()
        async with running(plant):
            under_way, waiting, cancelled = plant.write(0), plant.write(3), plant.write(3)
            await settled()
            cancelled.cancel()
        assert under_way.result() == StatusCode.BadInternalError
        assert waiting.result() == StatusCode.BadResourceUnavailable
        assert plant.queue.count == 0
        assert ("write_done", "boiler.setpoint", "BadCommunicationError") in plant.records

    asyncio.run(scenario())


def test_a_bug_in_a_driver_ends_the_run_and_leaves_nobody_waiting():
    async def scenario():
        plant = Plant()
        plant.answers[2] = RuntimeError("bug")
        result = plant.write(2)
        with pytest.raises(ExceptionGroup):
            await plant.queue.run()
        assert result.result() == StatusCode.BadInternalError
        async with running(plant):
            assert await plant.write(0) == StatusCode.Good

    asyncio.run(scenario())

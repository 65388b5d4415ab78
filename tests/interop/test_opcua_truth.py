"""What a SCADA sees when the plant is killed, hangs, says no, and comes back: which qualities, in which order, with which times.

A foreign plant (pymodbus), the whole gateway and a foreign client (asyncua), each in its own process. The client subscribes to everything
that changes, and the sequence must be exact: nothing more, nothing less. `stale` is longer than a period and a time-out together, so that
no moment is left to chance. Docs: reference/quality.md.
"""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest

from tests.interop.opcua_bench import Follower, client, compiled_only, node, run, until
from tests.interop.test_gateway_process import Plant, wait_for
from tests.interop.test_opcua_gateway import OpcUaGateway

pytestmark = [pytest.mark.interop, compiled_only]

GOOD, UNCERTAIN, NO_COMMUNICATION, CONFIGURATION = 0, 0x408F0000, 0x80310000, 0x80890000
DEVICE_FAILURE = 0x808B0000
STALE = timedelta(seconds=2)  # period 50 ms, time-out 500 ms
TAG = "plant.first"


@pytest.fixture
def plant():
    made = Plant()
    made.start()
    yield made
    made.kill()


@pytest.fixture
def gateway(tmp_path, plant):
    made = OpcUaGateway(tmp_path, plant.port)
    made.config.write_text(made.config.read_text().replace('stale = "1 s"', 'stale = "2 s"'))
    try:
        made.start()
        wait_for(lambda: made.quality(TAG) == "Good", made.log)
        wait_for(lambda: made.quality("plant.outside") == "BadConfigurationError", made.log)
        wait_for(lambda: bool(made.url), made.log)
        yield made
    finally:
        made.kill()


class Scada(Follower):
    """Everything that came of each tag, in order."""

    def codes(self, name=TAG):
        return [0 if one.StatusCode is None else one.StatusCode.value for one in self.values.get(name, [])]

    async def until(self, *codes):
        """Waits for these qualities of the tag, in this order and no others."""
        await until(lambda: len(self.codes()) >= len(codes))
        assert self.codes() == list(codes)


def watch(gateway, scenario):
    """Runs `scenario(scada, connected)` with a subscription on all that it may ask about."""

    async def work():
        async with client(gateway.url, None) as connected:
            scada = Scada()
            subscription = await connected.create_subscription(50, scada)
            names = [TAG, "plant#Connected", "plant.outside"]
            await subscription.subscribe_data_change([node(connected, name) for name in names], queuesize=100)
            await scada.until(GOOD)
            await scenario(scada, connected)
            await until(lambda: scada.codes("plant.outside")[-1] == CONFIGURATION)  # wrong by itself, not by the plant

    run(work())


def is_as_lost(values, lost_at):
    """Good, uncertain, bad: the last value and its own time go on, until nobody should use it any more."""
    good, uncertain, bad = values[-3:]
    assert (good.Value.Value, uncertain.Value.Value, bad.Value.Value) == (1000, 1000, None)
    assert good.SourceTimestamp <= uncertain.SourceTimestamp <= lost_at  # that of the last answer, not of its loss
    assert bad.SourceTimestamp == uncertain.SourceTimestamp
    assert uncertain.ServerTimestamp < bad.ServerTimestamp
    assert bad.ServerTimestamp - bad.SourceTimestamp >= STALE


def is_as_back(values, back_at):
    assert values[-1].Value.Value == 1000
    assert values[-1].SourceTimestamp >= back_at


def now():
    return datetime.now(UTC)


def test_plant_that_is_killed_and_started_again(gateway, plant):
    async def scenario(scada, connected):
        plant.kill()
        killed_at = now()
        await scada.until(GOOD, UNCERTAIN, NO_COMMUNICATION)
        is_as_lost(scada.values[TAG], killed_at)
        await until(lambda: scada.values["plant#Connected"][-1].Value.Value is False)
        assert await node(connected, "plant#State").read_value() == "not connected"
        assert await node(connected, "plant#LastError").read_value() != ""
        started_at = now()
        plant.start()
        await scada.until(GOOD, UNCERTAIN, NO_COMMUNICATION, GOOD)
        is_as_back(scada.values[TAG], started_at)
        await until(lambda: scada.values["plant#Connected"][-1].Value.Value is True)

    watch(gateway, scenario)


def test_plant_that_is_started_again_before_its_values_are_stale(gateway, plant):
    async def scenario(scada, connected):
        plant.kill()
        await scada.until(GOOD, UNCERTAIN)
        plant.start()
        await until(lambda: scada.codes()[-1] == GOOD)
        back = [GOOD, UNCERTAIN, GOOD]
        assert scada.codes() in (
            back,
            [GOOD, UNCERTAIN, NO_COMMUNICATION, GOOD],
        )  # a process may start slower than values age

    watch(gateway, scenario)


def test_plant_that_hangs_and_goes_on(gateway, plant):
    async def scenario(scada, connected):
        os.kill(plant.process.pid, signal.SIGSTOP)
        stopped_at = now()
        try:
            await scada.until(GOOD, UNCERTAIN, NO_COMMUNICATION)
            is_as_lost(scada.values[TAG], stopped_at)
        finally:
            continued_at = now()
            os.kill(plant.process.pid, signal.SIGCONT)
        await scada.until(GOOD, UNCERTAIN, NO_COMMUNICATION, GOOD)
        is_as_back(scada.values[TAG], continued_at)

    watch(gateway, scenario)


def test_plant_that_returns_errors_and_recovers(gateway, plant):
    """A device that answers is not lost: its own word is the quality, at once and for as long as it says so."""

    async def scenario(scada, _):
        os.kill(plant.process.pid, signal.SIGUSR1)
        failed_at = now()
        await scada.until(GOOD, DEVICE_FAILURE)
        await asyncio.sleep(1.5 * STALE.total_seconds())  # it does not become anything else by itself
        recovered_at = now()
        os.kill(plant.process.pid, signal.SIGUSR2)
        await scada.until(GOOD, DEVICE_FAILURE, GOOD)
        good, bad, _ = scada.values[TAG]
        assert bad.Value.Value is None
        assert good.SourceTimestamp <= bad.SourceTimestamp
        assert bad.ServerTimestamp >= failed_at
        is_as_back(scada.values[TAG], recovered_at)
        connected = [one.Value.Value for one in scada.values["plant#Connected"]]
        assert connected in ([True], [False, True])  # the client may have come before it was told

    watch(gateway, scenario)


def test_plant_that_hangs_after_it_returned_errors(gateway, plant):
    """What was never good again does not become uncertain: no value of it is usable."""

    async def scenario(scada, connected):
        os.kill(plant.process.pid, signal.SIGUSR1)
        await scada.until(GOOD, DEVICE_FAILURE)
        os.kill(plant.process.pid, signal.SIGSTOP)
        try:
            await scada.until(GOOD, DEVICE_FAILURE, NO_COMMUNICATION)
        finally:
            os.kill(plant.process.pid, signal.SIGUSR2)
            os.kill(plant.process.pid, signal.SIGCONT)
        await scada.until(GOOD, DEVICE_FAILURE, NO_COMMUNICATION, GOOD)

    watch(gateway, scenario)

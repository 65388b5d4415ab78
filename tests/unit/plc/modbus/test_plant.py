"""The plant: its signals move, stay believable, and depend on nothing but seed, time and set points."""

from __future__ import annotations

from bifrost.plc.modbus.plant import TICK_NS, AnalyserState, Plant

SECOND = 1_000_000_000


def test_same_seed_and_times_give_the_same_signals_however_often_it_is_stepped():
    often, seldom, other = Plant(7), Plant(7), Plant(8)
    for now in range(0, 30 * SECOND + 1, TICK_NS // 3):
        often.step(now)
    for plant in (often, seldom, other):
        plant.step(0) if plant is not often else None
        plant.step(30 * SECOND)
    assert often.signals() == seldom.signals()
    assert often.signals() != other.signals()
    assert often.ticks_count == 300


def test_an_hour_stays_believable():
    plant = Plant(3)
    states, levels, running, energies = set(), [], set(), []
    for second in range(3600):
        plant.step(second * SECOND)
        signals = plant.signals()
        states.add(plant.analyser)
        levels.append(signals["station.tank.level"])
        running.add(signals["station.pump.running"])
        energies.append(signals["meter.energy_exact"])
        assert 0 <= signals["station.pump.speed"] <= 50
        assert 0 <= signals["station.pump.flow"] <= 30
        assert 0 <= signals["station.pump.current"] <= 12
        assert 10 <= signals["station.tank.temperature"] <= 25
        assert 220 <= signals["meter.voltage_l1"] <= 240
        assert signals["meter.power"] > 1
        assert 0 <= signals["analyser.turbidity"] <= 10
    assert 25 < min(levels[60:]) < 35
    assert 80 < max(levels) < 90
    assert running == {True, False}
    assert states == set(AnalyserState)
    assert energies == sorted(energies)


def test_set_points_have_effect():
    plant = Plant(1)
    plant.step(0)
    plant.automatic, plant.run, plant.speed_setpoint_hz, plant.valve_percent = False, True, 25.0, 0.0
    plant.step(20 * SECOND)
    signals = plant.signals()
    assert abs(signals["station.pump.speed"] - 25) < 0.1
    assert signals["station.pump.at_speed"]
    assert signals["station.tank.outflow"] == 0
    plant.step(80 * SECOND)
    assert plant.signals()["station.tank.level"] == 100
    assert plant.signals()["station.tank.high"]


def test_plant_that_nobody_stepped_skips_ahead():
    plant = Plant(1)
    plant.step(0)
    assert plant.step(3600 * SECOND) == 600
    assert plant.step(3600 * SECOND) == 0
    assert plant.step(3601 * SECOND) == 10
    assert plant.step(0) == 0

"""A believable little plant, without registers: a pump fills a tank, a meter measures power, an analyser fails.

Pure and repeatable: the plant advances on a grid of 100 ms from its first step, and every draw comes from the seed, so
the same seed, times and set points give the same values, however often `step` is called in between. In automatic mode
the pump starts at 30 % level and stops at 85 %, so that the signals move for ever without anyone touching them.
"""

from __future__ import annotations

import math
import random
from enum import StrEnum
from typing import Final

__all__ = ["TICK_NS", "AnalyserState", "Plant", "Signal"]

Signal = bool | int | float | str | tuple[float, ...]

TICK_NS: Final = 100_000_000
_TICK_S: Final = TICK_NS / 1e9
_TICKS_PER_STEP_MAX: Final = 600  # A plant that nobody stepped for longer than a minute skips the rest.
_TANK_M3: Final = 0.2
_FLOW_FULL_M3_H: Final = 24.0
_OUTFLOW_FULL_M3_H: Final = 30.0
_LEVEL_START: Final = 30.0
_LEVEL_STOP: Final = 85.0
_INLET_C: Final = 14.0
_AMBIENT_C: Final = 21.0
_BASE_LOAD_KW: Final = 1.5
_ANALYSER_WORKS_TICKS: Final = (200, 400)  # 20 s to 40 s between failures ...
_ANALYSER_FAILS_TICKS: Final = (30, 60)  # ... of 3 s to 6 s.


class AnalyserState(StrEnum):
    """What the analyser is doing."""

    WORKING = "working"
    FAILED = "failed"
    """It answers every request with a device failure."""
    SILENT = "silent"
    """It does not answer."""


class Plant:
    """The plant. `run`, `automatic`, `speed_setpoint_hz` (0 to 50) and `valve_percent` (0 to 100) are set from outside.

    Args:
        seed: What noise and failures are drawn from.
    """

    def __init__(self, seed: int = 1) -> None:
        self.run = False
        self.automatic = True
        self.speed_setpoint_hz = 45.0
        self.valve_percent = 40.0
        self.analyser = AnalyserState.WORKING
        self.ticks_count = 0
        self._random = random.Random(seed)
        self._origin_ns: int | None = None
        self._speed_hz = 0.0
        self._flow_m3_h = 0.0
        self._outflow_m3_h = 0.0
        self._current_a = 0.0
        self._level_percent = 42.0
        self._temperature_c = 18.0
        self._starts = 118
        self._run_time_s = 2_140_533.0
        self._high = False
        self._power_kw = _BASE_LOAD_KW
        self._energy_kwh = 48_213.75
        self._turbidity_ntu = 0.8
        self._analyser_ticks = self._random.randint(*_ANALYSER_WORKS_TICKS)
        self._fails_silently = False

    def step(self, now_ns: int) -> int:
        """Advances to `now_ns` of any monotonic clock; gives the number of ticks done. The first call begins time."""
        if self._origin_ns is None:
            self._origin_ns = now_ns
        due = (now_ns - self._origin_ns) // TICK_NS - self.ticks_count
        if due > _TICKS_PER_STEP_MAX:
            self._origin_ns += (due - _TICKS_PER_STEP_MAX) * TICK_NS
            due = _TICKS_PER_STEP_MAX
        for _ in range(due):
            self._tick()
        return max(due, 0)

    def signals(self) -> dict[str, Signal]:
        """Every measured value and state by full tag name, in engineering units."""
        return self._station_signals() | self._meter_signals() | self._analyser_signals()

    def _tick(self) -> None:
        self.ticks_count += 1
        self._tick_pump()
        self._tick_tank()
        self._power_kw = _BASE_LOAD_KW + math.sqrt(3) * 400.0 * self._current_a * 0.85 / 1000.0 + self._noise(0.02)
        self._energy_kwh += self._power_kw * _TICK_S / 3600.0
        self._tick_analyser()

    def _tick_pump(self) -> None:
        was_running = self.run
        if self.automatic and self._level_percent <= _LEVEL_START:
            self.run = True
        elif self.automatic and self._level_percent >= _LEVEL_STOP:
            self.run = False
        self._starts += self.run and not was_running
        target_hz = self.speed_setpoint_hz if self.run else 0.0
        self._speed_hz += (target_hz - self._speed_hz) * _TICK_S / 1.5
        load = self._speed_hz / 50.0
        is_turning = self._speed_hz > 0.5
        self._flow_m3_h = max(0.0, _FLOW_FULL_M3_H * load + self._noise(0.1)) if is_turning else 0.0
        self._current_a = max(0.0, 2.1 + 7.4 * load**3 + self._noise(0.05)) if is_turning else 0.0
        self._run_time_s += _TICK_S * is_turning

    def _tick_tank(self) -> None:
        level = self._level_percent / 100.0
        self._outflow_m3_h = _OUTFLOW_FULL_M3_H * self.valve_percent / 100.0 * math.sqrt(level)
        change = (self._flow_m3_h - self._outflow_m3_h) / 3600.0 * _TICK_S / _TANK_M3 * 100.0
        self._level_percent = min(100.0, max(0.0, self._level_percent + change))
        self._high = self._level_percent > (80.0 if self._high else 83.0)
        mixing = self._flow_m3_h / 3600.0 * _TICK_S / _TANK_M3
        self._temperature_c += (_INLET_C - self._temperature_c) * mixing
        self._temperature_c += (_AMBIENT_C - self._temperature_c) * _TICK_S / 60.0

    def _tick_analyser(self) -> None:
        self._turbidity_ntu = max(0.05, self._turbidity_ntu + (0.8 - self._turbidity_ntu) * 0.01 + self._noise(0.02))
        self._analyser_ticks -= 1
        if self._analyser_ticks > 0:
            return
        if self.analyser is AnalyserState.WORKING:
            self.analyser = AnalyserState.SILENT if self._fails_silently else AnalyserState.FAILED
            self._fails_silently = not self._fails_silently
            self._analyser_ticks = self._random.randint(*_ANALYSER_FAILS_TICKS)
        else:
            self.analyser = AnalyserState.WORKING
            self._analyser_ticks = self._random.randint(*_ANALYSER_WORKS_TICKS)

    def _noise(self, size: float) -> float:
        return self._random.uniform(-size, size)

    def _station_signals(self) -> dict[str, Signal]:
        is_running = self._speed_hz > 0.5
        return {
            "station.pump.run": self.run,
            "station.pump.automatic": self.automatic,
            "station.pump.speed_setpoint": self.speed_setpoint_hz,
            "station.pump.running": is_running,
            "station.pump.speed": self._speed_hz,
            "station.pump.flow": self._flow_m3_h,
            "station.pump.current": self._current_a,
            "station.pump.pressure": 0.2 + 3.5 * (self._speed_hz / 50.0) ** 2,
            "station.pump.starts": self._starts,
            "station.pump.run_time": int(self._run_time_s),
            "station.pump.at_speed": is_running and abs(self._speed_hz - self.speed_setpoint_hz) < 1.0,
            "station.pump.overload": self._current_a > 9.0,
            "station.tank.valve": self.valve_percent,
            "station.tank.level": self._level_percent,
            "station.tank.temperature": self._temperature_c,
            "station.tank.outflow": self._outflow_m3_h,
            "station.tank.high": self._high,
            "station.tank.low": self._level_percent < 15.0,
        }

    def _meter_signals(self) -> dict[str, Signal]:
        sway = math.sin(self.ticks_count * _TICK_S / 30.0)
        phase_a = self._power_kw * 1000.0 / (3.0 * 230.0 * 0.92)
        return {
            "meter.voltage_l1": 230.4 + 1.5 * sway,
            "meter.voltage_l2": 229.8 - 1.2 * sway,
            "meter.voltage_l3": 231.1 + 0.7 * sway,
            "meter.currents": (phase_a * 1.02, phase_a, phase_a * 0.98),
            "meter.power": self._power_kw,
            "meter.reactive_power": int(self._power_kw * 426.0),
            "meter.power_factor": 0.92 + 0.01 * sway,
            "meter.frequency": 50.0 + 0.02 * math.sin(self.ticks_count * _TICK_S / 7.0),
            "meter.energy": self._energy_kwh,
            "meter.energy_exact": self._energy_kwh,
            "meter.energy_pulses": int(self._energy_kwh * 1000.0),
            "meter.tariff": 2 if self._level_percent > 50.0 else 1,
            "meter.serial_number": "BF-EM3-004711",
        }

    def _analyser_signals(self) -> dict[str, Signal]:
        return {
            "analyser.turbidity": self._turbidity_ntu,
            "analyser.ph": 7.2 + 0.05 * math.sin(self.ticks_count * _TICK_S / 45.0),
            "analyser.samples": self.ticks_count,
        }

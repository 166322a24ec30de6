"""Joules over a while: sensors of power are sampled and integrated, counters of energy are added up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import stdev
from typing import Protocol

from edgecap.errors import EnergyError


@dataclass(frozen=True)
class Measured:
    """What was seen of a while."""

    seconds: float
    joules: float
    error: float = 0.0  # J, one standard deviation of what lies between samples; the sensor's own error not in it

    @property
    def watts(self) -> float:
        """The mean power."""
        return self.joules / self.seconds


class Meter(Protocol):
    """Measures from ``start`` to ``stop``; both raise :class:`~edgecap.errors.EnergyError` when the source fails."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> Measured:
        """End, and tell."""


@dataclass(frozen=True)
class EnergySource:
    """A way to know joules on this machine."""

    method: str
    scope: str  # what spends them
    accuracy: float  # relative error of the sensor, by its maker or by what is known of it
    meter: Callable[[], Meter]


class _Polled:
    """Reads a sensor in a thread, every ``period`` seconds, and at both ends. A read that fails ends it."""

    def __init__(self, method: str, read: Callable[[], float], period: float) -> None:
        self._method, self._read, self._period = method, read, period
        self._readings: list[tuple[float, float]] = []  # (s, W or J)
        self._failure: OSError | ValueError | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def start(self) -> None:
        self._take()
        self._raise_failure()
        self._thread.start()

    def _stop(self) -> list[tuple[float, float]]:
        self._over.set()
        self._thread.join()
        if self._failure is None:
            self._take()
        self._raise_failure()
        return self._readings

    def _poll(self) -> None:
        while self._failure is None and not self._over.wait(self._period):
            self._take()

    def _take(self) -> None:
        try:
            value = self._read()
        except (OSError, ValueError) as error:
            self._failure = error
        else:
            self._readings.append((time.perf_counter(), value))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            seen = f" after {len(self._readings)} readings" if self._readings else ""
            raise EnergyError(f"{self._method}: cannot be read{seen}: {self._failure}") from self._failure


class PowerMeter(_Polled):
    """Integrates watts by the trapezoidal rule."""

    def stop(self) -> Measured:
        """The joules of the readings' integral."""
        readings = self._stop()
        joules = 0.0
        for (before, watts_before), (after, watts) in pairwise(readings):
            joules += (after - before) * (watts + watts_before) / 2
        seconds = readings[-1][0] - readings[0][0]
        watts_seen = [watts for _, watts in readings]
        spread = stdev(watts_seen) if len(watts_seen) > 2 else max(watts_seen)
        return Measured(seconds, joules, error=spread * seconds / len(readings) ** 0.5)


class CounterMeter(_Polled):
    """Adds up what a counter of joules advances, which begins again at 0 after ``wraps_at`` joules."""

    def __init__(self, method: str, read: Callable[[], float], period: float, wraps_at: float, step: float) -> None:
        super().__init__(method, read, period)
        self._wraps_at, self._step = wraps_at, step

    def stop(self) -> Measured:
        """The joules that the counter advanced."""
        readings = self._stop()
        joules = 0.0
        for (_, before), (_, after) in pairwise(readings):
            joules += after - before if after >= before else after - before + self._wraps_at
        return Measured(readings[-1][0] - readings[0][0], joules, error=self._step)

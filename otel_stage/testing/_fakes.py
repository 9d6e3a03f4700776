"""A clock that steps and ids that repeat: what makes files of a run the same byte for byte."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otel_stage.manifest import _events, parse_time

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.id_generator import IdGenerator


class StepClock:
    """A clock that moves on by a step each time it is read, and otherwise only when told to.

    Args:
        start: The first reading, RFC 3339.
        step: Seconds between two readings, at least a nanosecond.

    Example:
        >>> clock = StepClock("2025-11-27T06:50:00Z", step=0.5)
        >>> clock(), clock()
        (1764226200000000000, 1764226200500000000)
    """

    def __init__(self, start: str = "2025-11-27T06:50:00Z", step: float = 0.001) -> None:
        self._next = parse_time(start)
        self._step = max(1, round(step * 1e9))

    def __call__(self) -> int:
        """The time in nanoseconds since the epoch."""
        now = self._next
        self._next += self._step
        return now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._next += round(seconds * 1e9)

    @contextmanager
    def installed(self) -> Iterator[StepClock]:
        """While the block runs, events of this process take their time from this clock.

        Durations, resources and the lines of logs are measured as ever.
        """
        events: Any = _events
        real, last = events._time, events._last_ns
        events._time, events._last_ns = _Time(self), 0
        try:
            yield self
        finally:
            events._time, events._last_ns = real, last


class _Time:
    """As much of the module `time` as events use."""

    strftime = staticmethod(time.strftime)
    gmtime = staticmethod(time.gmtime)

    def __init__(self, clock: StepClock) -> None:
        self.time_ns = clock


class Ids:
    """Trace, span and run ids that follow from a seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing is to be kept secret

    def trace_id(self) -> int:
        """A 128-bit id, never 0."""
        return self._random.getrandbits(128) or 1

    def span_id(self) -> int:
        """A 64-bit id, never 0."""
        return self._random.getrandbits(64) or 1

    def run_id(self, ns: int) -> str:
        """The id of a run that begins at `ns`."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(ns // 1_000_000_000))
        return f"{stamp}-{self._random.getrandbits(32):08x}"


def deterministic_ids(seed: int = 0) -> IdGenerator:
    """Ids for the OpenTelemetry SDK that are the same in every run.

    Args:
        seed: Another one gives other ids.

    Example:
        >>> provider = TracerProvider(id_generator=deterministic_ids())  # doctest: +SKIP
    """
    from opentelemetry.sdk.trace.id_generator import IdGenerator

    class Deterministic(IdGenerator):
        def __init__(self) -> None:
            self._ids = Ids(seed)

        def generate_trace_id(self) -> int:
            return self._ids.trace_id()

        def generate_span_id(self) -> int:
            return self._ids.span_id()

    return Deterministic()

"""What a stage uses while it is open: CPU, memory, storage and GPUs of the whole process tree.

Figures are of the process, not of the stage's own code: where stages overlap in one process, each gets the
whole and says with whom it shares it.

One thread per process samples for all open stages and calls housekeepers besides. A forked child starts with
none of its parent's meters, housekeepers or threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from otel_stage import _gpu
from otel_stage._meter import Meter
from otel_stage._sampler import Sampler

__all__ = ["Meter", "add_housekeeper", "remove_housekeeper", "start_meter", "wake"]

_SHORTEST_INTERVAL = 0.05

_sampler = Sampler()


def start_meter(stage_id: str, *, interval: float = 1.0, series_path: str | None = None) -> Meter:
    """Start to measure an open stage.

    Costs microseconds: nothing is walked, the sampler's thread looks at the children soon after.

    Args:
        stage_id: Whose figures they are; other stages that are open meanwhile name it in `shared_with`.
        interval: Seconds between samples; the first second is looked at more often.
        series_path: JSON-lines file for the samples, at most some 2 000; made with the first one. A file that
            is there already is replaced.

    Returns:
        The running meter.

    Example:
        >>> meter = start_meter("asr")
        >>> meter.stop()["gpu_used"]
        False
    """
    usable = interval if math.isfinite(interval) and interval > 0 else 1.0
    meter = Meter(_sampler, stage_id, max(_SHORTEST_INTERVAL, usable), series_path)
    _sampler.join(meter, meter.meet)
    return meter


def add_housekeeper(fn: Callable[[], float | None]) -> None:
    """Have a function called regularly by the sampler's thread, first after 0.25 s.

    Args:
        fn: Returns the seconds until it wants to be called again (at least 0.25), or None for 0.5. What it
            raises is swallowed. It must not block: resources are not sampled while it runs.
    """
    _sampler.add_housekeeper(fn)


def remove_housekeeper(fn: Callable[[], float | None]) -> None:
    """Have a function called no more; a call that is under way may still end."""
    _sampler.remove_housekeeper(fn)


def wake() -> None:
    """Ask for a prompt round: housekeepers are called as soon as 0.25 s have passed since their last call."""
    _sampler.wake()


def _start_anew() -> None:
    """Forget, in a forked child, the meters, housekeepers and thread that stayed with the parent."""
    global _sampler
    inherited, _sampler = _sampler, Sampler()
    _gpu.forget()
    inherited.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)

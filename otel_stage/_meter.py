"""The meter of one open stage: it sums up what the sampler sees and what the kernel counts.

CPU seconds are differences of the kernel's accounting and exact for this process and every child that was
waited for; children that still live when the stage ends count with what the system says of them then (on
Linux in hundredths of a second). Memory is sampled, and the kernel's high-water marks raise the peak where
they prove that the samples missed it. What every figure means exactly: see `otel_stage._proctree`.
"""

from __future__ import annotations

import os
import time
from typing import Any

from otel_stage import _gpu
from otel_stage._proctree import OwnUsage, ProcessTree, child_peak, image_peak, own_usage
from otel_stage._sampler import Look, Sampler, Watcher
from otel_stage._series import SeriesWriter

_MIB = 2**20
_LEAD_IN = (0.02, 0.05, 0.12, 0.3, 0.7)
"""Seconds after the start at which a stage is looked at before its regular interval begins."""


class Meter:
    """Measures one open stage; made by `otel_stage._resources.start_meter`."""

    def __init__(self, sampler: Sampler, stage_id: str, interval: float, series_path: str | None) -> None:
        self.stage_id = stage_id
        self._pid = os.getpid()
        self._interval = interval
        self._series = SeriesWriter(series_path) if series_path is not None else None
        self._shared: dict[str, None] = {}
        self._result: dict[str, Any] | None = None
        self._latest: dict[str, float] | None = None
        self._point: dict[str, Any] = {}
        self._gpu = _gpu.GpuUsage()
        self._gpu_used = False
        self._child_peak = 0
        self._peak = 0
        self._area = 0.0  # byte seconds
        self._span = 0.0
        self._step = 0
        self._sampler = sampler
        with sampler.tree_lock:
            tree = sampler.tree
            own = own_usage()
            rss = tree.rss()
            self._io0 = tree.io()
            children = tree.has_children()
            # While nobody was waited for since, the last walk tells what children of that time had used.
            self._known0 = tree.known if children is not False and tree.known_as_of == own.reaped else {}
            departed = tree.departed_cpu()
            self._before = tree.clock() - tree.tick
        self._alone = self.settled = children is False
        self._start = self._last_at = self._last_gpu_at = time.monotonic()
        self._own0 = own
        self._cpu0 = self._last_cpu = own.cpu + departed
        self._low = rss  # the least that this process itself held
        self._last_rss = rss if self.settled else None
        if self._last_rss is not None:
            self._peak = self._last_rss
        self.due = self._start + (0.0 if children else min(_LEAD_IN[0], interval))

    def take(self, look: Look) -> bool:
        """Take a look into account (called by the sampler's thread)."""
        wanted = look.at >= self.due
        if wanted or self._step >= len(_LEAD_IN):
            self.due = self._next_due(look.at)
        cpu, percent = self._add(look)
        if look.gpus is not None:
            self._gpu_used = self._gpu_used or bool(look.gpus)
            self._gpu.add(look.gpus, look.at - self._last_gpu_at)
            self._last_gpu_at = look.at
        point: dict[str, Any] = {"t": round(look.at - self._start, 3)}
        latest: dict[str, float] = {}
        if percent is not None:
            latest["cpu_percent"] = round(percent, 1)
        if look.tree.rss is not None:
            latest["memory_mb"] = round(look.tree.rss / _MIB, 1)
        self._latest = latest
        point.update(latest)
        if look.gpus:
            point["gpus"] = [_gpu_point(one) for one in look.gpus]
        self._point = point
        self._last_cpu = cpu
        return wanted and self._series is not None

    def record(self) -> None:
        """Write the last look into the series (called by the sampler's thread)."""
        if self._series is not None and os.getpid() == self._pid:
            self._series.append(self._point)

    def latest(self) -> dict[str, float] | None:
        """Return the last sample, `cpu_percent` and `memory_mb` as far as known, or None before the first."""
        return None if self._latest is None else dict(self._latest)

    def note_child(self, rusage: Any) -> None:
        """Take the exact figures of a child into account that `os.wait4` ended.

        Its CPU is in the kernel's accounting of this process already; its peak memory joins the peak of the
        tree.

        Args:
            rusage: What `os.wait4` returned; None is ignored.
        """
        try:
            peak = None if rusage is None else child_peak(rusage)
            if peak is not None:
                self._child_peak = max(self._child_peak, peak)
        except Exception:  # a figure less, never a stage less
            return

    def stop(self) -> dict[str, Any]:
        """End the measurement and return the `resources` of the manifest; a second call returns the same.

        Returns:
            `cpu_percent` (100 = one core), `cpu_seconds`, `memory_mb` (peak, MiB), `memory_mean_mb`,
            `read_bytes`, `write_bytes`, `gpu_used`, `gpus`, `shared_with`. What could not be measured is
            absent; `gpu_used` never is.
        """
        if self._result is None:
            try:
                self._result = self._finish()
            except Exception:  # never a stage less
                self._result = {"gpu_used": self._gpu_used}
        return dict(self._result)

    def _finish(self) -> dict[str, Any]:
        if os.getpid() != self._pid:
            return {"gpu_used": False}  # a forked child ends a block that its parent measures
        self._sampler.leave(self)
        with self._sampler.tree_lock:
            look, io = _final_look(self._sampler.tree)
        self._result = {"gpu_used": self._gpu_used}
        cpu, percent = self._add(look)
        seconds = max(0.0, cpu - self._cpu0)
        wall = look.at - self._start
        found: dict[str, Any] = {}
        if wall > 0:
            found["cpu_percent"] = round(100 * seconds / wall, 1)
        found["cpu_seconds"] = round(seconds, 6)
        self._raise_peak(look)
        if self._peak:
            found["memory_mb"] = round(self._peak / _MIB, 1)
        mean = self._area / self._span if self._span > 0 else self._last_rss
        if mean:
            found["memory_mean_mb"] = round(mean / _MIB, 1)
        if io is not None and self._io0 is not None:
            found["read_bytes"] = max(0, io[0] - self._io0[0])
            found["write_bytes"] = max(0, io[1] - self._io0[1])
        found["gpu_used"] = self._gpu_used
        if self._gpu_used:
            found["gpus"] = self._gpu.result()
        if self._shared:
            found["shared_with"] = list(self._shared)
        if self._series is not None and self._series.started:
            point: dict[str, Any] = {"t": round(wall, 3)}
            if percent is not None:
                point["cpu_percent"] = round(percent, 1)
            if look.tree.rss is not None:
                point["memory_mb"] = round(look.tree.rss / _MIB, 1)
            self._series.append(point, last=True)
        return found

    def _next_due(self, now: float) -> float:
        while self._step < len(_LEAD_IN):
            offset = _LEAD_IN[self._step]
            self._step += 1
            if offset >= self._interval:
                self._step = len(_LEAD_IN)
            elif self._start + offset > now:
                return self._start + offset
        return now + self._interval

    def _add(self, look: Look) -> tuple[float, float | None]:
        """Add a look to the sums; return total CPU seconds and the percentage since the last look."""
        if not self.settled:
            self._settle(look)
        cpu = look.own.cpu + look.tree.cpu
        passed = look.at - self._last_at
        percent = max(0.0, 100 * (cpu - self._last_cpu) / passed) if passed > 0 else None
        rss = look.tree.rss
        if rss is not None:
            if self._last_rss is not None and passed > 0:
                self._area += passed * (rss + self._last_rss) / 2
                self._span += passed
            self._peak = max(self._peak, rss)
        if look.tree.own_rss is not None:
            self._low = min(look.tree.own_rss, self._low or look.tree.own_rss)
        self._last_rss, self._last_at = rss, look.at
        return cpu, percent

    def _settle(self, look: Look) -> None:
        """Leave out what children had used before this stage, known since the first look at them.

        The kernel adds a child's whole life to ours when it is waited for, so its figure at our start is part
        of where we count from, whether it lives on or not.
        """
        self.settled = True
        old = {pid: one for pid, one in look.tree.living.items() if one.started <= self._before}
        gone = (one for pid, one in self._known0.items() if pid not in old)
        self._cpu0 += sum(one.cpu for one in old.values()) + sum(one.cpu for one in gone)
        self._last_cpu = self._cpu0
        if look.io is None:
            self._io0 = None
        elif self._io0 is not None:
            before = [look.io[pid] for pid in old if pid in look.io]
            self._io0 = (self._io0[0] + sum(r for r, _ in before), self._io0[1] + sum(w for _, w in before))

    def _raise_peak(self, look: Look) -> None:
        """Let the kernel's high-water marks say what samples missed, where they moved meanwhile."""
        if look.own.peak > self._own0.peak:
            self._peak = max(self._peak, look.own.peak)
        child = self._child_peak
        # A child's mark below ours may be inherited from us, and one that lived before may have reached it
        # then.
        children = look.own.children_peak
        if self._alone and children > self._own0.children_peak and children > image_peak():
            child = max(child, children)
        if child:
            self._peak = max(self._peak, child + (self._low or 0))

    def meet(self, others: list[Watcher]) -> None:
        """Note with whom this one overlaps (called by the sampler when it joins)."""
        for other in others:
            if isinstance(other, Meter):
                other._shared[self.stage_id] = None
                self._shared[other.stage_id] = None


def _gpu_point(one: _gpu.GpuReading) -> dict[str, Any]:
    point: dict[str, Any] = {"index": one.gpu}
    if one.memory is not None:
        point["memory_mb"] = round(one.memory / _MIB, 1)
    if one.utilization is not None:
        point["utilization_percent"] = one.utilization
    return point


def _final_look(tree: ProcessTree) -> tuple[Look, tuple[int, int] | None]:
    """Look at everything at one moment: again if a child was waited for in between."""
    own: OwnUsage = own_usage()
    for _ in range(3):
        before = own
        children = tree.has_children()
        io = tree.io()
        reading = tree.walk(before, children=bool(tree.known) if children is None else children)
        living = tree.io_living() if reading.living else {}
        own = own_usage()
        if own.reaped == before.reaped:
            break
    look = Look(time.monotonic(), own, reading, living, None)
    if io is None or living is None:
        return look, None
    return look, (io[0] + sum(r for r, _ in living.values()), io[1] + sum(w for _, w in living.values()))

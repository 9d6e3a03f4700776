"""What our processes use of NVIDIA GPUs, by pid, through NVML.

Only the sampler's thread calls in here: loading NVML and asking a driver can take long, and a broken driver
can hang. Where there is no driver, or it fails, there is nothing to report, and the failure is remembered for
the life of the process. NVML names processes by the pids of the host: inside a container with pids of its own
it cannot tell which are ours, and nothing is reported either.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

# Where none of these exists there is no driver to ask, and importing pynvml would cost 13 ms for nothing:
# the usual one, WSL's, Tegra's two.
_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvgpu", "/dev/nvhost-gpu")
_LISTS = (
    ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetComputeRunningProcesses_v2"),
    ("nvmlDeviceGetGraphicsRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses_v2"),
    ("nvmlDeviceGetMPSComputeRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses_v2"),
)
_UTILIZATION = "nvmlDeviceGetProcessUtilization"
_NEVER = frozenset({3, 4, 13})  # not supported, no permission, function not found: asking again will not help
_NOTHING = frozenset({0, 6})  # success without a sample, not found: nobody used the GPU since the last call
_PATIENCE = 3  # failures in a row after which a call is not made again


class GpuReading(NamedTuple):
    """What our processes use of one GPU at one moment."""

    gpu: int
    """NVML's number of the GPU; `CUDA_VISIBLE_DEVICES` does not change it."""
    name: str | None
    memory: int | None
    """Bytes."""
    utilization: float | None
    """Percent of the GPU's time in which one of our kernels ran."""


class _Device:
    def __init__(self, nvml: Any, index: int) -> None:
        self.index = index
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self._failures: dict[str, int] = {}
        self._seen = 0
        self.name: str | None = None
        try:
            name = nvml.nvmlDeviceGetName(self._handle)
            self.name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        except Exception:  # a GPU without a name is a GPU
            return

    def read(self, pids: Collection[int]) -> GpuReading | None:
        memory: dict[tuple[Any, ...], int | None] = {}
        for names in _LISTS:
            for process in self._processes(names):
                if process.pid in pids:
                    # A process that computes and draws is in two lists, with the same memory.
                    parts = [getattr(process, part, None) for part in ("gpuInstanceId", "computeInstanceId")]
                    key = (process.pid, *parts)
                    figures = [used for used in (process.usedGpuMemory, memory.get(key)) if used is not None]
                    memory[key] = max(figures, default=None)
        busy = self._utilization(pids)
        if not memory and not busy:
            return None
        figures = [used for used in memory.values() if used is not None]
        return GpuReading(self.index, self.name, sum(figures) if figures else None, busy)

    def _processes(self, names: tuple[str, ...]) -> Iterable[Any]:
        for name in names:  # the newest form that this driver has
            if self._usable(name):
                try:
                    found = list(getattr(self._nvml, name)(self._handle))
                except Exception as error:
                    self._failed(name, error)
                    continue
                self._failures.pop(name, None)
                return found
        return ()

    def _utilization(self, pids: Collection[int]) -> float | None:
        if not self._usable(_UTILIZATION):
            return None
        try:
            samples = list(getattr(self._nvml, _UTILIZATION)(self._handle, self._seen))
        except Exception as error:
            if getattr(error, "value", None) in _NOTHING:
                return 0.0
            self._failed(_UTILIZATION, error)
            return None
        self._failures.pop(_UTILIZATION, None)
        latest: dict[int, tuple[int, int]] = {}
        for sample in samples:
            at, pid = int(sample.timeStamp), int(sample.pid)
            self._seen = max(self._seen, at)
            if pid in pids and at >= latest.get(pid, (0, 0))[0]:
                latest[pid] = (at, int(sample.smUtil))
        if any(not 0 <= percent <= 100 for _, percent in latest.values()):
            return None  # some drivers answer with what was in memory
        return float(min(100, sum(percent for _, percent in latest.values())))

    def _usable(self, name: str) -> bool:
        return self._failures.get(name, 0) < _PATIENCE

    def _failed(self, name: str, error: Exception) -> None:
        final = getattr(error, "value", None) in _NEVER or isinstance(error, AttributeError)
        self._failures[name] = _PATIENCE if final else self._failures.get(name, 0) + 1


class _Nvml:
    """The library as this process found it: not asked yet, broken, or a list of devices."""

    def __init__(self) -> None:
        self.devices: list[_Device] | None = None
        self.broken = False

    def open(self) -> list[_Device]:
        if self.devices is None:
            self.devices = []
            self.broken = True  # unless the end of this method is reached
            loaded = "pynvml" in sys.modules
            if not loaded and os.name == "posix" and not any(map(os.path.exists, _DEVICES)):
                return self.devices
            import pynvml

            pynvml.nvmlInit()
            for index in range(int(pynvml.nvmlDeviceGetCount())):
                with contextlib.suppress(Exception):  # one lost GPU does not hide the others
                    self.devices.append(_Device(pynvml, index))
            self.broken = not self.devices
        return self.devices


_nvml = _Nvml()


def is_open() -> bool:
    """Tell whether the driver was asked already, so that the next `read` is cheap."""
    return _nvml.devices is not None


def read(pids: Collection[int]) -> tuple[GpuReading, ...] | None:
    """Return what the given processes use now, one reading per GPU that they use.

    Args:
        pids: Our processes.

    Returns:
        An empty tuple if they use none; None if NVML cannot be asked.
    """
    if _nvml.broken:
        return None
    try:
        found = [device.read(pids) for device in _nvml.open()]
    except Exception:  # no library, no driver, a driver that answers nonsense: no GPU that we could speak of
        _nvml.broken = True
        return None
    return None if _nvml.broken else tuple(one for one in found if one is not None)


def forget() -> None:
    """Drop what a forked child inherited: NVML has to be opened anew there, unless it is known to fail."""
    global _nvml
    broken = _nvml.broken
    _nvml = _Nvml()
    if broken:
        _nvml.broken, _nvml.devices = True, []


class _Total:
    def __init__(self, name: str | None) -> None:
        self.name = name
        self.memory: int | None = None
        self.peak: float | None = None
        self.busy = 0.0  # percent x seconds
        self.blind = 0.0  # seconds for which utilisation is unknown


class GpuUsage:
    """Sums up the readings of one stage."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._gpus: dict[int, _Total] = {}

    def add(self, readings: Iterable[GpuReading], seconds: float) -> None:
        """Take one look into account.

        Args:
            readings: What `read` returned.
            seconds: Time since the last look, for which this one stands.
        """
        self._seconds += seconds
        for one in readings:
            total = self._gpus.get(one.gpu)
            if total is None:
                total = self._gpus[one.gpu] = _Total(one.name)
            if one.memory is not None:
                total.memory = max(one.memory, total.memory or 0)
            if one.utilization is None:
                total.blind += seconds
            else:
                total.busy += one.utilization * seconds
                total.peak = max(one.utilization, total.peak or 0.0)

    def result(self) -> list[dict[str, Any]]:
        """Return one mapping per GPU used: peak memory in MiB, mean (over the stage) and peak utilisation."""
        found = []
        for index, total in sorted(self._gpus.items()):
            entry: dict[str, Any] = {"index": index}
            if total.name is not None:
                entry["name"] = total.name
            if total.memory is not None:
                entry["memory_mb"] = round(total.memory / 2**20, 1)
            if total.peak is not None:
                seen = self._seconds - total.blind
                if seen > 0:
                    entry["utilization_percent"] = round(total.busy / seen, 1)
                entry["utilization_peak_percent"] = round(total.peak, 1)
            found.append(entry)
        return found

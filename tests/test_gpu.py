"""GPU figures, against a stand-in for NVIDIA's library: what matters is what we make of its answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types

import pytest

from otel_stage import _gpu
from otel_stage._meter import Meter
from otel_stage._sampler import Sampler

MIB = 2**20
US = 41  # our pid, in these tests
OTHER = 99


class NVMLError(Exception):
    """Like pynvml's: the code is in `value`."""

    def __init__(self, value):
        super().__init__(value)
        self.value = value


class Fake(types.ModuleType):
    """Answers like pynvml from plain tables, and counts what it is asked."""

    NVMLError = NVMLError

    def __init__(self, *, compute=(), graphics=(), samples=(), name="H100", gpus=1):
        super().__init__("pynvml")
        self.tables = {"compute": list(compute), "graphics": list(graphics), "samples": list(samples)}
        self.label, self.gpus = name, gpus
        self.calls = []

    def answer(self, table):
        """Return rows, or raise the error that the table holds."""
        rows = self.tables[table]
        for row in rows:
            if isinstance(row, Exception):
                raise row
        return rows

    def nvmlInit(self):
        self.calls.append("init")

    def nvmlDeviceGetCount(self):
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, handle):
        return self.label

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self.answer("compute") if handle == 0 else []

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):
        return self.answer("graphics") if handle == 0 else []

    def nvmlDeviceGetProcessUtilization(self, handle, since):
        self.calls.append(since)
        rows = [row for row in self.answer("samples") if row.timeStamp > since]
        if not rows or handle != 0:
            raise NVMLError(6)
        return rows


def process(pid, mib, **more):
    """Return a row of a list of processes."""
    return types.SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * MIB, **more)


def sample(pid, percent, at):
    """Return a row of a list of utilisation samples."""
    return types.SimpleNamespace(pid=pid, smUtil=percent, timeStamp=at)


@pytest.fixture
def nvml(monkeypatch):
    """Install a stand-in; returns the function that does it."""

    def install(fake):
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        monkeypatch.setattr(_gpu, "_nvml", _gpu._Nvml())
        return fake

    return install


def test_memory_and_utilisation_of_our_processes_only(nvml):
    """Figures are those of our pids: another process on the same GPU adds nothing."""
    fake = nvml(
        Fake(
            compute=[process(US, 100), process(OTHER, 5000), process(42, 30)],
            samples=[sample(US, 40, 7), sample(OTHER, 50, 8), sample(42, 5, 7)],
            gpus=2,
        )
    )
    assert _gpu.read({US, 42}) == (_gpu.GpuReading(0, "H100", 130 * MIB, 45.0),)
    assert _gpu.read({US, 42}) == (_gpu.GpuReading(0, "H100", 130 * MIB, 0.0),)
    assert fake.calls == ["init", 0, 0, 8, 0]


def test_a_process_in_two_lists_counts_once(nvml):
    """A process that computes and draws has its memory once; parts of a divided GPU add up."""
    nvml(
        Fake(
            compute=[process(US, 100, gpuInstanceId=1), process(US, 50, gpuInstanceId=2)],
            graphics=[process(US, 100, gpuInstanceId=1)],
        )
    )
    (reading,) = _gpu.read({US})
    assert reading.memory == 150 * MIB


def test_a_list_without_us(nvml):
    """Where only others use the GPU, we use none."""
    nvml(Fake(compute=[process(OTHER, 5000)], samples=[sample(OTHER, 90, 1)]))
    assert _gpu.read({US}) == ()


def test_memory_that_nvml_cannot_tell_is_absent(nvml):
    """A process without a figure of memory uses the GPU, by an amount that is left out."""
    nvml(Fake(compute=[process(US, None)], samples=[NVMLError(3)]))
    usage = _gpu.GpuUsage()
    usage.add(_gpu.read({US}), 1.0)
    assert usage.result() == [{"index": 0, "name": "H100"}]


@pytest.mark.parametrize("value", [0, 6])
def test_no_sample_is_no_utilisation(nvml, value):
    """Where NVML has no sample since the last look, our processes were idle."""
    nvml(Fake(compute=[process(US, 1)], samples=[NVMLError(value)]))
    assert _gpu.read({US})[0].utilization == 0.0


def test_a_percentage_that_is_none_is_left_out(nvml):
    """A figure beyond 100 % says nothing."""
    nvml(Fake(compute=[process(US, 1)], samples=[sample(US, 4294967295, 1)]))
    assert _gpu.read({US})[0].utilization is None


def test_names_may_be_bytes(nvml):
    """Older bindings name GPUs in bytes."""
    nvml(Fake(compute=[process(US, 1)], name=b"Tesla T4"))
    assert _gpu.read({US})[0].name == "Tesla T4"


def test_older_drivers_have_older_lists(nvml):
    """Where the newest form of a call is missing, the one before it is used."""
    fake = nvml(Fake(compute=[NVMLError(13)]))
    fake.nvmlDeviceGetComputeRunningProcesses_v2 = lambda _: [process(US, 7)]
    assert _gpu.read({US})[0].memory == 7 * MIB


def test_a_missing_driver_is_asked_once(nvml):
    """A driver that is not there is no GPU, and it is not asked again, by a forked child neither."""
    fake = nvml(Fake())

    def fail():
        fake.calls.append("init")
        raise NVMLError(12)

    fake.nvmlInit = fail
    assert _gpu.read({US}) is None
    assert _gpu.read({US}) is None
    _gpu.forget()
    assert _gpu.read({US}) is None
    assert fake.calls == ["init"]


def test_a_forked_child_opens_nvml_anew(nvml):
    """What a child inherited of a working library is not used: it opens its own."""
    fake = nvml(Fake(compute=[process(US, 1)]))
    assert _gpu.read({US})
    _gpu.forget()
    assert _gpu.read({US})
    assert fake.calls.count("init") == 2


@pytest.mark.parametrize("error", [NVMLError(15), OSError("gone"), ValueError("nonsense")])
@pytest.mark.parametrize(
    "broken", [None, "nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName"]
)
def test_a_library_that_raises_everywhere(nvml, error, broken):
    """Whatever a broken library raises, and from wherever, there is no GPU and no exception."""
    fake = nvml(Fake(compute=[error], graphics=[error], samples=[error]))

    def fail(*_):
        raise error

    if broken:
        setattr(fake, broken, fail)
    for _ in range(5):
        assert not _gpu.read({US})


def test_a_library_that_answers_nonsense(nvml):
    """Answers that are no answers end the asking."""
    nvml(Fake(compute=[object()]))
    assert _gpu.read({US}) is None
    assert _gpu.read({US}) is None


def test_one_lost_gpu_does_not_hide_the_other(nvml):
    """A GPU without a handle is left out, the others are read."""
    fake = nvml(Fake(compute=[process(US, 9)], gpus=2))

    def handle(index):
        if index == 0:
            raise NVMLError(15)
        return 0

    fake.nvmlDeviceGetHandleByIndex = handle
    assert [reading.gpu for reading in _gpu.read({US})] == [1]


def test_mean_is_over_the_stage_and_peak_is_the_highest():
    """Utilisation is weighted by time, times without us on the GPU included; memory is the peak."""
    usage = _gpu.GpuUsage()
    usage.add((), 2.0)
    usage.add((_gpu.GpuReading(1, "A", 100 * MIB, 80.0), _gpu.GpuReading(0, None, None, None)), 1.0)
    usage.add((_gpu.GpuReading(1, "A", 50 * MIB, 40.0),), 1.0)
    usage.add((_gpu.GpuReading(1, "A", None, None),), 96.0)
    assert usage.result() == [
        {"index": 0},
        {
            "index": 1,
            "name": "A",
            "memory_mb": 100.0,
            "utilization_percent": 30.0,
            "utilization_peak_percent": 80.0,
        },
    ]


def measured():
    """Run a stage through the sampler and return its resources."""
    sampler = Sampler()
    meter = Meter(sampler, "gpu", 1.0, None)
    sampler.join(meter, meter.meet)
    limit = time.monotonic() + 20
    while meter.latest() is None:
        assert time.monotonic() < limit
        time.sleep(0.005)
    return meter.stop()


def test_a_stage_that_uses_a_gpu_says_so(nvml):
    """The resources of a stage name the GPUs that its processes used."""
    nvml(Fake(compute=[process(os.getpid(), 9120)], samples=[sample(os.getpid(), 71, 1)]))
    found = measured()
    assert found["gpu_used"] is True
    assert found["gpus"] == [
        {
            "index": 0,
            "name": "H100",
            "memory_mb": 9120.0,
            "utilization_percent": 71.0,
            "utilization_peak_percent": 71.0,
        }
    ]


def test_a_stage_beside_a_broken_driver(nvml):
    """With a library that raises everywhere a stage used no GPU, silently, and has its other figures."""
    error = NVMLError(999)
    fake = nvml(Fake(compute=[error], graphics=[error], samples=[error]))
    found = measured()
    assert found["gpu_used"] is False
    assert "gpus" not in found
    assert found["memory_mb"] > 0
    assert fake.calls[0] == "init"


@pytest.mark.skipif(
    os.name != "posix" or any(map(os.path.exists, _gpu._DEVICES)), reason="this machine has a GPU to ask"
)
def test_pynvml_is_not_loaded_where_no_driver_is():
    """Without a device there is nothing to load a library for."""
    script = "import sys\nfrom otel_stage import _gpu\nassert _gpu.read({1}) is None\nprint('pynvml' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "False\n"

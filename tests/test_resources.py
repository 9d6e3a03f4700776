"""What a stage's resources say, against processes that know it themselves."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from otel_stage import _resources as resources
from otel_stage._meter import Meter
from otel_stage._proctree import ProcessTree, own_usage
from otel_stage._sampler import THREAD_NAME, Look, Sampler
from otel_stage._series import SeriesWriter

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX processes")

# A process that uses CPU, says how much the kernel has on its account, and ends when its stdin does.
BURN = textwrap.dedent("""
    import resource, subprocess, sys, time
    def used():
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(r.ru_utime + r.ru_stime for r in both)
    while used() < 0.2:
        pass
    if len(sys.argv) > 1:
        subprocess.run([sys.executable, "-c", sys.argv[1]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    print(used(), flush=True)
    sys.stdin.read()
""")


def burner(*argv):
    """Start a process that burns CPU; return it with its own report."""
    process = subprocess.Popen(
        [sys.executable, "-c", BURN, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, float(process.stdout.readline())


def end(process):
    """Let a process end and wait for it."""
    process.communicate(timeout=30)
    assert process.returncode == 0


def until(condition):
    """Wait for what another thread does."""
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.005)


def threads():
    """Return how many sampler threads there are."""
    return sum(thread.name == THREAD_NAME for thread in threading.enumerate())


def own_cpu():
    """Return the CPU seconds of this process alone."""
    return time.process_time()


def run(script, **env):
    """Run a script in a fresh interpreter and return the JSON that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@posix
def test_cpu_of_child_and_grandchild_counts_once():
    """CPU of a child and a grandchild that were waited for is in the figures, exactly once."""
    before = own_cpu()
    meter = resources.start_meter("asr")
    process, report = burner(BURN)
    end(process)
    found = meter.stop()
    assert report > 0.35
    assert found["cpu_seconds"] == pytest.approx(report + own_cpu() - before, abs=0.1)
    assert found["cpu_percent"] > 0


@posix
def test_cpu_of_a_living_child_counts_where_it_was_used():
    """A child that outlives its stage counts there, and not again where it is waited for."""
    before = own_cpu()
    first = resources.start_meter("first")
    process, report = burner()
    one = first.stop()
    assert one["cpu_seconds"] == pytest.approx(report + own_cpu() - before, abs=0.1)
    before = own_cpu()
    second = resources.start_meter("second")
    end(process)
    two = second.stop()
    assert two["cpu_seconds"] == pytest.approx(own_cpu() - before, abs=0.1)


@posix
def test_cpu_that_a_child_used_before_the_stage_stays_out():
    """What a child had used before the stage opened is not the stage's, though it is waited for there."""
    process, report = burner()
    before = own_cpu()
    meter = resources.start_meter("late")
    until(lambda: meter.latest() is not None)
    end(process)
    found = meter.stop()
    assert report > 0.15
    assert found["cpu_seconds"] == pytest.approx(own_cpu() - before, abs=0.1)


@posix
def test_cpu_before_the_stage_stays_out_without_a_sample():
    """That holds too where the child ends before the first sample, if it had been seen earlier."""
    sampler = Sampler()  # whose thread does not run
    process, report = burner()
    sampler.tree.walk(own_usage())
    before = own_cpu()
    meter = Meter(sampler, "late", 1.0, None)
    end(process)
    assert meter.stop()["cpu_seconds"] == pytest.approx(own_cpu() - before, abs=0.1)
    assert report > 0.15
    sampler.tree.close()


@posix
def test_a_child_that_ended_before_the_stage_is_not_taken_off_twice():
    """What was seen of a child is forgotten once it was waited for before the stage opened."""
    sampler = Sampler()
    gone, report = burner()
    lives, _ = burner()
    sampler.tree.walk(own_usage())
    end(gone)
    before = own_cpu()
    meter = Meter(sampler, "busy", 1.0, None)
    while own_cpu() - before < report:
        pass
    found = meter.stop()
    end(lives)
    assert found["cpu_seconds"] == pytest.approx(own_cpu() - before, abs=0.1)
    sampler.tree.close()


@linux
def test_a_descendant_that_leaves_the_tree_keeps_its_figure():
    """CPU of a process whose parent ended first stays in the sum, and it is not taken for a living one."""
    tree = Sampler().tree
    script = f"""if True:
        import os, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", {BURN!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        print(child.pid, child.stdout.readline().decode(), flush=True)
        os.kill(child.pid, 19)  # it stays as it is when its stdin closes
        sys.stdin.readline()
        os._exit(0)
    """
    middle = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pid, report = middle.stdout.readline().split()
    try:
        seen = tree.walk(own_usage())
        assert set(seen.living) == {middle.pid, int(pid)}
        middle.communicate("\n", timeout=30)
        after = tree.walk(own_usage())
        assert after.living == {}
        assert after.cpu == pytest.approx(float(report), abs=0.1)
    finally:
        os.kill(int(pid), signal.SIGKILL)
        tree.close()


@posix
def test_memory_peak_of_a_child():
    """The peak has a child's memory on top of our own, and the mean lies below the peak."""
    meter = resources.start_meter("asr")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; x = bytearray(100 << 20); print(1, flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    until(lambda: (meter.latest() or {}).get("memory_mb", 0) > 100)
    end(process)
    found = meter.stop()
    assert 100 < found["memory_mb"] < 2000
    assert 0 < found["memory_mean_mb"] < found["memory_mb"]


@posix
def test_memory_peak_of_a_child_between_samples():
    """A child too short for a sample is in the peak by the kernel's mark, told or not."""
    for told in (True, False):
        found = run(f"""
            import json, os, subprocess, sys
            from otel_stage._sampler import Sampler
            from otel_stage._meter import Meter
            meter = Meter(Sampler(), "short", 1.0, None)  # no thread looks
            child = subprocess.Popen([sys.executable, "-c", "bytearray(100 << 20)"])
            rusage = os.wait4(child.pid, 0)[2]
            if {told}:
                meter.note_child(rusage)
            print(json.dumps(meter.stop()))
        """)
        assert 100 < found["memory_mb"] < 200


@linux
def test_a_small_child_does_not_inherit_our_peak():
    """The mark that a child inherits from the process that started it is not taken for its own."""
    found = run("""
        import json, os, subprocess
        from otel_stage import _resources
        x = bytearray(200 << 20)
        del x
        meter = _resources.start_meter("small")
        child = subprocess.Popen(["true"])
        rusage = os.wait4(child.pid, 0)[2]
        meter.note_child(rusage)
        print(json.dumps([rusage.ru_maxrss, meter.stop()]))
    """)
    assert found[0] > 200_000
    assert found[1]["memory_mb"] < 100


@linux
def test_bytes_are_the_kernels():
    """Bytes written by a child that was waited for are in our figures, as the kernel counts them."""

    def written():
        with open("/proc/self/io") as file:
            return int(dict(line.split(": ") for line in file)["write_bytes"])

    before = written()
    meter = resources.start_meter("io")
    script = "import os, tempfile\nwith tempfile.TemporaryFile() as f: f.write(bytes(4 << 20)); f.flush(); os.fsync(f.fileno())"
    subprocess.run([sys.executable, "-c", script], check=True)
    found = meter.stop()
    assert found["write_bytes"] == pytest.approx(written() - before, abs=1 << 20)
    assert found["read_bytes"] >= 0


def test_overlapping_stages_name_each_other():
    """Stages that were open at the same time name each other; one that was not is not named."""
    one = resources.start_meter("one")
    two = resources.start_meter("two")
    first = one.stop()
    three = resources.start_meter("three")
    assert first["shared_with"] == ["two"]
    assert two.stop()["shared_with"] == ["one", "three"]
    assert three.stop()["shared_with"] == ["two"]
    assert "shared_with" not in resources.start_meter("four").stop()


def test_stop_twice_says_the_same():
    """A second stop returns what the first did."""
    meter = resources.start_meter("asr")
    found = meter.stop()
    assert meter.stop() == found
    assert found["gpu_used"] is False
    assert found["cpu_seconds"] >= 0
    assert found["memory_mb"] > 0


@pytest.mark.parametrize("interval", [0.0, -1.0, float("nan"), float("inf"), 1e-9, 1e9])
def test_odd_intervals_do_no_harm(interval):
    """An interval that makes no sense is replaced by one that does."""
    assert resources.start_meter("odd", interval=interval).stop()["gpu_used"] is False


def test_what_cannot_be_measured_is_absent():
    """Where the system tells nothing of memory and bytes, the keys are missing."""
    sampler = Sampler()
    sampler._tree = ProcessTree()
    found = Meter(sampler, "blind", 1.0, None).stop()
    assert set(found) == {"cpu_percent", "cpu_seconds", "gpu_used"}


SCENE = f"""
    import json, subprocess, sys
    from otel_stage import _resources
    meter = _resources.start_meter("scene")
    child = subprocess.Popen([sys.executable, "-c", "x = bytearray(60 << 20)\\n" + {BURN!r}],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    report = float(child.stdout.readline())
    while (meter.latest() or {{}}).get("memory_mb", 0) < 60:
        pass
    child.communicate()
    other = subprocess.Popen([sys.executable, "-c", {BURN!r}],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    report += float(other.stdout.readline())
    import time
    found = meter.stop()
    other.kill()
    other.wait()
    kind = type(_resources._sampler.tree).__name__
    print(json.dumps({{"kind": kind, "children": report, "own": time.process_time(), **found}}))
"""


@posix
@pytest.mark.parametrize("portable", ["0", "1"])
def test_portable_path_tells_the_same(portable):
    """With the Linux paths switched off the same scene has the same figures, within tolerance."""
    found = run(SCENE, OTEL_STAGE_PORTABLE=portable)
    if portable == "1":
        assert found["kind"] == "PortableTree"
    elif sys.platform.startswith("linux"):
        assert found["kind"] == "LinuxTree"
    used = found["cpu_seconds"] - found["own"]  # what importing took before the stage is in `own` as well
    assert found["children"] - 0.3 < used < found["children"] + 0.15
    assert 60 < found["memory_mb"] < 200
    assert ("write_bytes" in found) == sys.platform.startswith("linux")


@posix
def test_a_forked_child_has_no_inherited_meter():
    """A forked child has neither meter nor thread nor housekeeper of its parent, and can have its own."""
    found = run("""
        import json, os, threading, time
        from otel_stage import _resources
        calls = []
        meter = _resources.start_meter("parent")
        _resources.add_housekeeper(lambda: calls.append(os.getpid()))
        while meter.latest() is None:
            time.sleep(0.005)
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            names = [t.name for t in threading.enumerate()]
            inherited = meter.stop()
            own = _resources.start_meter("child")
            calls.clear()
            while own.latest() is None:
                time.sleep(0.005)
            names2 = [t.name for t in threading.enumerate()]
            os.write(w, json.dumps([names, inherited, names2, own.stop(), calls]).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        print(json.dumps([json.loads(os.read(r, 65536)), meter.stop()]))
    """)
    (names, inherited, names_after, own, calls), parent = found
    assert THREAD_NAME not in names
    assert inherited == {"gpu_used": False}
    assert THREAD_NAME in names_after
    assert own["cpu_seconds"] >= 0
    assert "shared_with" not in own
    assert calls == []
    assert parent["memory_mb"] > 0


@linux
def test_hundreds_of_children_with_few_descriptors():
    """Every child is seen, also beyond a page of them, and few descriptors are kept open for that."""
    found = run("""
        import json, os, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
        from otel_stage._proctree import own_usage
        from otel_stage._proctree_linux import LinuxTree
        tree = LinuxTree()
        pids = []
        r, w = os.pipe()
        for _ in range(1000):
            pid = os.fork()
            if pid == 0:
                os.close(w)
                os.read(r, 1)  # until the parent closes it, or ends
                os._exit(0)
            pids.append(pid)
        seen = [sorted(tree.walk(own_usage()).living) == sorted(pids) for _ in range(2)]
        kept = len(tree._files)
        os.close(w)
        for pid in pids:
            os.waitpid(pid, 0)
        seen.append(not tree.walk(own_usage()).living)
        left = len(tree._files)
        tree.close()
        print(json.dumps([seen, kept, left, len(os.listdir("/proc/self/fd"))]))
    """)
    assert found[0] == [True, True, True]
    assert found[1] <= 256 // 6
    assert found[2] <= 3
    assert found[3] <= 6


def test_series_keeps_what_was_sampled(tmp_path):
    """The side file has one JSON object per sample, in order of time, and the end of the stage."""
    path = tmp_path / "samples.jsonl"
    meter = resources.start_meter("asr", interval=0.05, series_path=str(path))
    until(lambda: path.exists() and path.read_bytes().count(b"\n") >= 3)
    meter.stop()
    points = [json.loads(line) for line in path.read_text().splitlines()]
    times = [point["t"] for point in points]
    assert times == sorted(times)
    assert len(points) >= 4
    assert all(point["memory_mb"] > 0 and point["cpu_percent"] >= 0 for point in points)


def test_a_stage_without_samples_makes_no_file(tmp_path):
    """A stage shorter than the first sample leaves no side file."""
    path = tmp_path / "samples.jsonl"
    sampler = Sampler()  # whose thread does not run
    Meter(sampler, "short", 1.0, str(path)).stop()
    assert not path.exists()


@pytest.mark.parametrize("points", [1, 7, 8, 9, 100, 1_000])
def test_series_is_bounded(tmp_path, points):
    """However many samples come, the file holds at most its limit, evenly spaced, from the first to the last."""
    path = tmp_path / "samples.jsonl"
    path.write_text("of another run\n")
    series = SeriesWriter(str(path), limit=8)
    for t in range(points):
        series.append({"t": t})
        assert path.read_bytes().count(b"\n") <= 8
    series.append({"t": points}, last=True)
    series.append({"t": points + 1})
    times = [json.loads(line)["t"] for line in path.read_text().splitlines()]
    assert len(times) <= 8
    assert times[0] == 0
    assert times[-1] == points
    assert points < 8 or len(times) >= 4
    assert len({b - a for a, b in zip(times[:-2], times[1:-1], strict=True)}) <= 1
    assert sorted(os.listdir(tmp_path)) == ["samples.jsonl"]


def test_series_complains_once(tmp_path, caplog):
    """A file that cannot be written is said once, and the figures come all the same."""
    caplog.set_level(logging.WARNING, logger="otel_stage")
    series = SeriesWriter(str(tmp_path / "missing" / "samples.jsonl"))
    for t in range(3):
        series.append({"t": t})
    assert [record.name for record in caplog.records] == ["otel_stage"]
    assert not series.started


def test_the_thread_ends_and_starts_again():
    """One thread serves all meters, ends when none is left, and starts again for the next."""
    for _ in range(2):
        meters = [resources.start_meter(str(n), interval=0.05) for n in range(5)]
        assert threads() == 1
        for meter in meters:
            meter.stop()
        until(lambda: threads() == 0)


def test_housekeepers_are_called_and_cannot_harm():
    """A housekeeper is called again and again, also beside one that raises, until it is removed."""
    called = threading.Semaphore(0)
    seen = []

    def bad():
        seen.append(threading.current_thread().name)
        raise SystemExit(1)

    def good():
        called.release()
        return 0.0

    resources.add_housekeeper(bad)
    resources.add_housekeeper(good)
    try:
        for _ in range(3):
            assert called.acquire(timeout=20)
        assert set(seen) == {THREAD_NAME}
        assert threads() == 1
    finally:
        resources.remove_housekeeper(bad)
        resources.remove_housekeeper(good)
        resources.remove_housekeeper(good)
    until(lambda: threads() == 0)


def test_wake_brings_a_prompt_round():
    """A housekeeper that wanted to be left alone for an hour is called soon when asked for."""
    called = threading.Semaphore(0)

    def rare():
        called.release()
        return 3600.0

    resources.add_housekeeper(rare)
    try:
        assert called.acquire(timeout=20)
        assert not called.acquire(blocking=False)
        resources.wake()
        assert called.acquire(timeout=20)
    finally:
        resources.remove_housekeeper(rare)


def test_exit_does_not_wait_for_the_thread():
    """The interpreter ends with a meter open and a housekeeper that never returns."""
    assert run("""
        import threading
        from otel_stage import _resources
        _resources.start_meter("open")
        stuck = threading.Event()
        def block():
            stuck.set()
            threading.Event().wait()
        _resources.add_housekeeper(block)
        assert stuck.wait(20)
        print("true")
    """)


def test_looks_become_sparser_where_they_are_dear():
    """After a look that cost much the next one waits, so that the share of a core stays small."""

    class Dear(ProcessTree):
        def walk(self, own, *, children=None):
            begin = time.thread_time()
            while time.thread_time() - begin < 0.02:
                pass
            return super().walk(own, children=children)

    sampler = Sampler()
    sampler._tree = Dear()
    meter = Meter(sampler, "dear", 0.05, None)
    sampler.join(meter, meter.meet)
    until(lambda: meter.latest() is not None)
    assert sampler._not_before - time.monotonic() > 1.0
    meter.stop()


def test_mean_is_weighted_by_time():
    """Samples that come close together at the start do not outweigh the rest."""
    sampler = Sampler()
    meter = Meter(sampler, "mean", 1.0, None)
    own = own_usage()
    start, first = meter._start, meter._last_rss
    for at, rss in ((1.0, first), (1.0, first + (100 << 20)), (9.0, first + (100 << 20))):
        reading = sampler.tree.walk(own)._replace(rss=rss)
        meter.take(Look(start + at, own, reading, {}, None))
    assert meter._area / meter._span == pytest.approx(first + (100 << 20) * 8 / 9)
    sampler.tree.close()

"""Stages in threads, pools, forks and programs: every record reaches its stage, and only its owner ends it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from subprocess import CompletedProcess

import pytest
from support import JobFiles, texts

from otel_stage import OtelStageError, current_stage, pipeline, stage, wrap

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def in_threads(*work: Callable[[], object]) -> None:
    """Run each in a thread of its own, to their ends."""
    threads = [threading.Thread(target=fn) for fn in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


# --- threads


def test_stages_of_threads_by_the_handle(job: JobFiles) -> None:
    """`job.stage` in threads: stages that are open at the same time keep their records apart."""
    both = threading.Barrier(3, timeout=20)

    def work(name: str) -> None:
        with run.stage(name) as st:
            both.wait()
            st.log.info("hello from %s", name)
            (st.dir / "out").write_text(name)
            st.track_output(st.dir / "out")
            assert current_stage() is st
            both.wait()

    with pipeline("p", job_dir=job.path) as run:
        in_threads(*(lambda name=name: work(name) for name in "abc"))
    for name in "abc":
        assert texts(job.stage_log(name)) == [f"hello from {name}"]
        assert [o["path"] for o in job.stage(name)["outputs"]] == [f"{job.folder(name).name}/out"]
        assert job.stage(name)["otel"]["parent_span_id"] == job.manifest["otel"]["span_id"]
    assert sorted(job.manifest["pipeline"]["completed_stages"]) == ["a", "b", "c"]


def test_a_stage_in_a_thread_without_a_handle_joins_the_only_pipeline(job: JobFiles) -> None:
    """`stage()` in a plain thread belongs to the sole open pipeline of the process."""

    def work() -> None:
        with stage("alone"):
            pass

    with pipeline("p", job_dir=job.path):
        in_threads(work)
    assert job.folders == ["01_alone"]


def test_what_a_wrapped_function_says_is_its_stages(job: JobFiles) -> None:
    """`wrap` carries the stage into a pool of threads, also while other stages are open."""

    def work(n: int) -> str:
        st = current_stage()
        st.log.info("item %d", n)
        st.track_output(st.dir / str(n)).write_text(str(n))
        return st.id

    with pipeline("p", job_dir=job.path) as run, ThreadPoolExecutor(2) as pool:
        with stage("one"):
            other = run.stage("two")
            with other:
                second = pool.map(wrap(work), range(3, 5))
                assert list(second) == ["two", "two"]
            assert list(pool.map(wrap(work), range(3))) == ["one"] * 3
    assert sorted(texts(job.stage_log("one"))) == ["item 0", "item 1", "item 2"]
    assert sorted(texts(job.stage_log("two"))) == ["item 3", "item 4"]
    assert sorted(o["path"] for o in job.stage("one")["outputs"]) == ["01_one/0", "01_one/1", "01_one/2"]


def test_records_of_plain_threads_go_to_the_sole_stage_else_to_the_pipeline_log(job: JobFiles) -> None:
    """A thread without context: its records belong to the only open stage; with two open, to the pipeline log."""
    import logging

    library = logging.getLogger("lib")
    with pipeline("p", job_dir=job.path) as run:
        with stage("a"):
            in_threads(lambda: library.warning("one is open"))
            with run.stage("b"):
                in_threads(lambda: library.warning("two are open"))
        in_threads(lambda: library.warning("none is open"))
    assert texts(job.stage_log("a")) == ["one is open"]
    assert job.stage_log("b") == []
    assert [r.text for r in job.pipeline_log if r.source == "lib"] == ["one is open", "two are open", "none is open"]


def test_current_stage_in_a_plain_thread(job: JobFiles) -> None:
    """`current_stage()` finds the sole open stage; where it cannot know, it says how to carry the stage over."""
    found: list[object] = []

    def look() -> None:
        try:
            found.append(current_stage().id)
        except OtelStageError as err:
            found.append(err)

    with pipeline("p", job_dir=job.path) as run, stage("a"):
        in_threads(look)
        with run.stage("b"):
            in_threads(look)
    assert found[0] == "a"
    assert "wrap" in str(found[1])


def test_wrap_keeps_name_result_and_exception(job: JobFiles) -> None:
    """A wrapped function is called as it was: arguments, result, exception and name."""

    def divide(a: int, b: int = 1) -> float:
        """Divides."""
        return a / b

    with pipeline("p", job_dir=job.path), stage("a"):
        wrapped = wrap(divide)
        assert wrapped(6, b=3) == 2
        assert (wrapped.__name__, wrapped.__doc__) == ("divide", "Divides.")
        with pytest.raises(ZeroDivisionError):
            wrapped(1, 0)
    assert wrapped(4) == 4
    assert wrap(divide)(4) == 4


def test_one_block_opened_by_two_threads(job: JobFiles) -> None:
    """What `job.stage` gives may be entered by several threads: each has a stage, and ends its own."""
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with block as st:
            first_in.set()
            assert second_in.wait(20)
            st.set_config(thread="first")
            st.log.info("said by first")
        first_out.set()

    def second() -> None:
        assert first_in.wait(20)
        with block as st:
            second_in.set()
            assert first_out.wait(20)
            st.set_config(thread="second")
            st.log.info("said by second")

    with pipeline("p", job_dir=job.path) as run:
        block = run.stage("a")
        in_threads(first, second)
    for ident in ("a", "a.2"):
        m = job.stage(ident)
        assert m["status"] == "success"
        assert texts(job.stage_log(ident)) == [f"said by {m['config']['thread']}"]


def test_a_thread_that_still_speaks_while_the_stage_ends(job: JobFiles, caplog: pytest.LogCaptureFixture) -> None:
    """A stage ends whole although a thread goes on to track and configure: what came in time is complete."""
    stop, started = threading.Event(), threading.Event()

    def speak() -> None:
        n = 0
        while not stop.is_set() and n < 20_000:
            st.track_output(st.dir / f"{n % 3000}.txt")
            st.set_config({f"key_{n % 3000}": n})
            n += 1
            if n == 50:
                started.set()

    with pipeline("p", job_dir=job.path, checksum="off"):
        with stage("a") as st:
            (st.dir / "0.txt").write_text("first")
            thread = threading.Thread(target=speak)
            thread.start()
            assert started.wait(20)
        stop.set()
        thread.join(30)
    m = job.stage("a")
    assert m["status"] == "success"
    assert m["outputs"][0]["size_bytes"] == 5
    assert m["outputs"][1]["exists"] is False
    assert not [r.message for r in caplog.records if r.name == "otel_stage" and "could not be recorded" in r.message]


def test_threads_write_whole_records(job: JobFiles) -> None:
    """Records of many threads never tear or mix, and none is lost."""

    def work(n: int) -> None:
        for i in range(100):
            st.log.info("thread %d line %d\nsecond line %d", n, i, i)

    with pipeline("p", job_dir=job.path), stage("a") as st:
        in_threads(*(lambda n=n: work(n) for n in range(4)))
    expected = sorted(f"thread {n} line {i}\nsecond line {i}" for n in range(4) for i in range(100))
    assert sorted(texts(job.stage_log("a"))) == expected
    assert sorted(text for text in texts(job.pipeline_log) if text.startswith("thread")) == expected


# --- programs


def test_a_handle_of_an_ended_run_is_no_way_in(job: JobFiles) -> None:
    """`job.stage` after the pipeline has ended is refused, and its files stay as they were sealed."""
    with pipeline("p", job_dir=job.path) as run:
        pass
    before = (job.path / "manifest.json").read_bytes()
    with pytest.raises(OtelStageError), run.stage("late"):
        pytest.fail("the block must not run")
    assert (job.path / "manifest.json").read_bytes() == before

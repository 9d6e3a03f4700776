"""Telemetry changes nothing: what else runs in the process is as it would be without us."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import JobFiles, run_python

from otel_stage import current_stage, pipeline, stage, wrap


def test_somebody_wraps_logging_while_a_pipeline_is_open(fresh: Path) -> None:
    """Another library's wrapper around ours makes no circle, now or in the next pipeline, and no line twice."""
    code = """
        import logging
        from otel_stage import pipeline, stage
        with pipeline("a", job_dir="a"), stage("s"):
            inner = logging.Logger.callHandlers
            logging.Logger.callHandlers = lambda self, record: inner(self, record)
        for name in ("b", "c"):
            with pipeline(name, job_dir=name), stage("s"):
                logging.getLogger("lib").warning("once")
    """
    run_python(code, cwd=fresh)
    for name in "bc":
        assert (fresh / name / "01_s/stage.log").read_text().count("once") == 1


def test_a_pipeline_that_closes_inside_catch_warnings(job: JobFiles) -> None:
    """Whoever restores `warnings.showwarning` around our block finds and leaves it as it was."""
    before = warnings.showwarning
    with pipeline("p", job_dir=job.path), stage("s"):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            with stage("t"):
                pass
    assert warnings.showwarning is before


def test_a_key_that_comes_again_overwrites_no_success(job: JobFiles) -> None:
    """Two inputs of one stem are two stages; what failed may be tried again in its place."""
    with pipeline("p", job_dir=job.path):
        for content in "ab":
            with stage("trim", key="reads") as st:
                (st.dir / "out").write_text(content)
        for fails in (True, False):
            try:
                with stage("map", key="reads") as st:
                    if fails:
                        raise RuntimeError
            except RuntimeError:
                continue
    assert job.folders == ["01_trim.reads", "02_trim.reads.2", "03_map.reads"]
    assert [(job.path / f / "out").read_text() for f in job.folders[:2]] == ["a", "b"]
    assert job.stage("map.reads")["attempt"] == 2


def test_a_stage_of_a_job_as_decorator_keeps_its_job(job: JobFiles, tmp_path: Path) -> None:
    """`@job.stage("x")` belongs to that job, also in a thread while other pipelines are open."""
    with pipeline("p", job_dir=job.path) as run:

        @run.stage("work")
        def work() -> str:
            return str(current_stage().dir)

        def elsewhere() -> str:
            with pipeline("q", job_dir=tmp_path / "q"):
                return work()

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(elsewhere).result().startswith(str(job.path))


def test_an_async_function_can_be_wrapped(job: JobFiles) -> None:
    """`wrap(async fn)` runs in the stage in which it was wrapped, in any loop and thread."""

    async def name() -> str:
        await asyncio.sleep(0)
        return current_stage().id

    with pipeline("p", job_dir=job.path), stage("s"):
        wrapped = wrap(name)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: asyncio.run(wrapped())).result() == "s"


def test_large_and_tangled_arguments_are_not_walked_without_end(job: JobFiles) -> None:
    """A list of numbers and a fully linked graph are looked at in bounded work."""
    looked = 0

    class Counting(list):
        def __iter__(self):
            nonlocal looked
            for item in super().__iter__():
                looked += 1
                yield item

    @stage
    def take(values: list, graph: dict) -> list:
        return values

    nodes: list[dict] = [{} for _ in range(40)]
    for node in nodes:
        node.update({str(n): other for n, other in enumerate(nodes)})
    with pipeline("p", job_dir=job.path):
        take(Counting(range(3_000_000)), nodes[0])
    assert looked < 1_000_000
    assert job.stage("take")["status"] == "success"


def test_a_stage_that_outlives_its_pipeline_is_written_down(job: JobFiles) -> None:
    """A thread's stage that ends after the block is in the job manifest as it ended."""
    go, opened = threading.Event(), threading.Event()

    def late() -> None:
        with stage("late"):
            opened.set()
            go.wait(10)

    with pipeline("p", job_dir=job.path):
        thread = threading.Thread(target=late)
        thread.start()
        opened.wait(10)
    go.set()
    thread.join()
    assert job.manifest["pipeline"]["completed_stages"] == ["late"]
    assert job.manifest["pipeline"]["running_stages"] == []


def test_counters_hold_while_others_write(job: JobFiles) -> None:
    """Lines and bytes of stage.log in the manifest are those of the file, though threads speak to the end."""
    with pipeline("p", job_dir=job.path, console="off"):
        for n in range(10):
            stop = threading.Event()
            with stage("s") as st:

                def speak(st=st, stop=stop) -> None:
                    while not stop.is_set():
                        st.log.debug("again")

                threads = [threading.Thread(target=speak) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for _ in range(100):
                    st.log.debug("own")
            stop.set()
            for thread in threads:
                thread.join()
            log = job.stage("s" if n == 0 else f"s.{n + 1}")["log"]
            data = (job.path / log["path"]).read_bytes()[: log["size_bytes"]]
            assert (len(data), data.count(b"\n")) == (log["size_bytes"], log["lines"])


def test_secrets_of_paths_environments_and_endpoints(job: JobFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths that differ in a secret stay two artifacts; a child's secret is known; none is anywhere."""
    with pipeline("p", job_dir=job.path, console="off"), stage("s") as st:
        for n in "ab":
            (st.dir / f"session_id=hunter2{n}").write_text(n)
            st.track_output(st.dir / f"session_id=hunter2{n}")
        st.run(["sh", "-c", "echo $CHILD_API_TOKEN"], env={"CHILD_API_TOKEN": "correct-horse-9", "PATH": "/usr/bin:/bin"})
    assert len(job.stage("s")["outputs"]) == 2
    assert b"correct-horse-9" not in job.everything()
    text = json.dumps(job.stage("s"))
    assert "hunter2" not in text


def test_a_stages_own_folder_as_output_promises_no_checksum(job: JobFiles) -> None:
    """It holds stage.log and the manifest, which change; the record says so instead of a wrong checksum."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        (st.dir / "x").write_text("x")
        st.track_output(st.dir)
    m = job.stage("s")
    assert "checksum" not in m["outputs"][0]
    assert "track what is in it" in m["warnings"][0]["message"]


def test_what_could_not_be_recorded_is_a_warning_in_the_manifest(job: JobFiles, caplog: pytest.LogCaptureFixture) -> None:
    """One WARNING on logger `otel_stage`, one in the manifest, one line."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_input(123)  # type: ignore[arg-type]
    assert len([r for r in caplog.records if r.name == "otel_stage"]) == 1
    assert len(job.stage("s")["warnings"]) == 1
    assert job.stage_log("s")[0].count("could not be recorded") if isinstance(job.stage_log("s")[0], str) else True


def test_children_of_the_stages_logger_speak_too(job: JobFiles) -> None:
    """`st.log.getChild("x")` reaches stage.log at every level, under its own name."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.log.getChild("decoder").debug("deep")
        logging.LoggerAdapter(st.log).info("adapted")
    text = (job.path / "01_s/stage.log").read_text()
    assert "[stage.s.decoder] [DEBUG] deep" in text
    assert "adapted" in text


def test_what_a_handler_logs_itself_is_heard_too(job: JobFiles) -> None:
    """A handler of the application that logs while it handles loses nothing of its own."""

    class Telling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name == "lib":
                logging.getLogger("inner").warning("from within")

    handler = Telling()
    logging.getLogger("lib").addHandler(handler)
    try:
        with pipeline("p", job_dir=job.path), stage("s"):
            logging.getLogger("lib").warning("outer")
    finally:
        logging.getLogger("lib").removeHandler(handler)
    text = (job.path / "01_s/stage.log").read_text()
    assert (text.count("outer"), text.count("from within")) == (1, 1)

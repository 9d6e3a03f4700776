"""Stages in process pools, forks and programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest
from support import JobFiles, texts

from otel_stage import pipeline, stage

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


POOL = """
import logging, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
from otel_stage import current_stage, pipeline, stage, wrap

def within(n):
    st = current_stage()
    st.log.info("item %d", n)
    logging.getLogger("lib").warning("library %d", n)
    st.set_config({f"item_{n}": n})
    st.add_warning(f"warning {n}")
    st.track_output(st.dir / f"{n}.txt").write_text("x" * n)
    return os.getpid()

def own(n):
    with stage("sample", key=n) as st:
        st.log.info("own %d", n)
        logging.getLogger("lib").warning("library %d", n)
    return os.getpid()

if __name__ == "__main__":
    job_dir, method, way, per_child = sys.argv[1:]
    context = multiprocessing.get_context(method)
    options = {"mp_context": context, "max_workers": 2}
    if per_child != "0":
        options["max_tasks_per_child"] = int(per_child)
    with pipeline("p", job_dir=job_dir) as job:
        if way == "wrap":
            with stage("outer"), ProcessPoolExecutor(**options) as pool:
                pids = set(pool.map(wrap(within), range(4)))
        elif way == "late":
            # The workers exist before the stage does.
            with ProcessPoolExecutor(**options) as pool:
                list(pool.map(abs, range(4)))
                with stage("outer"):
                    pids = set(pool.map(wrap(within), range(4)))
        else:
            with ProcessPoolExecutor(initializer=job.join_process, **options) as pool:
                pids = set(pool.map(own, range(4)))
    assert os.getpid() not in pids
"""


METHODS = ["spawn", pytest.param("fork", marks=forks)]


@pytest.mark.parametrize(("method", "way"), [("spawn", "wrap"), ("fork", "wrap"), ("fork", "late")])
def test_wrap_reaches_processes_of_a_pool(job: JobFiles, python: Python, method: str, way: str) -> None:
    """Logs, config, warnings and artifacts of workers stand with the stage; it ends once, by its owner."""
    done = python(POOL, job.path, method, way, 0)
    m = job.stage("outer")
    assert m["status"] == "success"
    assert m["config"] == {f"item_{n}": n for n in range(4)}
    assert sorted(w["message"] for w in m["warnings"]) == [f"warning {n}" for n in range(4)]
    outputs = {o["path"]: o for o in m["outputs"]}
    assert sorted(outputs) == [f"01_outer/{n}.txt" for n in range(4)]
    assert [outputs[f"01_outer/{n}.txt"]["size_bytes"] for n in range(4)] == [0, 1, 2, 3]
    assert all(o["checksum"].startswith("sha256:") for o in outputs.values())
    said = job.stage_log("outer")
    for n in range(4):
        assert ("stage.outer", "INFO", f"item {n}") in said
        assert ("lib", "WARNING", f"library {n}") in said
    assert len(said) == 12
    assert m["log"]["lines"] == (job.path / "01_outer/stage.log").read_bytes().count(b"\n")
    lines = texts(job.pipeline_log)
    assert len([t for t in lines if t.startswith("✓ Stage outer")]) == 1
    assert [e["event"] for e in job.journal("01_outer")].count("stage.end") == 1
    assert done.stderr.count("✓ Stage outer") == 1


@pytest.mark.parametrize(("method", "per_child"), [("spawn", 0), ("spawn", 1), pytest.param("fork", 0, marks=forks)])
def test_stages_of_workers_that_joined(job: JobFiles, python: Python, method: str, per_child: int) -> None:
    """With `initializer=job.join_process` each task may open stages of the run; ten in, ten out, also recycled."""
    python(POOL, job.path, method, "join", per_child)
    ids = [f"sample.{n}" for n in range(4)]
    m = job.manifest
    assert sorted(m["pipeline"]["completed_stages"]) == ids
    assert m["pipeline"]["status"] == "success"
    assert len(job.pipeline_logs) == 1
    for n in range(4):
        stage_manifest = job.stage(f"sample.{n}")
        assert stage_manifest["status"] == "success"
        assert stage_manifest["otel"]["trace_id"] == m["otel"]["trace_id"]
        assert stage_manifest["otel"]["parent_span_id"] == m["otel"]["span_id"]
        assert texts(job.stage_log(f"sample.{n}")) == [f"own {n}", f"library {n}"]
    lines = texts(job.pipeline_log)
    assert sum(t.startswith("▶ Stage") for t in lines) == sum(t.startswith("✓ Stage") for t in lines) == 4
    assert sorted(m["stages"][i]["stage_number"] for i in ids) == [1, 2, 3, 4]


@pytest.mark.parametrize("method", METHODS)
def test_open_stages_and_pipelines_pickle_to_handles(job: JobFiles, python: Python, method: str) -> None:
    """A stage or a pipeline given to a worker as an argument is the same one there."""
    python(
        """
        import multiprocessing, sys
        from concurrent.futures import ProcessPoolExecutor
        from otel_stage import pipeline, stage
        def speak(st):
            st.log.info("from %s", st.id)
            st.set_config(worker=True)
            return st.id, st.number, str(st.dir)
        def work(job, n):
            with job.stage("own", key=n) as st:
                st.log.info("own %d", n)
            return job.run_id
        if __name__ == "__main__":
            with pipeline("p", job_dir=sys.argv[1], console="off") as job, stage("outer") as st:
                context = multiprocessing.get_context(sys.argv[2])
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    assert pool.submit(speak, st).result() == (st.id, st.number, str(st.dir))
                    assert pool.submit(work, job, 1).result() == job.run_id
        """,
        job.path, method,
    )  # fmt: skip
    assert texts(job.stage_log("outer")) == ["from outer"]
    assert job.stage("outer")["config"] == {"worker": True}
    assert texts(job.stage_log("own.1")) == ["own 1"]
    assert sorted(job.manifest["pipeline"]["completed_stages"]) == ["outer", "own.1"]


@forks
def test_forks_beside_busy_threads_do_not_hang(job: JobFiles, python: Python) -> None:
    """Children forked while other threads log can log too: no lock of ours is left held in them."""
    python(
        """
        import logging, os, sys, threading, time
        from otel_stage import pipeline, stage
        with pipeline("p", job_dir=sys.argv[1], console="off"), stage("a") as st:
            stop = threading.Event()
            def spin():
                while not stop.is_set():
                    st.log.debug("busy")
                    logging.getLogger("lib").error("busy too")
            logging.getLogger("lib").propagate = False
            logging.getLogger("lib").addHandler(logging.NullHandler())
            threads = [threading.Thread(target=spin) for _ in range(2)]
            for thread in threads:
                thread.start()
            for n in range(15):
                pid = os.fork()
                if pid == 0:
                    st.log.info("child %d", n)
                    st.set_config({f"child_{n}": n})
                    os._exit(0)
                deadline = time.monotonic() + 20
                while os.waitpid(pid, os.WNOHANG) == (0, 0):
                    assert time.monotonic() < deadline, f"child {n} hangs"
                    time.sleep(0.002)
            stop.set()
            for thread in threads:
                thread.join()
        """,
        job.path,
    )
    said = texts(job.stage_log("a"))
    assert [text for text in said if text.startswith("child")] == [f"child {n}" for n in range(15)]
    assert job.stage("a")["config"] == {f"child_{n}": n for n in range(15)}


@forks
@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)", "raise RuntimeError('in the child')", "pass"])
def test_a_forked_child_never_ends_its_parents_stage(job: JobFiles, python: Python, leave: str) -> None:
    """However a forked child leaves the block, stage and pipeline are ended by their owner, once."""
    python(
        f"""
        import os, sys
        from otel_stage import pipeline, stage
        parent = os.getpid()
        with pipeline("p", job_dir=sys.argv[1]), stage("a") as st:
            pid = os.fork()
            if pid == 0:
                st.log.info("from the child")
                {leave}
            else:
                os.waitpid(pid, 0)
                assert st.dir.is_dir()
                st.log.info("from the parent")
                import json
                assert json.loads((st.dir / "manifest.json").read_text())["status"] == "running"
        """,
        job.path,
    )
    assert job.stage("a")["status"] == "success"
    # From 3.12 on Python itself warns about forks beside threads, which is recorded too.
    said = [record.text for record in job.stage_log("a") if record.source == "stage.a"]
    assert said == ["from the child", "from the parent"]
    assert [e["event"] for e in job.journal("01_a")].count("stage.end") == 1
    assert [e["event"] for e in job.journal()].count("job.end") == 1
    lines = texts(job.pipeline_log)
    assert sum(t.startswith("✓ Stage a") for t in lines) == 1
    assert job.manifest["pipeline"]["status"] == "success"


@forks
def test_a_forked_child_may_open_stages_of_its_own(job: JobFiles, python: Python) -> None:
    """A stage opened in a forked child is the child's: it ends there, in the same run."""
    python(
        """
        import os, sys
        from otel_stage import pipeline, stage
        with pipeline("p", job_dir=sys.argv[1]), stage("a"):
            pid = os.fork()
            if pid == 0:
                with stage("b") as st:
                    st.log.info("mine")
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            with stage("c"):
                pass
        """,
        job.path,
    )
    assert job.folders == ["01_a", "02_b", "03_c"]
    assert sorted(job.manifest["pipeline"]["completed_stages"]) == ["a", "b", "c"]
    assert job.stage("b")["otel"]["parent_span_id"] == job.stage("a")["otel"]["span_id"]
    assert texts(job.stage_log("b")) == ["mine"]


def test_a_program_started_with_the_stages_environment(job: JobFiles, python: Python) -> None:
    """`st.child_env()` makes a program's stages children of the stage; `job.child_env()` of the pipeline."""
    code = "from otel_stage import stage\nwith stage('{}') as st:\n    st.log.info('hello')\n"
    with pipeline("p", job_dir=job.path) as run, stage("outer") as st:
        python(code.format("in_stage"), env=st.child_env())
        before = dict(os.environ)
        assert st.child_env({"PATH": "/bin", "TRACESTATE": "stale=1"}).keys() == {
            "PATH", "TRACEPARENT", "OTEL_STAGE_JOB_DIR", "OTEL_STAGE_RUN_ID",
        }  # fmt: skip
        assert dict(os.environ) == before
    assert job.stage("in_stage")["otel"]["parent_span_id"] == job.stage("outer")["otel"]["span_id"]
    assert job.stage("in_stage")["run_id"] == run.run_id
    assert job.manifest["pipeline"]["completed_stages"] == ["outer", "in_stage"]
    assert "hello" in texts(job.pipeline_log)


@pytest.mark.slow
def test_many_processes_share_one_pipeline_log(job: JobFiles, python: Python) -> None:
    """Eight processes, each with a stage, write one pipeline log and one journal: no line is torn, mixed or lost."""
    python(
        """
        import subprocess, sys
        from otel_stage import pipeline, stage
        if len(sys.argv) > 2:
            with stage("worker", key=sys.argv[2]) as st:
                for n in range(200):
                    st.log.info("worker %s line %d%s", sys.argv[2], n, "\\nmore" * (n % 3) + "." * (n * 7 % 400))
        else:
            with pipeline("p", job_dir=sys.argv[1]) as job:
                command = [sys.executable, *sys.argv]
                started = [subprocess.Popen([*command, str(n)], env=job.child_env()) for n in range(8)]
                assert [p.wait() for p in started] == [0] * 8
        """,
        job.path, env={"OTEL_STAGE_CONSOLE": "off"},
    )  # fmt: skip
    assert sorted(job.manifest["pipeline"]["completed_stages"]) == [f"worker.{n}" for n in range(8)]
    expected = {
        n: [f"worker {n} line {i}" + "\nmore" * (i % 3) + "." * (i * 7 % 400) for i in range(200)] for n in range(8)
    }
    shared = texts(job.pipeline_log)
    for n, lines in expected.items():
        assert texts(job.stage_log(f"worker.{n}")) == lines
        assert [text for text in shared if text.startswith(f"worker {n} ")] == lines
    assert len(shared) == 8 * 202 + 2
    assert sorted(entry["stage_number"] for entry in job.manifest["stages"].values()) == list(range(1, 9))

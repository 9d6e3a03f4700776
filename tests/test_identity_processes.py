"""Runs and stages across processes: who may open, who joins, and jobs that no pipeline holds together."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support import JobFiles, run_stages, start_python, texts

from otel_stage import pipeline, stage
from otel_stage.errors import JobBusyError

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]


HOLDER = """
import sys
from otel_stage import pipeline
with pipeline("holder", job_dir=sys.argv[1], console="off") as job:
    with job.stage("long"):
        print(job.run_id, flush=True)
        sys.stdin.readline()
"""


def test_a_live_directory_is_refused_and_the_holder_named(job: JobFiles, fresh: Path) -> None:
    """Opening a live run's directory raises, naming host, pid, pipeline and since when; nothing is harmed."""
    with start_python(HOLDER, job.path, cwd=fresh) as holder:
        run_id = holder.stdout.readline().strip()
        with pytest.raises(JobBusyError) as caught, pipeline("other", job_dir=job.path):
            pytest.fail("the block must not run")
        text = str(caught.value)
        for part in (str(job.path), run_id, "'holder'", str(holder.pid), socket.gethostname()):
            assert part in text
        assert re.search(r"since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text)
        holder.stdin.write("\n")
        holder.stdin.close()
        assert holder.wait(30) == 0
    assert job.manifest["run_id"] == run_id
    assert job.manifest["pipeline"]["status"] == "success"
    run_stages(job, "after")


def test_a_dead_holder_keeps_nobody_out(job: JobFiles, fresh: Path) -> None:
    """After `kill -9` the next run opens at once: no lock outlives its process."""
    with start_python(HOLDER, job.path, cwd=fresh) as holder:
        run_id = holder.stdout.readline().strip()
        holder.kill()
        holder.wait(30)
    assert run_stages(job, "long") != run_id
    assert job.stage("long")["status"] == "success"
    assert job.stage("long")["stage_number"] == 1


def test_joining_by_the_environment(job: JobFiles, python: Python) -> None:
    """With the live run's id in the environment, `pipeline()` and `stage()` elsewhere are parts of that run."""
    with pipeline("outer", job_dir=job.path) as run:
        python(
            """
            from otel_stage import pipeline, stage
            with stage("loose"):
                pass
            """,
            env=run.child_env(),
        )
        done = python(
            """
            from otel_stage import pipeline, stage
            with pipeline("inner", console="off") as job:
                print(job.run_id, job.dir)
                with stage("within"):
                    pass
            """,
            env=run.child_env(),
        )
        assert done.stdout.split() == [run.run_id, str(job.path)]
        with stage("own"):
            pass
    m = job.manifest
    assert m["name"] == "outer"
    assert m["pipeline"]["completed_stages"] == ["loose", "within", "own"]
    assert len(job.pipeline_logs) == 1
    assert {job.stage(name)["otel"]["trace_id"] for name in ("loose", "within", "own")} == {m["otel"]["trace_id"]}
    assert {job.stage(name)["run_id"] for name in ("loose", "within", "own")} == {run.run_id}
    assert job.stage("loose")["otel"]["parent_span_id"] == m["otel"]["span_id"]
    assert job.stage("within")["otel"]["parent_span_id"] != m["otel"]["span_id"]
    assert sum("Pipeline" in text and "SUCCESS" in text for text in texts(job.pipeline_log)) == 1


def test_another_runs_id_does_not_join(job: JobFiles, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale `OTEL_STAGE_RUN_ID` does not open a live run's directory."""
    with start_python(HOLDER, job.path, cwd=fresh) as holder:
        holder.stdout.readline()
        monkeypatch.setenv("OTEL_STAGE_RUN_ID", "20200101T000000Z-00000000")
        with pytest.raises(JobBusyError), pipeline("other", job_dir=job.path):
            pytest.fail("the block must not run")
        holder.stdin.close()


STAGE = """
import sys
from otel_stage import stage
with stage(sys.argv[1]) as st:
    print(st.id, st.number)
    if len(sys.argv) > 2:
        raise SystemExit(int(sys.argv[2]))
"""


def test_a_job_of_stages_alone(job: JobFiles, python: Python) -> None:
    """Stage scripts of a shell script are one open-ended run; each is a trace, its status is derived."""
    env = {"OTEL_STAGE_JOB_DIR": str(job.path)}
    assert python(STAGE, "a", env=env).stdout.split() == ["a", "1"]
    assert python(STAGE, "b", 3, env=env, check=False).returncode == 3
    m = job.manifest
    assert m["pipeline"]["status"] == "failed"
    assert m["pipeline"]["completed_stages"] == ["a"]
    assert m["pipeline"]["failed_stages"] == ["b"]
    assert job.stage("a")["run_id"] == job.stage("b")["run_id"] == m["run_id"]
    assert job.stage("a")["otel"]["trace_id"] != job.stage("b")["otel"]["trace_id"]
    assert job.stage("a")["otel"]["parent_span_id"] is None
    assert len(job.pipeline_logs) == 1


def test_a_second_attempt_in_an_open_ended_run(job: JobFiles, python: Python) -> None:
    """A stage whose process is gone may be tried again: same folder, attempt 2, the old record aside."""
    env = {"OTEL_STAGE_JOB_DIR": str(job.path)}
    python(STAGE, "a", 1, env=env, check=False)
    assert python(STAGE, "a", env=env).stdout.split() == ["a", "1"]
    m = job.stage("a")
    assert (m["attempt"], m["status"]) == (2, "success")
    assert job.manifest["pipeline"]["status"] == "success"
    old = [json.loads(p.read_bytes()) for p in (job.path / ".otel-stage/runs").rglob("manifest.json")]
    assert [(o["status"], o["attempt"], o["run_id"]) for o in old] == [("failed", 1, m["run_id"])]
    assert "▶ Stage 1: a (attempt 2)" in texts(job.pipeline_log)


def test_a_live_stage_of_an_open_ended_run_gives_the_newcomer_the_next_key(
    job: JobFiles, fresh: Path, python: Python
) -> None:
    """While the first `a` lives the second one is `a.2`, and the job is `running`."""
    env = {"OTEL_STAGE_JOB_DIR": str(job.path)}
    code = (
        "import sys\nfrom otel_stage import stage\nwith stage('a'):\n    print(flush=True)\n    sys.stdin.readline()\n"
    )
    with start_python(code, cwd=fresh, env=env) as first:
        first.stdout.readline()
        assert python(STAGE, "a", env=env).stdout.split() == ["a.2", "2"]
        assert job.manifest["pipeline"]["status"] == "running"
        first.stdin.close()
        assert first.wait(30) == 0
    assert job.manifest["pipeline"]["completed_stages"] == ["a", "a.2"]
    assert job.manifest["pipeline"]["status"] == "success"


def test_stages_that_start_a_job_together_are_one_run(job: JobFiles, fresh: Path) -> None:
    """Processes that find an empty directory at the same moment agree on one run, and on numbers."""
    env = {"OTEL_STAGE_JOB_DIR": str(job.path)}
    started = [start_python(STAGE, f"s{n}", cwd=fresh, env=env) for n in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    said = [process.communicate()[1] for process in started]
    assert sorted(job.manifest["pipeline"]["completed_stages"]) == ["s0", "s1", "s2", "s3"], (job.manifest, said)
    assert sorted(name[:2] for name in job.folders) == ["01", "02", "03", "04"]
    assert len({job.stage(f"s{n}")["run_id"] for n in range(4)}) == 1
    assert len(job.pipeline_logs) == 1


def test_a_pipeline_after_an_open_ended_run_is_a_run_of_its_own(job: JobFiles, python: Python) -> None:
    """`pipeline()` in the directory of finished loose stages begins anew and keeps their records aside."""
    python(STAGE, "a", env={"OTEL_STAGE_JOB_DIR": str(job.path)})
    first = job.manifest["run_id"]
    assert run_stages(job, "b", "a") != first
    assert job.folders == ["01_a", "02_b"]
    assert "open_ended" not in job.manifest
    assert list((job.path / ".otel-stage/runs" / first).rglob("manifest.json"))


def test_the_trace_context_of_an_orchestrator_is_taken_on(job: JobFiles, python: Python) -> None:
    """With TRACEPARENT in the environment stages and pipelines are children of that span."""
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    python(STAGE, "a", env={"OTEL_STAGE_JOB_DIR": str(job.path), "TRACEPARENT": f"00-{trace}-{span}-01"})
    otel = job.stage("a")["otel"]
    assert (otel["trace_id"], otel["parent_span_id"]) == (trace, span)

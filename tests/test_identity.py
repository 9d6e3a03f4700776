"""Who a run, a stage and a number are: within a run, from run to run, and across processes."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support import JobFiles, run_stages, texts

from otel_stage import OtelStageError, pipeline, stage
from otel_stage.errors import PipelineError, StageNumberError

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]


# --- ids, keys and numbers


def test_a_repeated_name_gets_the_next_key(job: JobFiles) -> None:
    """The second `bwa` of a run is `bwa.2`, the third `bwa.3`; the manifest says stage and key."""
    run_stages(job, "bwa", "sort", "bwa", "bwa")
    assert job.folders == ["01_bwa", "02_sort", "03_bwa.2", "04_bwa.3"]
    m = job.stage("bwa.3")
    assert (m["stage"], m["key"], m["stage_number"]) == ("bwa", "3", 4)
    assert job.manifest["pipeline"]["completed_stages"] == ["bwa", "sort", "bwa.2", "bwa.3"]


def test_keys_of_the_user(job: JobFiles) -> None:
    """A key makes the id `name.key`; keys may hold dots, and integers are keys too."""
    with pipeline("p", job_dir=job.path):
        for key in ("sampleA", "v1.2", 7):
            with stage("bwa", key=key) as st:
                assert st.id == f"bwa.{key}"
    assert job.folders == ["01_bwa.sampleA", "02_bwa.v1.2", "03_bwa.7"]
    assert job.stage("bwa.v1.2")["stage"] == "bwa"
    assert job.stage("bwa.v1.2")["key"] == "v1.2"


def test_a_repeated_name_does_not_take_a_users_key(job: JobFiles) -> None:
    """Where the user has taken key `2`, the second stage without a key is `3`."""
    with pipeline("p", job_dir=job.path):
        for key in (None, "2", None):
            with stage("bwa", key=key):
                pass
    assert job.folders == ["01_bwa", "02_bwa.2", "03_bwa.3"]


def test_numbers_given_and_taken(job: JobFiles) -> None:
    """A given number is the stage's; the next one goes on behind the highest."""
    with pipeline("p", job_dir=job.path):
        for name, number in (("a", 5), ("b", None), ("c", 2), ("d", 120), ("e", 0)):
            with stage(name, number=number):
                pass
    assert sorted(job.folders) == ["00_e", "02_c", "05_a", "06_b", "120_d"]


def test_one_number_for_two_stages_names_the_owner(job: JobFiles) -> None:
    """A number that is taken is an error which names owner and directory; the run goes on."""
    with pipeline("p", job_dir=job.path):
        with stage("a", number=3):
            pass
        with pytest.raises(StageNumberError, match=f"'b'.*3.*'a'.*{re.escape(str(job.path))}"), stage("b", number=3):
            pytest.fail("the block must not run")
        with pytest.raises(RuntimeError), stage("b", key="k"):
            raise RuntimeError
        with pytest.raises(StageNumberError, match="'b.k'.*7.*it has number 4"), stage("b", key="k", number=7):
            pytest.fail("the block must not run")
    assert job.folders == ["03_a", "04_b.k"]


def test_a_list_of_names_reserves_numbers(job: JobFiles) -> None:
    """`stages=[...]` gives numbers in list order, whatever the order of opening; others come behind."""
    run_stages(job, "mux", "extra", "demux", stages=["demux", "asr", "mux"])
    assert job.folders == ["01_demux", "03_mux", "04_extra"]
    lines = texts(job.pipeline_log)
    assert "▶ Stage 3/3: mux" in lines
    assert "▶ Stage 1/3: demux" in lines


def test_numbers_are_stable_over_runs(job: JobFiles) -> None:
    """A number belongs to an id for the life of the directory: order and omissions change nothing."""
    run_stages(job, "a", "b", "c")
    run_stages(job, "c", "d", "a")
    assert job.folders == ["01_a", "02_b", "03_c", "04_d"]
    assert job.manifest["pipeline"]["completed_stages"] == ["c", "d", "a"]
    run_stages(job, "e", stages=["x", "b"])
    # 5 was reserved for `x`, which did not open.
    assert "06_e" in job.folders
    run_stages(job, "x")
    assert "05_x" in job.folders


def test_the_same_script_in_another_process_has_the_same_numbers(job: JobFiles, python: Python) -> None:
    """Numbers are kept on disk: a process that runs the stages in another order finds the same folders."""
    run_stages(job, "a", "b.k")
    done = python(
        """
        import sys
        from otel_stage import pipeline
        with pipeline("p", job_dir=sys.argv[1], console="off") as job:
            for name, key in (("b", "k"), ("c", None), ("a", None)):
                with job.stage(name, key=key) as st:
                    print(st.dir.name)
        """,
        job.path,
    )
    assert done.stdout.split() == ["02_b.k", "03_c", "01_a"]


# --- runs


def test_a_second_run_moves_the_first_aside(job: JobFiles) -> None:
    """What a later run replaces lies whole under `.otel-stage/runs/<run_id>/`; the top shows the latest."""
    with pipeline("p", job_dir=job.path) as run, stage("a") as st:
        st.log.info("first run")
        (st.dir / "out.txt").write_text("kept")
        first = run.run_id
    before = {
        name: (job.path / name).read_bytes() for name in ("manifest.json", "01_a/manifest.json", "01_a/stage.log")
    }
    second = run_stages(job, "a", "b")
    assert first != second
    kept = {p.read_bytes() for p in (job.path / ".otel-stage/runs" / first).rglob("*") if p.is_file()}
    for name, data in before.items():
        assert data in kept, name
    assert job.stage("a")["run_id"] == job.manifest["run_id"] == second
    assert job.stage_log("a") == []
    assert (job.path / "01_a/out.txt").read_text() == "kept"
    assert len(job.pipeline_logs) == 2


def test_a_stage_that_a_later_run_leaves_out_keeps_its_record(job: JobFiles) -> None:
    """Only what is about to be replaced moves: the folder of a stage that did not run again stays as it was."""
    first = run_stages(job, "a", "b")
    run_stages(job, "a")
    assert job.stage("b")["run_id"] == first
    assert list(job.manifest["stages"]) == ["a"]


def test_runs_within_one_second_have_logs_of_their_own(job: JobFiles) -> None:
    """Pipeline logs are created exclusively: each run has its file, and each file one run."""
    ids = [run_stages(job, "a") for _ in range(3)]
    logs = [p.read_text() for p in job.pipeline_logs]
    assert len(logs) == 3
    assert [sum(run_id in text for text in logs) for run_id in ids] == [1, 1, 1]
    assert len(set(ids)) == 3


def test_one_stage_id_again_with_a_key_is_a_new_attempt(job: JobFiles) -> None:
    """A key opened again in one run is the same stage, attempt 2; the first record is moved aside."""
    with pipeline("p", job_dir=job.path):
        with pytest.raises(ValueError), stage("align", key="A"):
            raise ValueError("flaky")
        with stage("align", key="A"):
            pass
    m = job.stage("align.A")
    assert (m["attempt"], m["status"], m["stage_number"]) == (2, "success", 1)
    assert job.folders == ["01_align.A"]
    old = [json.loads(p.read_bytes()) for p in (job.path / ".otel-stage/runs").rglob("manifest.json")]
    assert [(o["attempt"], o["status"]) for o in old if o.get("stage") == "align"] == [(1, "failed")]
    assert job.manifest["pipeline"]["failed_stages"] == []


def test_without_a_job_dir_a_fresh_one_is_made(fresh: Path) -> None:
    """Runs without `job_dir` go to ROOT/YYYY/MM/DD/<pipeline>/<n>, under `out` by default."""
    found = []
    for options in ({}, {}, {"root": "elsewhere"}):
        with pipeline("subtitles", **options) as run:
            found.append(run.dir.relative_to(fresh).as_posix())
    day = r"\d{4}/\d\d/\d\d/subtitles"
    for path, pattern in zip(found, (f"out/{day}/1", f"out/{day}/2", f"elsewhere/{day}/1"), strict=True):
        assert re.fullmatch(pattern, path)


def test_the_environment_names_the_job_dir(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument `OTEL_STAGE_JOB_DIR` is the job directory; the argument wins."""
    monkeypatch.setenv("OTEL_STAGE_JOB_DIR", str(fresh / "by_env"))
    with pipeline("p") as run:
        assert run.dir == fresh / "by_env"
    with pipeline("p", job_dir=fresh / "by_argument") as run:
        assert run.dir == fresh / "by_argument"


# --- pipelines within pipelines, in threads, one after another


def test_a_pipeline_in_a_pipeline_is_refused(job: JobFiles, fresh: Path) -> None:
    """The inner one raises before a file is made, names the outer one and says what to use."""
    with pipeline("outer", job_dir=job.path):
        with pytest.raises(PipelineError, match=r"'inner'.*'outer'.*stage\(\)"), pipeline("inner", job_dir=fresh / "x"):
            pytest.fail("the block must not run")
        with stage("a"), pytest.raises(PipelineError), pipeline("inner"):
            pytest.fail("the block must not run")
    assert not (fresh / "x").exists()
    assert job.manifest["pipeline"]["status"] == "success"


def test_pipelines_of_two_threads_keep_apart(fresh: Path) -> None:
    """Two threads may each run a pipeline in a directory of its own; nothing of one is in the other."""
    both = threading.Barrier(2, timeout=20)
    jobs = {name: JobFiles(fresh / name) for name in ("one", "two")}

    def work(name: str) -> None:
        with pipeline(name, job_dir=jobs[name].path):
            both.wait()
            with stage("s") as st:
                both.wait()
                st.log.info("says %s", name)
                both.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for name, job in jobs.items():
        assert job.manifest["name"] == name
        assert texts(job.stage_log("s")) == [f"says {name}"]


def test_a_pipeline_object_opens_once(job: JobFiles) -> None:
    """One object is one run: opening it again is an error, using it unopened too."""
    run = pipeline("p", job_dir=job.path)
    with pytest.raises(OtelStageError, match="not open"):
        _ = run.dir
    with run:
        pass
    with pytest.raises(OtelStageError), run:
        pytest.fail("the block must not run")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_many_pipelines_in_one_process_leave_no_open_files(fresh: Path) -> None:
    """A process may run pipelines without end: what a finished one had open is closed."""
    run_stages(JobFiles(fresh / "first"), "a", "b")
    before = len(os.listdir("/proc/self/fd"))
    for n in range(10):
        run_stages(JobFiles(fresh / f"job{n}"), "a", "b")
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_export_env_changes_the_environment_and_puts_it_back(job: JobFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.environ` is untouched unless asked for, and restored after."""
    monkeypatch.setenv("TRACESTATE", "stale=1")
    before = dict(os.environ)
    with pipeline("p", job_dir=job.path) as run:
        assert dict(os.environ) == before
        env = run.child_env()
        assert "TRACESTATE" not in env
        assert dict(os.environ) == before
    with pipeline("p", job_dir=job.path, export_env=True) as run:
        assert os.environ["OTEL_STAGE_RUN_ID"] == run.run_id
        assert os.environ["OTEL_STAGE_JOB_DIR"] == str(job.path)
        assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]", os.environ["TRACEPARENT"])
    assert dict(os.environ) == before

"""Finding and loading job directories: pure reading, and the truth about runs that never said how they ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import JobFiles, run_python, start_python

from otel_stage import pipeline, stage
from otel_stage.errors import ManifestError
from otel_stage.jobdir import this_process
from otel_stage.jobdir._liveness import is_alive
from otel_stage.manifest import event_line, now_ns, to_json
from otel_stage.runs import earlier_runs, find_jobs, load_job, load_stage
from otel_stage.testing import FileSpec, StageSpec, write_job, write_jobs, write_seed_job

needs_posix = pytest.mark.skipif(os.name != "posix", reason="POSIX record locks and signals")


def _snapshot(root: Path) -> dict[str, Any]:
    """All that a writer would change: names, times, sizes and content."""
    found = {}
    for path in [root, *root.rglob("*")]:
        st = path.lstat()
        found[str(path)] = (st.st_mtime_ns, st.st_mode, st.st_size, path.read_bytes() if path.is_file() else b"")
    return found


# --- finding


def test_jobs_are_found_at_any_depth_in_order(tmp_path: Path):
    """Job directories are found wherever they are below the root, in order of their paths."""
    made = [write_job(tmp_path / where, stages=["a"]) for where in ("x/2025/1", "x/2025/2", "y", "z/deep/er/job")]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert list(find_jobs(tmp_path)) == made


def test_the_root_may_be_a_job_directory(tmp_path: Path):
    """A job directory given as the root is found, and nothing within it."""
    job = write_job(tmp_path / "job", stages=["a"], runs=2)
    write_job(job / "01_a" / "inner", stages=["b"])
    assert list(find_jobs(job)) == [job]


def test_each_kind_of_job_is_recognised(tmp_path: Path):
    """A state folder, a manifest of ours, one beside a foreign one, and the seed's kind are all jobs."""
    write_job(tmp_path / "a", stages=["s"])
    shutil.rmtree(write_job(tmp_path / "b", stages=["s"]) / ".otel-stage")
    shutil.rmtree(write_job(tmp_path / "c", stages=["s"], foreign={"x": 1}) / ".otel-stage")
    write_seed_job(tmp_path / "d", stages=["s"])
    write_job(tmp_path / "e", stages=[], manifest="missing")
    for name, content in (("f", b'{"pipeline": 1}'), ("g", b"no json"), ("h/01_s", b"[1]")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "manifest.json").write_bytes(content)
    assert [path.name for path in find_jobs(tmp_path)] == ["a", "b", "c", "d", "e"]


@needs_posix
def test_links_to_directories_are_not_followed(tmp_path: Path):
    """A link that leads back up does not make the search endless, and a job is found once."""
    job = write_job(tmp_path / "a" / "job", stages=["s"])
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(job)
    assert list(find_jobs(tmp_path)) == [job]


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path):
    """Looking where nothing is raises, rather than finding nothing."""
    with pytest.raises(FileNotFoundError):
        list(find_jobs(tmp_path / "nowhere"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_folders_that_cannot_be_read_are_passed_over(tmp_path: Path):
    """A folder without permission hides what is in it, and nothing else."""
    write_job(tmp_path / "hidden" / "job", stages=["s"])
    job = write_job(tmp_path / "open" / "job", stages=["s"])
    (tmp_path / "hidden").chmod(0)
    try:
        assert list(find_jobs(tmp_path)) == [job]
    finally:
        (tmp_path / "hidden").chmod(0o755)


# --- where the job manifest comes from


@pytest.mark.parametrize("state", ["current", "stale", "missing"])
def test_what_the_journal_says_is_in_the_manifest(tmp_path: Path, state: Any):
    """Whether the manifest on disk is current, behind its journal or not there, what is loaded is the same."""
    loaded = load_job(write_job(tmp_path / "job", stages=["a", StageSpec("b", status="failed")], manifest=state))
    shutil.rmtree(tmp_path / "job")
    whole = json.loads((write_job(tmp_path / "job", stages=["a", StageSpec("b", status="failed")]) / "manifest.json").read_bytes())
    loaded.manifest.pop("journal", None)
    whole.pop("journal")
    assert loaded.manifest == whole
    assert (loaded.name, loaded.status, loaded.run_id) == ("job", "failed", whole["run_id"])


def test_without_the_state_folder_the_manifest_speaks(tmp_path: Path):
    """A job that was copied without its hidden folder is read from its manifests alone."""
    job = write_job(tmp_path / "job", stages=["a", "b"])
    shutil.rmtree(job / ".otel-stage")
    record = load_job(job)
    assert record.status == "success"
    assert [manifest["stage"] for _, manifest in record.load_stages()] == ["a", "b"]


def test_a_journal_that_a_new_run_has_replaced_wins(tmp_path: Path):
    """Between a new run's first line and its first manifest, the run is the new one."""
    job = write_job(tmp_path / "job", stages=["a"])
    old = load_job(job)
    start = json.loads((job / ".otel-stage" / "journal.jsonl").read_bytes().splitlines()[0])
    fields = {k: v for k, v in start.items() if k not in ("time", "event")}
    fields.update(run_id="another", process=this_process())
    (job / ".otel-stage" / "journal.jsonl").write_text(event_line("job.start", now_ns(), fields) + "\n")
    record = load_job(job)
    assert (record.run_id, record.status, record.stages) == ("another", "running", {})
    assert old.run_id != "another"


def test_a_manifest_whose_journal_is_lost_still_speaks(tmp_path: Path):
    """An empty or torn journal does not take away what the manifest says."""
    job = write_job(tmp_path / "job", stages=["a"])
    for content in (b"", b'{"time":"2025', b"\0\0\0\n"):
        (job / ".otel-stage" / "journal.jsonl").write_bytes(content)
        assert load_job(job).status == "success"


def test_a_foreign_manifest_is_not_mistaken_for_ours(tmp_path: Path):
    """Beside somebody else's `manifest.json` ours is found, and where it is missing the journal speaks."""
    job = write_job(tmp_path / "job", stages=["a"], foreign={"pipeline": "theirs"})
    assert load_job(job).status == "success"
    (job / "job.manifest.json").unlink()
    assert load_job(job).status == "success"


@pytest.mark.parametrize("content", [b"{}", b"[]", b"\xff", b""])
def test_what_is_no_job_directory_says_so(tmp_path: Path, content: bytes):
    """Of a directory without a run the error names the directory and what is missing."""
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestError, match=f"^{tmp_path}: no job manifest, no journal"):
        load_job(tmp_path)


def test_a_malformed_manifest_is_named_with_the_place(tmp_path: Path):
    """A job manifest that is ours but wrong is refused by file, expectation and place."""
    job = write_job(tmp_path / "job", stages=["a"])
    content = json.loads((job / "manifest.json").read_bytes())
    content["name"] = 5
    (job / "manifest.json").write_bytes(to_json(content))
    with pytest.raises(ManifestError, match=r"^job/manifest\.json: expected str, got int - at \$\.name$"):
        load_job(job)


def test_directories_of_the_seeds_kind_are_read(tmp_path: Path):
    """Stage folders alone make a job: its name, order, status and stages are there."""
    job = write_seed_job(
        tmp_path / "baseline" / "1",
        stages=["demux", StageSpec("asr", status="failed", outputs=["segments.json"], warnings=["mono"])],
    )
    record = load_job(job)
    assert (record.name, record.status, record.run_id) == ("baseline", "failed", "")
    assert list(record.stages) == ["demux", "asr"]
    assert record.stage("asr")["outputs"][0]["path"] == "02_asr/segments.json"
    assert record.stage("asr")["warnings"] == [{"message": "mono"}]
    (job / "01_demux" / "manifest.json").write_text("{")
    assert list(load_job(job).stages) == ["asr"]


# --- who is dead


def test_a_dead_run_is_shown_as_crashed(tmp_path: Path):
    """A run and its running stages whose process is provably gone are crashed, with the last lines of the log."""
    job = write_job(
        tmp_path / "job",
        stages=["a", StageSpec("b", status="running", log=[("INFO", "one"), ("DEBUG", "two")], outputs=["x"])],
    )
    record = load_job(job)
    assert record.status == "crashed"
    assert record.manifest["pipeline"]["reason"].startswith("process 4711 on ")
    assert record.manifest["pipeline"]["crashed_stages"] == ["b"]
    assert record.manifest["pipeline"]["running_stages"] == []
    assert record.manifest["pipeline"]["current_stage"] is None
    assert record.manifest["timing"]["completed_at"] is None
    crashed = record.stage("b")
    assert crashed["status"] == "crashed"
    assert [line.split("] ")[-1] for line in crashed["last_log"]] == ["one", "two"]
    assert crashed["outputs"] == [{"type": "file", "path": "02_b/x"}]
    assert crashed["completed_at"] is None
    assert crashed["duration_seconds"] is None
    assert record.stage("a")["status"] == "success"


@pytest.mark.parametrize("who", ["alive", "elsewhere"])
def test_what_may_live_is_left_running(tmp_path: Path, who: Any):
    """A run of a live process, or of another host, is running; its stage shows what was said so far."""
    process = who if who == "alive" else {"pid": 1, "host": "another-host", "start_ticks": 1, "boot_id": "x"}
    spec = StageSpec("b", status="running", inputs=["in"], config={"x": 1})
    record = load_job(write_job(tmp_path / "job", stages=["a", spec], process=process))
    assert record.status == "running"
    assert record.manifest["pipeline"]["current_stage"] == "b"
    assert record.stage("b")["status"] == "running"
    assert record.stage("b")["config"] == {"x": 1}
    assert len(record.stage("b")["inputs"]) == 1


def test_a_stage_is_loaded_by_its_folder_too(tmp_path: Path):
    """A stage's folder says as much as its entry, crashed ones included."""
    job = write_job(tmp_path / "job", stages=["a", StageSpec("b", status="running")])
    assert load_stage(job, "01_a")["status"] == "success"
    assert load_stage(job, "02_b") == load_job(job).stage("b")


def test_a_stage_that_died_before_its_first_word_is_known(tmp_path: Path):
    """A stage with nothing but its line in the job's journal is shown, as crashed."""
    job = write_job(tmp_path / "job", stages=["a", StageSpec("b", status="running")])
    (job / "02_b" / "manifest.json").unlink()
    (job / ".otel-stage" / "stages" / "02_b.jsonl").unlink()
    assert load_job(job).stage("b")["status"] == "crashed"
    assert load_stage(job, "02_b")["stage"] == "b"


def test_a_stage_that_ended_after_its_manifest_was_written_has_ended(tmp_path: Path):
    """Where the journal says the end and the manifest does not yet, the journal is right."""
    job = write_job(tmp_path / "job", stages=[StageSpec("a", reason="boom", status="failed")])
    shutil.copytree(job, tmp_path / "other")
    running = json.loads((job / "01_a" / "manifest.json").read_bytes())
    running.update(status="running", completed_at=None, duration_seconds=None)
    (job / "01_a" / "manifest.json").write_bytes(to_json(running))
    assert load_stage(job, "01_a") == load_stage(tmp_path / "other", "01_a")


def test_open_ended_runs_are_as_bad_as_their_worst_stage(tmp_path: Path):
    """Without a pipeline block a dead stage makes the job crashed, a live one keeps it running."""
    specs = ["a", StageSpec("b", status="running")]
    assert load_job(write_job(tmp_path / "dead", stages=specs, open_ended=True)).status == "crashed"
    assert load_job(write_job(tmp_path / "live", stages=specs, open_ended=True, process="alive")).status == "running"
    assert load_job(write_job(tmp_path / "done", stages=["a"], open_ended=True)).status == "success"


def test_a_stage_that_outlives_the_pipelines_end_keeps_the_jobs_status(tmp_path: Path):
    """A run that ended well stays so, though a stage of a dead child process never ended."""
    job = write_job(tmp_path / "job", stages=["a", StageSpec("b", status="running")], status="success")
    record = load_job(job)
    assert record.status == "success"
    assert record.manifest["pipeline"]["crashed_stages"] == ["b"]


# --- earlier runs


def test_earlier_runs_are_kept_with_their_stages(tmp_path: Path):
    """Each earlier run is there with all its stages, oldest first; what never ended in it is crashed."""
    job = write_job(tmp_path / "job", stages=["a", StageSpec("b", status="running")], runs=3)
    runs = list(earlier_runs(job))
    assert [run.status for run in runs] == ["crashed", "crashed"]
    assert [run.run_id for run in runs] == sorted({run.run_id for run in runs} - {load_job(job).run_id})
    for run in runs:
        assert run.path == job
        assert {ident: m["status"] for ident, m in run.load_stages()} == {"a": "success", "b": "crashed"}
        assert all(m["run_id"] == run.run_id for _, m in run.load_stages())


def test_stages_that_no_later_run_replaced_stay_with_their_run(job: JobFiles):
    """A real second run that opens fewer stages leaves the others where they are, and they are found there."""
    for names in (("a", "b"), ("a",)):
        with pipeline("p", job_dir=job.path, console="off"):
            for name in names:
                with stage(name) as st:
                    st.set_config(n=len(names))
    (first,) = earlier_runs(job.path)
    assert {ident: m["config"] for ident, m in first.load_stages()} == {"a": {"n": 2}, "b": {"n": 2}}
    assert [(i, m["config"]) for i, m in load_job(job.path).load_stages()] == [("a", {"n": 1})]


def test_attempts_within_a_run_are_no_run_of_their_own(tmp_path: Path):
    """What an attempt replaced is kept, and is no earlier run."""
    job = write_job(tmp_path / "job", stages=[StageSpec("a", key="k"), StageSpec("a", key="k")])
    assert (job / ".otel-stage" / "runs").is_dir()
    assert list(earlier_runs(job)) == []
    assert load_job(job).stage("a.k")["attempt"] == 2


def test_a_job_of_one_run_has_no_earlier_ones(tmp_path: Path):
    """No earlier runs, no error, whatever the directory is."""
    assert list(earlier_runs(write_job(tmp_path / "job", stages=["a"]))) == []
    assert list(earlier_runs(tmp_path / "nowhere")) == []


# --- never leads out, never writes


@pytest.mark.parametrize("place", ["../x/manifest.json", "/etc/manifest.json", ".otel-stage/manifest.json", "", "a/b/manifest.json"])
def test_a_hostile_manifest_does_not_lead_out_of_its_directory(tmp_path: Path, place: str):
    """Where a job manifest says that a stage's manifest is elsewhere, that is refused."""
    (tmp_path / "x").mkdir()
    job = write_job(tmp_path / "job", stages=["a"])
    shutil.copy(job / "01_a" / "manifest.json", tmp_path / "x" / "manifest.json")
    with pytest.raises(ManifestError, match="is not the folder of a stage"):
        load_stage(job, {"status": "success", "manifest": place})


def test_stages_that_are_not_there_are_named(tmp_path: Path):
    """Asking for a stage that does not exist says which."""
    job = write_job(tmp_path / "job", stages=["a"])
    with pytest.raises(ManifestError, match="no stage 'z' in run"):
        load_job(job).stage("z")
    with pytest.raises(ManifestError, match=r"07_z/manifest\.json: there is no such stage"):
        load_stage(job, "07_z")


def _kinds(root: Path) -> None:
    running = StageSpec("b", status="running", outputs=[FileSpec(path="x", content=b"x")])
    write_job(root / "dead", stages=["a", running], runs=2)
    write_job(root / "alive", stages=["a", running], process="alive", manifest="stale")
    write_job(root / "new", stages=["a"], manifest="missing")
    write_job(root / "foreign", stages=["a"], foreign={"x": 1})
    write_seed_job(root / "seed", stages=["a"])
    write_jobs(root / "many", 3)


def _read_everything(root: Path) -> int:
    n = 0
    for path in find_jobs(root):
        for record in (load_job(path), *earlier_runs(path)):
            n += len(list(record.load_stages()))
    return n


def test_reading_changes_nothing(tmp_path: Path):
    """Every kind of directory is as it was after it was read: names, times, modes and content."""
    _kinds(tmp_path)
    before = _snapshot(tmp_path)
    assert _read_everything(tmp_path) == 18
    assert _snapshot(tmp_path) == before


@needs_posix
def test_read_only_directories_are_read(tmp_path: Path):
    """Without permission to write anything, everything is read all the same."""
    _kinds(tmp_path)
    paths = sorted(tmp_path.rglob("*"), reverse=True)
    try:
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        assert _read_everything(tmp_path) == 18
    finally:
        for path in reversed(paths):
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_reading_needs_no_opentelemetry(tmp_path: Path):
    """Finding and loading, crashed runs included, imports neither OpenTelemetry nor psutil."""
    write_job(tmp_path / "job", stages=["a", StageSpec("b", status="running")])
    code = """
        import sys
        from otel_stage.runs import find_jobs, load_job
        print([load_job(path).status for path in find_jobs(".")])
        print([name for name in sys.modules if name.startswith(("opentelemetry", "psutil"))])
    """
    assert run_python(code, cwd=tmp_path).stdout == "['crashed']\n[]\n"


# --- real processes


_WAITS = """
    import os, sys
    from otel_stage import pipeline, stage
    with pipeline("p", job_dir="job", console="off"):
        with stage("done"):
            pass
        with stage("asr") as st:
            st.log.info("hello")
            st.track_output(st.dir / "out.json")
            print("open", flush=True)
            sys.stdin.readline()
"""


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with an open pipeline and stage in `job`, until a line comes or it is killed."""
    process = start_python(_WAITS, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n", process.communicate()
    yield process
    process.kill()
    process.communicate()


def test_a_real_run_is_running_and_then_done(tmp_path: Path, waiting: subprocess.Popen[str]):
    """While its process lives a run is running, with all that was said; then it is as it ended."""
    record = load_job(tmp_path / "job")
    assert (record.status, record.manifest["pipeline"]["running_stages"]) == ("running", ["asr"])
    assert record.stage("asr")["outputs"] == [{"type": "file", "path": "02_asr/out.json"}]
    waiting.communicate("\n")
    assert waiting.returncode == 0
    assert load_job(tmp_path / "job").status == "success"


@needs_posix
@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_run_is_crashed_at_once(tmp_path: Path, waiting: subprocess.Popen[str], reaped: bool):
    """After SIGKILL the run is crashed with its last log lines, even while its parent has not waited for it."""
    waiting.send_signal(signal.SIGKILL)
    if reaped:
        waiting.wait()
    else:
        os.waitid(os.P_PID, waiting.pid, os.WEXITED | os.WNOWAIT)
    before = _snapshot(tmp_path / "job")
    record = load_job(tmp_path / "job")
    assert record.status == "crashed"
    assert record.manifest["pipeline"]["completed_stages"] == ["done"]
    assert record.stage("asr")["last_log"][-1].endswith("[stage.asr] [INFO] hello")
    assert record.stage("asr")["outputs"] == [{"type": "file", "path": "02_asr/out.json"}]
    assert _snapshot(tmp_path / "job") == before


@needs_posix
def test_the_copy_of_a_live_run_is_not_called_dead(tmp_path: Path, waiting: subprocess.Popen[str]):
    """A copy's lock file is held by nobody, yet its process lives: that is no proof of death."""
    shutil.copytree(tmp_path / "job", tmp_path / "copy")
    assert load_job(tmp_path / "copy").status == "running"
    waiting.kill()
    waiting.wait()
    assert load_job(tmp_path / "copy").status == "crashed"


@needs_posix
def test_reading_ones_own_job_keeps_its_mark(job: JobFiles):
    """A process that reads the job it has open still holds it: closing the lock file would have let go of it."""
    code = """
        from otel_stage import pipeline
        from otel_stage.errors import JobBusyError
        try:
            with pipeline("p", job_dir="job"): pass
        except JobBusyError:
            print("busy")
    """
    with pipeline("p", job_dir=job.path, console="off"), stage("a"):
        assert load_job(job.path).status == "running"
        assert load_job(os.path.relpath(job.path)).stage("a")["status"] == "running"
        assert run_python(code, cwd=job.path.parent).stdout == "busy\n"
    assert load_job(job.path).status == "success"


# --- proof of death


def test_only_proof_counts(tmp_path: Path):
    """Another boot, a pid nobody has, or a pid that began at another time prove death; nothing else does."""
    (tmp_path / ".otel-stage").mkdir()
    me = this_process()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for lock in (None, tmp_path / ".otel-stage" / "lock"):
        if lock is not None:
            lock.write_bytes(b"")
        where = str(tmp_path)
        assert is_alive(where, me)
        assert is_alive(where, {**me, "host": "another-host", "pid": gone.pid})
        assert is_alive(where, {"host": me["host"], "pid": me["pid"]})
        assert is_alive(where, {"host": me["host"]})
        assert not is_alive(where, {**me, "pid": gone.pid})
        assert not is_alive(where, {"host": me["host"], "pid": gone.pid})
        assert not is_alive(where, {**me, "start_ticks": me["start_ticks"] - 1})
        if me["boot_id"] is not None:
            assert not is_alive(where, {**me, "boot_id": "another"})


@needs_posix
def test_a_held_mark_is_life(tmp_path: Path):
    """Whoever holds the mark of a pid lives, if it began when the one who spoke began; and nothing is locked by asking."""
    (tmp_path / ".otel-stage").mkdir()
    lock = tmp_path / ".otel-stage" / "lock"
    code = """
        import fcntl, json, os, sys
        from otel_stage.jobdir import this_process
        fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
        fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1 + 999999)
        print(json.dumps(this_process()), flush=True)
        sys.stdin.readline()
        # Nobody else has locked anything meanwhile.
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 0, 0)
    """
    process = start_python(code, lock, cwd=tmp_path)
    assert process.stdout is not None
    spoke = json.loads(process.stdout.readline())
    # As seen from outside a pid namespace: the pid that it knows itself by is nobody's here.
    assert is_alive(str(tmp_path), {**spoke, "pid": 999_999})
    assert not is_alive(str(tmp_path), {**spoke, "pid": 999_999, "start_ticks": 1})
    process.communicate("\n")
    assert process.returncode == 0
    assert not is_alive(str(tmp_path), {**spoke, "pid": 999_999})

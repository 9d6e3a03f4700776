"""Job directories that are files, read-only, full, removed, damaged or laid with traps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support import HEADER, JobFiles, texts

from otel_stage import errors, pipeline, stage

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


# Root may write anywhere; without its capabilities it is a user like any other.
AS_A_USER = """
import ctypes, os
if os.geteuid() == 0:
    ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
"""


@posix
def test_a_job_directory_that_may_not_be_written(job: JobFiles, python: Python) -> None:
    """Read-only: opening raises one PipelineError that names the path and the reason, with exit code 1."""
    job.path.mkdir()
    job.path.chmod(0o555)
    done = python(
        AS_A_USER
        + """
import sys
from otel_stage import pipeline
from otel_stage.errors import PipelineError
for options in ({"job_dir": sys.argv[1]}, {"job_dir": sys.argv[1] + "/below"}, {"root": sys.argv[1]}):
    try:
        with pipeline("p", **options):
            print("opened")
    except PipelineError as err:
        print(err)
""",
        job.path,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert str(job.path) in line
        assert "permission denied" in line.lower()
    job.path.chmod(0o755)
    assert list(job.path.iterdir()) == []


@posix
def test_a_job_directory_that_becomes_read_only(job: JobFiles, python: Python) -> None:
    """A stage whose folder cannot be made still runs; one warning says why, and no exception reaches user code."""
    done = python(
        AS_A_USER
        + """
import os, sys
from otel_stage import pipeline, stage
with pipeline("p", job_dir=sys.argv[1]) as job:
    with stage("a"):
        pass
    os.chmod(sys.argv[1], 0o555)
    with stage("b") as st:
        st.set_config(a=1)
        st.log.info("still running")
        st.track_input(sys.argv[0])
        ran = True
    os.chmod(sys.argv[1], 0o755)
    with stage("c"):
        pass
print(ran)
""",
        job.path,
    )
    assert done.stdout == "True\n"
    assert done.stderr.count("not recorded") == 1
    assert "permission denied" in done.stderr
    assert job.stage("a")["status"] == job.stage("c")["status"] == "success"
    assert job.manifest["pipeline"]["status"] == "success"


@posix
@pytest.mark.parametrize("room", [0, 10, 300])
def test_a_full_disk_loses_nothing_that_can_still_be_written_later(job: JobFiles, python: Python, room: int) -> None:
    """While no byte fits, nothing raises and one warning is said; once there is room, journal and manifest are whole."""
    done = python(
        """
        import os, resource, sys
        from otel_stage import pipeline, stage
        room = int(sys.argv[2])
        with pipeline("p", job_dir=sys.argv[1]):
            with stage("a") as st:
                st.set_config(before=1)
                journal = f"{sys.argv[1]}/.otel-stage/stages/01_a.jsonl"
                soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(journal) + room, hard))
                for n in range(5):
                    st.set_config({f"during_{n}": "x" * 50})
                    st.log.debug("lost or torn %d", n)
                    st.add_warning(f"warning {n}")
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
                st.set_config(after=1)
                st.log.info("room again")
        print("done")
        """,
        job.path, room,
    )  # fmt: skip
    assert done.stdout == "done\n"
    m = job.stage("a")
    assert m["config"] == {"before": 1, "after": 1, **{f"during_{n}": "x" * 50 for n in range(5)}}
    assert [w["message"] for w in m["warnings"]] == [f"warning {n}" for n in range(5)]
    assert m["status"] == "success"
    (warning,) = [line for line in done.stderr.splitlines() if "[otel_stage] [WARNING]" in line]
    assert "too large" in warning
    last = (job.path / "01_a/stage.log").read_text().splitlines()[-1]
    assert (match := HEADER.fullmatch(last)) is not None
    assert match["text"] == "room again"


@posix
def test_a_job_directory_removed_while_running(job: JobFiles, python: Python) -> None:
    """The pipeline goes on to its own end and exit code; what happened is said once."""
    done = python(
        """
        import shutil, sys
        from otel_stage import pipeline, stage
        with pipeline("p", job_dir=sys.argv[1]) as job:
            with stage("a") as st:
                shutil.rmtree(job.dir)
                st.set_config(a=1)
                st.log.warning("into thin air")
                st.add_warning("w")
                st.track_input(sys.argv[0])
                st.track_output(st.dir / "x")
            with stage("b") as st:
                st.log.info("goes on")
        print("done")
        sys.exit(7)
        """,
        job.path,
        check=False,
    )
    assert done.stdout == "done\n"
    assert done.returncode == 7
    assert "Traceback" not in done.stderr
    assert "otel_stage" in done.stderr


@posix
def test_a_file_where_a_stage_folder_should_be(job: JobFiles, caplog: pytest.LogCaptureFixture) -> None:
    """The file stays as it is; the stage is refused with a clear error, or runs with a warning and a folder."""
    job.path.mkdir()
    (job.path / "01_a").write_text("mine")
    (job.path / "02_b").symlink_to("nowhere")
    with pipeline("p", job_dir=job.path):
        for number, name in enumerate("ab", 1):
            try:
                with stage(name, number=number) as st:
                    assert st.dir.is_dir()
            except errors.StageError as err:
                assert name in str(err)
            else:
                assert [r for r in caplog.records if r.name == "otel_stage"]
        with stage("c"):
            pass
    assert (job.path / "01_a").read_text() == "mine"
    assert not (job.path / "nowhere").exists()
    assert job.stage("c")["status"] == "success"


@posix
def test_links_in_our_folders_are_not_written_through(job: JobFiles, fresh: Path) -> None:
    """A link laid where a log, journal or manifest goes does not make us write to its target."""
    (fresh / "victim").write_text("mine")
    (job.path / "01_a").mkdir(parents=True)
    (job.path / ".otel-stage/stages").mkdir(parents=True)
    for name in ("01_a/stage.log", "01_a/manifest.json", ".otel-stage/stages/01_a.jsonl"):
        (job.path / name).symlink_to(fresh / "victim")
    with pipeline("p", job_dir=job.path), stage("a") as st:
        st.log.info("not into the victim")
    assert (fresh / "victim").read_text() == "mine"
    assert job.stage("a")["status"] == "success"
    assert texts(job.stage_log("a")) == ["not into the victim"]


@pytest.mark.parametrize(
    "journal", [b"", b"garbage\n", b"\xff\xfe\n{}\n[]\nnull\n", b'{"event": "job.start"}\n', b'{"event"']
)
def test_a_damaged_journal_keeps_nobody_out(job: JobFiles, journal: bytes) -> None:
    """A journal that is empty, torn or not ours does not stop the next run, nor does it crash it."""
    (job.path / ".otel-stage").mkdir(parents=True)
    (job.path / ".otel-stage/journal.jsonl").write_bytes(journal)
    with pipeline("p", job_dir=job.path), stage("a"):
        pass
    assert job.manifest["pipeline"]["completed_stages"] == ["a"]


def test_a_folder_named_manifest_json_is_somebody_elses(job: JobFiles) -> None:
    """A directory in the place of the job manifest stays, and ours goes beside it."""
    (job.path / "manifest.json").mkdir(parents=True)
    with pipeline("p", job_dir=job.path), stage("a"):
        pass
    assert (job.path / "manifest.json").is_dir()
    assert (job.path / "job.manifest.json").is_file()


@posix
def test_a_current_directory_that_is_gone(python: Python, job: JobFiles) -> None:
    """Without `job_dir` that is one PipelineError; with an absolute one everything works but relative paths."""
    done = python(
        """
        import os, sys, tempfile
        from otel_stage import OtelStageError, pipeline, stage
        gone = tempfile.mkdtemp()
        os.chdir(gone)
        os.rmdir(gone)
        try:
            with pipeline("p"):
                print("opened")
        except OtelStageError as err:
            print("refused:", err)
        with pipeline("p", job_dir=sys.argv[1], console="off"), stage("a") as st:
            st.track_output(st.dir / "x").write_text("x")
            st.track_input("relative")
        """,
        job.path,
    )
    assert done.stdout.startswith("refused: ")
    assert done.stdout.count("\n") == 1
    assert job.stage("a")["outputs"][0]["size_bytes"] == 1


def test_a_job_dir_of_the_environment_that_is_a_file(python: Python, fresh: Path) -> None:
    """A stage that cannot join is one clear error, not a Python traceback of ours."""
    (fresh / "a_file").touch()
    done = python(
        "from otel_stage import stage, OtelStageError\n"
        "try:\n    with stage('a'):\n        print('ran')\nexcept OtelStageError as err:\n    print(err)\n",
        env={"OTEL_STAGE_JOB_DIR": str(fresh / "a_file")},
    )
    assert "a_file" in done.stdout
    assert done.stdout.count("\n") == 1

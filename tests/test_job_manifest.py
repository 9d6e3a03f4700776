"""The job as a whole: its manifest, its journal, and what lies in its directory."""

from __future__ import annotations

import json
import time

import pytest
from support import JobFiles

from otel_stage import pipeline, stage

pytestmark = pytest.mark.usefixtures("fresh")


def test_a_stage_is_sealed_in_the_job_manifest(job: JobFiles) -> None:
    """The job manifest names each stage's manifest, its sha256, its log, status, number and duration."""
    import hashlib

    with pipeline("subtitles", job_dir=job.path, config={"lang": "hi"}) as run:
        with stage("demux"):
            pass
        run.set_config(quality="best")
        with pytest.raises(ValueError), stage("asr"):
            raise ValueError("no")
    m = job.manifest
    entry = m["stages"]["demux"]
    data = (job.path / entry["manifest"]).read_bytes()
    assert entry["manifest"] == "01_demux/manifest.json"
    assert entry["log"] == "01_demux/stage.log"
    assert entry["manifest_sha256"].removeprefix("sha256:") == hashlib.sha256(data).hexdigest()
    assert (entry["status"], entry["stage_number"]) == ("success", 1)
    assert entry["duration_seconds"] == job.stage("demux")["duration_seconds"]
    p = m["pipeline"]
    assert (p["status"], p["current_stage"], p["running_stages"]) == ("success", None, [])
    assert (p["completed_stages"], p["failed_stages"]) == (["demux"], ["asr"])
    assert m["config"] == {"lang": "hi", "quality": "best"}
    assert (m["name"], m["run_id"], m["job_id"]) == ("subtitles", run.run_id, f"{job.path.parent.name}/job")
    assert m["timing"]["completed_at"] is not None
    assert m["telemetry"] == {"otlp_endpoint": None, "spans_exported": 0, "logs_exported": 0, "failed": 0}
    assert m["journal"]["folded_bytes"] == (job.path / ".otel-stage/journal.jsonl").stat().st_size


def test_the_job_manifest_says_running_while_it_runs(job: JobFiles) -> None:
    """From the moment that the pipeline opens there is a valid job manifest that says `running`."""
    with pipeline("p", job_dir=job.path):
        assert job.manifest["pipeline"]["status"] == "running"
        assert job.manifest["timing"]["completed_at"] is None


@pytest.mark.parametrize("resources", ["0", "1"])
def test_the_job_manifest_keeps_up_while_a_stage_works(
    job: JobFiles, monkeypatch: pytest.MonkeyPatch, resources: str
) -> None:
    """Without anything being said, the job manifest soon shows the running stage, also when nothing is measured."""
    monkeypatch.setenv("OTEL_STAGE_RESOURCES", resources)
    with pipeline("p", job_dir=job.path), stage("demux"):
        deadline = time.monotonic() + 20
        while job.manifest["pipeline"]["current_stage"] != "demux":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        p = job.manifest["pipeline"]
        assert (p["status"], p["running_stages"]) == ("running", ["demux"])


@pytest.mark.parametrize("content", [b'{"nf": "state"}', b"not json", b""])
def test_a_manifest_of_somebody_else_is_left_alone(job: JobFiles, content: bytes) -> None:
    """A `manifest.json` that we did not write stays as it is, and ours is `job.manifest.json`."""
    job.path.mkdir()
    (job.path / "manifest.json").write_bytes(content)
    with pipeline("p", job_dir=job.path), stage("demux"):
        pass
    assert (job.path / "manifest.json").read_bytes() == content
    ours = json.loads((job.path / "job.manifest.json").read_bytes())
    assert ours["pipeline"]["completed_stages"] == ["demux"]


def test_nothing_of_ours_lies_beside_the_documented_files(job: JobFiles) -> None:
    """A run leaves the documented files and no temporary one."""
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        (st.dir / "audio.wav").write_bytes(b"1")
    found = {p.relative_to(job.path).as_posix() for p in job.path.rglob("*") if p.is_file()}
    log = job.pipeline_logs[0].relative_to(job.path).as_posix()
    assert found == {
        "manifest.json", log, "01_demux/manifest.json", "01_demux/stage.log", "01_demux/audio.wav",
        ".otel-stage/lock", ".otel-stage/journal.jsonl", ".otel-stage/stages/01_demux.jsonl",
    }  # fmt: skip


def test_the_journal_folds_to_the_manifest(job: JobFiles) -> None:
    """The stage's journal holds everything that the manifest says, and folds to it."""
    from otel_stage.manifest import fold

    with pipeline("p", job_dir=job.path), stage("demux") as st:
        st.set_config(a=1)
        st.track_output(st.dir / "x").write_text("x")
        st.add_warning("w")
    events = job.journal("01_demux")
    assert [e["event"] for e in events][:1] == ["stage.start"]
    assert fold(events) == job.stage("demux")


def test_the_users_own_folders_and_files_stay(job: JobFiles) -> None:
    """A stage folder that exists already keeps what the user put there."""
    (job.path / "01_demux").mkdir(parents=True)
    (job.path / "01_demux/notes.txt").write_text("mine")
    with pipeline("p", job_dir=job.path), stage("demux"):
        pass
    assert (job.path / "01_demux/notes.txt").read_text() == "mine"

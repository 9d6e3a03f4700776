"""Tracked files: what stands in the manifest for whatever lies, or does not lie, at a path."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest
from support import JobFiles, messages, sha256

from otel_stage import pipeline, stage

pytestmark = pytest.mark.usefixtures("fresh")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def test_relative_paths_mean_the_current_directory(job: JobFiles, fresh: Path) -> None:
    """`track_*` take relative paths from the current directory and return absolute `Path`s."""
    (fresh / "in.txt").write_text("hello")
    with pipeline("p", job_dir=job.path), stage("s") as st:
        given = st.track_input("in.txt")
        assert given == fresh / "in.txt"
        assert isinstance(given, Path)
        assert st.track_output(Path("sub/../out.txt")) == fresh / "out.txt"
        assert st.track_intermediate(os.fsencode("cache")) == fresh / "cache"
        assert st.track_output(st.dir / "x") == st.dir / "x"
    m = job.stage("s")
    assert m["inputs"][0]["path"] == str(fresh / "in.txt")
    assert [o["path"] for o in m["outputs"]] == [str(fresh / "out.txt"), "01_s/x"]


def test_an_input_is_hashed_when_tracked(job: JobFiles, fresh: Path) -> None:
    """Size, checksum and the user's metadata stand beside type and path."""
    (fresh / "in.wav").write_bytes(b"abc" * 100_000)
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_input("in.wav", type="audio", format="wav", sample_rate=48_000)
    assert job.stage("s")["inputs"] == [
        {
            "type": "audio", "path": str(fresh / "in.wav"), "size_bytes": 300_000,
            "checksum": sha256(b"abc" * 100_000), "format": "wav", "sample_rate": 48_000,
        }
    ]  # fmt: skip
    assert list(job.stage("s")["inputs"][0])[:4] == ["type", "path", "size_bytes", "checksum"]


def test_an_output_is_measured_at_the_end(job: JobFiles) -> None:
    """An output may be declared before it exists: size and checksum are those of the stage's end."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        out = st.track_output(st.dir / "out.json", type="transcript", segment_count=142)
        out.write_bytes(b"first")
        out.write_bytes(b"at last")
    assert job.stage("s")["outputs"] == [
        {
            "type": "transcript", "path": "01_s/out.json", "size_bytes": 7, "checksum": sha256(b"at last"),
            "segment_count": 142,
        }
    ]  # fmt: skip


def test_an_intermediate_file_says_whether_it_stays(job: JobFiles) -> None:
    """Intermediate files carry `retained` and `reason`, the size of the end and no checksum."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        cache = st.track_intermediate(st.dir / ".cache", retained=True, reason="model cache")
        cache.write_bytes(b"12345")
        st.track_intermediate(st.dir / "gone.tmp", type="scratch")
    kept, gone = job.stage("s")["intermediate_files"]
    assert kept == {
        "type": "intermediate", "path": "01_s/.cache", "size_bytes": 5, "retained": True, "reason": "model cache",
    }  # fmt: skip
    assert (gone["type"], gone["retained"], gone["exists"]) == ("scratch", False, False)


def test_a_missing_input_is_recorded_as_missing(job: JobFiles, fresh: Path) -> None:
    """An input that is not there is `exists: false` with a warning; nothing raises, the status stays."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        assert st.track_input("none.wav") == fresh / "none.wav"
    m = job.stage("s")
    assert m["inputs"] == [{"type": "file", "path": str(fresh / "none.wav"), "exists": False}]
    assert m["status"] == "success"
    assert len(messages(m)) == 1
    assert "none.wav" in messages(m)[0]


def test_an_output_missing_at_the_end_is_a_warning(job: JobFiles) -> None:
    """An output that was never written is `exists: false` with a warning; the status stays."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_output(st.dir / "never")
    m = job.stage("s")
    assert m["outputs"] == [{"type": "file", "path": "01_s/never", "exists": False}]
    assert m["status"] == "success"
    assert ["01_s/never" in text for text in messages(m)] == [True]


def test_an_output_that_vanishes_is_a_warning(job: JobFiles) -> None:
    """An output that was there when tracked and is gone at the end has no stale size or checksum."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        (st.dir / "x").write_text("x")
        st.track_output(st.dir / "x").unlink()
    m = job.stage("s")
    assert m["outputs"] == [{"type": "file", "path": "01_s/x", "exists": False}]
    assert len(messages(m)) == 1


def test_an_input_edited_while_the_stage_ran(job: JobFiles, fresh: Path) -> None:
    """The checksum is of what was read; the change is flagged, with a warning."""
    (fresh / "in").write_bytes(b"before")
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_input("in").write_bytes(b"after!")
    m = job.stage("s")
    (record,) = m["inputs"]
    assert (record["checksum"], record["size_bytes"]) == (sha256(b"before"), 6)
    assert record["changed_during_stage"] is True
    assert ["in changed" in text or "changed while" in text for text in messages(m)] == [True]


def test_an_input_deleted_while_the_stage_ran(job: JobFiles, fresh: Path) -> None:
    """An input that vanishes keeps what was read of it, and the change is flagged."""
    (fresh / "in").write_bytes(b"before")
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_input("in").unlink()
    m = job.stage("s")
    assert m["inputs"][0]["checksum"] == sha256(b"before")
    assert m["inputs"][0]["changed_during_stage"] is True
    assert m["status"] == "success"


def test_a_new_date_alone_is_no_change(job: JobFiles, fresh: Path) -> None:
    """An input that is touched, or written anew with the same bytes, has not changed."""
    for name in ("touched", "same"):
        (fresh / name).write_bytes(b"bytes")
    with pipeline("p", job_dir=job.path), stage("s") as st:
        os.utime(st.track_input("touched"), (1, 1))
        st.track_input("same").write_bytes(b"bytes")
    m = job.stage("s")
    assert [r.get("changed_during_stage") for r in m["inputs"]] == [None, None]
    assert m["warnings"] == []


def test_a_file_updated_in_place_is_input_and_output(job: JobFiles, fresh: Path) -> None:
    """One path may be input and output: each side has its own checksum, and no warning is raised."""
    (fresh / "db").write_bytes(b"old")
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_input("db")
        st.track_output("db").write_bytes(b"newer")
    m = job.stage("s")
    assert m["inputs"][0]["checksum"] == sha256(b"old")
    assert m["outputs"][0]["checksum"] == sha256(b"newer")
    assert m["warnings"] == []


def test_one_path_tracked_twice_is_one_artifact(job: JobFiles) -> None:
    """The later call wins, and there is one entry."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_output(st.dir / "x", type="draft", pages=1)
        st.track_output(st.dir / "." / "x", type="final", pages=2).write_text("x")
    (record,) = job.stage("s")["outputs"]
    assert (record["type"], record["pages"]) == ("final", 2)


def test_checksums_off_or_of_another_algorithm(fresh: Path) -> None:
    """Setting `checksum` names the algorithm, which is the label; `off` leaves the field out."""
    (fresh / "in").write_bytes(b"bytes")
    for setting in ("off", "md5", "blake2b"):
        job = JobFiles(fresh / setting)
        with pipeline("p", job_dir=job.path, checksum=setting), stage("s") as st:
            st.track_input("in")
            st.track_output(st.dir / "x").write_bytes(b"out")
        found = [r.get("checksum") for r in (*job.stage("s")["inputs"], *job.stage("s")["outputs"])]
        expected = (
            [f"{setting}:{hashlib.new(setting, data).hexdigest()}" for data in (b"bytes", b"out")]
            if (setting != "off")
            else [None, None]
        )
        assert found == expected

"""Tracked files that are no plain files, names that are no text, and metadata that is no JSON."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from support import JobFiles, messages, sha256

from otel_stage import pipeline, stage

pytestmark = pytest.mark.usefixtures("fresh")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def test_an_empty_file_is_a_file(job: JobFiles, fresh: Path) -> None:
    """0 bytes are a size and have a checksum."""
    (fresh / "empty").touch()
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_input("empty")
    (record,) = job.stage("s")["inputs"]
    assert (record["size_bytes"], record["checksum"]) == (0, sha256(b""))
    assert job.stage("s")["warnings"] == []


@posix
def test_a_directory_is_one_artifact_that_find_and_sha256sum_repeat(job: JobFiles) -> None:
    """A directory has total size, number of files and a checksum that shell tools repeat."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        out = st.track_output(st.dir / "frames", type="frames")
        (out / "b").mkdir(parents=True)
        (out / "a.txt").write_bytes(b"A" * 10)
        (out / "b" / "c.txt").write_bytes(b"C" * 5)
        (out / "b.txt").write_bytes(b"")
    (record,) = job.stage("s")["outputs"]
    assert (record["kind"], record["size_bytes"], record["file_count"]) == ("directory", 15, 3)
    shell = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum -z | sha256sum"
    by_hand = subprocess.run(["bash", "-c", shell], cwd=out, capture_output=True, text=True, check=True).stdout
    assert record["checksum"] == f"sha256:{by_hand.split()[0]}"


@posix
def test_a_link_is_recorded_with_its_target(job: JobFiles, fresh: Path) -> None:
    """A symbolic link has the size and checksum of what it leads to, and says where that is."""
    (fresh / "real").write_bytes(b"bytes")
    (fresh / "link").symlink_to("real")
    with pipeline("p", job_dir=job.path), stage("s") as st:
        assert st.track_input("link") == fresh / "link"
    assert job.stage("s")["inputs"] == [
        {
            "type": "file", "path": str(fresh / "link"), "size_bytes": 5, "checksum": sha256(b"bytes"),
            "link_target": "real",
        }
    ]  # fmt: skip


@posix
def test_paths_inside_a_job_directory_behind_a_link(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path below the job directory is recorded relative to it, by whichever of its names it is given."""
    (fresh / "real").mkdir()
    (fresh / "link").symlink_to("real")
    job = JobFiles(fresh / "link" / "job")
    with pipeline("p", job_dir=job.path), stage("s") as st:
        monkeypatch.chdir(fresh / "real/job/01_s")
        st.track_output("by_cwd").write_text("x")
        st.track_output((st.dir / "by_resolve").resolve()).write_text("x")
        st.track_output(st.dir / "by_dir").write_text("x")
    assert [o["path"] for o in job.stage("s")["outputs"]] == ["01_s/by_cwd", "01_s/by_resolve", "01_s/by_dir"]


@posix
def test_dangling_and_circular_links_do_not_exist(job: JobFiles, fresh: Path) -> None:
    """Links that lead nowhere are `exists: false`, with their target and a warning each."""
    (fresh / "dangling").symlink_to("nowhere")
    (fresh / "loop").symlink_to("loop")
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_input("dangling")
        st.track_output("loop")
    m = job.stage("s")
    assert (m["inputs"][0]["exists"], m["inputs"][0]["link_target"]) == (False, "nowhere")
    assert m["outputs"][0]["exists"] is False
    assert len(messages(m)) == 2
    assert m["status"] == "success"


@posix
@pytest.mark.parametrize("verb", ["track_input", "track_output", "track_intermediate"])
def test_a_fifo_is_never_opened(job: JobFiles, fresh: Path, verb: str) -> None:
    """A FIFO is recorded as one, without size and checksum, and nobody waits for its other end."""
    os.mkfifo(fresh / "pipe")

    def body() -> None:
        with run.stage("s") as st:
            getattr(st, verb)("pipe")

    with pipeline("p", job_dir=job.path) as run:
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    m = job.stage("s")
    (record,) = m["inputs"] + m["outputs"] + m["intermediate_files"]
    assert record["kind"] == "fifo"
    assert "checksum" not in record
    assert "size_bytes" not in record


@posix
def test_a_name_that_is_no_utf8(job: JobFiles) -> None:
    """A file name of any bytes is recorded, and manifest and journal stay valid UTF-8 JSON."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        path = st.dir / os.fsdecode(b"caf\xe9.txt")
        path.write_bytes(b"x")
        assert st.track_output(path) == path
        st.track_output(st.dir / "größe\n\x1b[31m.txt").write_bytes(b"y")
    raw = (job.path / "01_s/manifest.json").read_bytes()
    first, second = json.loads(raw.decode("utf-8"))["outputs"]
    assert (first["path"], first["checksum"]) == ("01_s/caf\\udce9.txt", sha256(b"x"))
    assert (second["path"], second["checksum"]) == ("01_s/größe\n\x1b[31m.txt", sha256(b"y"))
    assert len(job.stage_log("s")) == 0


def test_metadata_that_collides_with_our_fields(job: JobFiles, fresh: Path) -> None:
    """A colliding key is kept as `metadata.<key>` with a warning each; our own facts stay true."""
    (fresh / "in").write_bytes(b"bytes")
    theirs = {"path": "elsewhere", "size_bytes": -1, "checksum": "md5:0", "exists": False, "retained": "yes"}
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_input("in", **theirs, other=1)
    m = job.stage("s")
    (record,) = m["inputs"]
    assert (record["path"], record["size_bytes"], record["checksum"]) == (str(fresh / "in"), 5, sha256(b"bytes"))
    assert {k: v for k, v in record.items() if k.startswith("metadata.")} == {
        f"metadata.{k}": v for k, v in theirs.items()
    }
    assert record["other"] == 1
    assert len(messages(m)) == len(theirs)


def test_metadata_of_any_kind_is_written(job: JobFiles, fresh: Path) -> None:
    """Cycles, objects, NaN, huge numbers and secrets in metadata never raise and never leak."""
    loop: list[Any] = []
    loop.append(loop)
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_output(
            st.dir / "x",
            loop=loop,
            thing=object(),
            nan=math.nan,
            huge=2**80,
            where=Path("a/b"),
            api_key="hunter2hunter2",
        ).write_text("x")
    (record,) = job.stage("s")["outputs"]
    assert (record["nan"], record["huge"], record["where"]) == ("NaN", str(2**80), "a/b")
    assert record["thing"] == "<builtins.object>"
    assert len(record["loop"]) == 1
    assert b"hunter2" not in job.everything()


class Kind(Enum):
    AUDIO = "audio"


def test_a_type_of_any_kind_is_written(job: JobFiles) -> None:
    """`type` may be an enum or what has no JSON form: the artifact is recorded and the stage has its end."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_output(st.dir / "x", type=Kind.AUDIO).write_text("x")  # type: ignore[arg-type]
        st.track_input(st.dir / "x", type=None)  # type: ignore[arg-type]
        st.track_intermediate(st.dir / "x", type=object(), reason=3)  # type: ignore[arg-type]
    m = job.stage("s")
    assert m["status"] == "success"
    assert m["outputs"][0]["type"] == "audio"
    assert len(m["inputs"]) == len(m["intermediate_files"]) == 1


@pytest.mark.parametrize("nonsense", [None, 3.5, "", "nul\0byte", object()])
def test_what_is_no_path_does_not_raise(job: JobFiles, nonsense: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Tracking what cannot be a path is a warning of ours, never an exception into user code."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        for verb in (st.track_input, st.track_output, st.track_intermediate):
            verb(nonsense)
        st.set_config(alive=True)
    m = job.stage("s")
    assert (m["status"], m["config"]) == ("success", {"alive": True})
    assert m["warnings"] or [r for r in caplog.records if r.name == "otel_stage"]


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(job: JobFiles, fresh: Path) -> None:
    """An unreadable input has its size and no checksum, with a warning that says why."""
    (fresh / "in").write_bytes(b"bytes")
    (fresh / "in").chmod(0)
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.track_input("in")
    m = job.stage("s")
    assert "checksum" not in m["inputs"][0]
    assert m["inputs"][0]["size_bytes"] == 5
    assert len(messages(m)) == 1

"""Manifests as files: written whole or not at all, read with an exact word about what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_stage.errors import ManifestError
from otel_stage.manifest import (
    event_line,
    event_time,
    is_ours,
    now_ns,
    parse_job,
    parse_lines,
    parse_stage,
    parse_time,
    read_job,
    read_stage,
    timestamp,
    to_json,
    write_atomic,
)
from otel_stage.testing import StageSpec, write_job, write_seed_job


@pytest.fixture
def stage_file(tmp_path: Path) -> Path:
    """A stage manifest on disk."""
    return write_job(tmp_path / "job", stages=[StageSpec("asr", number=6)]) / "06_asr" / "manifest.json"


def _changed(path: Path, **fields: object) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}))
    return path


# --- writing


def test_json_is_indented_utf8_with_one_final_newline():
    """A manifest is UTF-8 as people read it: two spaces, no escapes for letters, one newline at the end."""
    assert to_json({"stage": "größe", "n": [1]}) == '{\n  "stage": "größe",\n  "n": [\n    1\n  ]\n}\n'.encode()


def test_writing_leaves_nothing_beside_the_file(tmp_path: Path):
    """After a write, and after one more, the folder holds the file alone, with the last content."""
    for content in (b"one", b"two"):
        write_atomic(str(tmp_path / "m.json"), content, fsync=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]
    assert (tmp_path / "m.json").read_bytes() == b"two"


def test_a_failed_write_keeps_the_old_content(tmp_path: Path):
    """When the new content cannot be put in place the old one stays, and no temporary file is left."""
    target = tmp_path / "m.json"
    target.mkdir()
    with pytest.raises(OSError):
        write_atomic(str(target), b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_a_reader_never_sees_a_part(tmp_path: Path):
    """A process that reads without pause while another writes finds valid, whole JSON every time."""
    target = tmp_path / "m.json"
    write_atomic(str(target), to_json({"n": -1, "pad": ["x" * 100] * 500}))
    writer = subprocess.Popen(
        [sys.executable, "-c", f"""if True:
            from otel_stage.manifest import to_json, write_atomic
            for n in range(300):
                write_atomic({str(target)!r}, to_json({{"n": n, "pad": ["x" * 100] * (n % 500)}}))
        """]
    )  # fmt: skip
    seen = set()
    while writer.poll() is None:
        content = json.loads(target.read_bytes())
        assert len(content["pad"]) == (500 if content["n"] == -1 else content["n"] % 500)
        seen.add(content["n"])
    assert writer.returncode == 0
    assert json.loads(target.read_bytes())["n"] == 299
    assert len(seen) > 1


# --- reading


def test_what_is_written_is_read(stage_file: Path):
    """A stage manifest and a job manifest come back as they were written."""
    assert read_stage(stage_file) == json.loads(stage_file.read_bytes())
    job_file = stage_file.parents[1] / "manifest.json"
    assert read_job(job_file) == json.loads(job_file.read_bytes())


def test_unknown_fields_are_kept(stage_file: Path):
    """Fields of a later minor version, at any depth, survive reading."""
    _changed(stage_file, schema_version="1.7", later={"x": [1]}, inputs=[{"type": "a", "path": "b", "new": 5}])
    manifest = read_stage(stage_file)
    assert manifest["later"] == {"x": [1]}
    assert manifest["inputs"] == [{"type": "a", "path": "b", "new": 5}]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stage": 5}, "06_asr/manifest.json: expected str, got int - at $.stage"),
        ({"inputs": [{"path": "a"}, {"path": 1}]}, "06_asr/manifest.json: expected str, got int - at $.inputs[1].path"),
        ({"resources": {"gpus": [{"index": "0"}]}}, "06_asr/manifest.json: expected int, got str - at $.resources.gpus[0].index"),
        ({"status": "finished"}, "06_asr/manifest.json: invalid enum value 'finished' - at $.status"),
        ({"config": []}, "06_asr/manifest.json: expected object, got array - at $.config"),
        ({"schema_version": "2.0"},
         "06_asr/manifest.json: written by a newer version (schema 2.0, this one reads 1.x) - at $.schema_version"),
        ({"timestamp": "yesterday"}, "06_asr/manifest.json: expected str matching regex "),
    ],
)  # fmt: skip
def test_a_malformed_manifest_is_named_with_the_place(stage_file: Path, fields: dict, said: str):
    """The error says which file, what was expected, what there is, and where in it."""
    with pytest.raises(ManifestError) as caught:
        read_stage(_changed(stage_file, **fields))
    assert str(caught.value).startswith(said)
    assert str(caught.value) == said or said.endswith(" ")


def test_a_missing_field_is_named(stage_file: Path):
    """A field that must be there and is not is named."""
    manifest = json.loads(stage_file.read_bytes())
    del manifest["status"]
    with pytest.raises(ManifestError, match=r"^manifest\.json: object missing required field status - at \$$"):
        parse_stage(json.dumps(manifest).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"text"'])
def test_what_is_no_manifest_is_refused_by_name(data: bytes):
    """Whatever bytes are read, the error is a `ManifestError` that begins with the file's name."""
    for parse in (parse_stage, parse_job):
        with pytest.raises(ManifestError, match="^here: "):
            parse(data, where="here")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes):
    """Arbitrary bytes are no job manifest of ours, and parsing them raises nothing but `ManifestError`."""
    assert not is_ours(data)
    with pytest.raises(ManifestError):
        parse_stage(data)


def test_manifests_of_the_seeds_kind_are_accepted(tmp_path: Path):
    """A manifest without `schema_version` is read, and what its kind lacks is filled in."""
    job = write_seed_job(
        tmp_path / "job",
        stages=[StageSpec("asr", status="failed", inputs=["a.wav"], errors=["no speech"], warnings=["mono"])],
    )
    manifest = read_stage(job / "01_asr" / "manifest.json")
    assert (manifest["schema_version"], manifest["run_id"], manifest["attempt"]) == ("0.0", "", 1)
    assert manifest["errors"] == [{"message": "no speech"}, {"message": "RuntimeError: out of memory"}]
    assert manifest["warnings"] == [{"message": "mono"}]
    assert manifest["inputs"][0]["path"] == "a.wav"


def test_a_seed_manifest_that_lacks_lists_gets_them():
    """A seed manifest with nothing but its name and status is one with empty lists."""
    manifest = parse_stage(b'{"stage": "asr", "status": "success"}')
    assert [manifest[name] for name in ("inputs", "outputs", "intermediate_files", "errors", "warnings")] == [[]] * 5


def test_ours_is_told_from_somebody_elses(tmp_path: Path):
    """A `manifest.json` is ours by its fields, not by its name."""
    job = write_job(tmp_path / "job", stages=["demux"])
    assert is_ours((job / "manifest.json").read_bytes())
    assert not is_ours((job / "01_demux" / "manifest.json").read_bytes())
    for data in (b"{}", b"[]", b"", b'{"pipeline": {}, "stages": []}', b"\x00"):
        assert not is_ours(data)


# --- time


@given(st.integers(min_value=0, max_value=4_102_444_800_000_000_000))
def test_times_round_trip(ns: int):
    """The time of an event is read back to the nanosecond, and sorts as text as it does as a number."""
    assert parse_time(event_time(ns)) == ns
    assert parse_time(timestamp(ns)) == ns // 1_000_000 * 1_000_000
    assert (event_time(ns) < event_time(ns + 1)) is True


def test_offsets_are_understood():
    """Times with an offset from UTC, with and without fractions, are the same instants."""
    assert parse_time("2025-11-27T07:50:00.5+01:00") == parse_time("2025-11-27T06:50:00.500Z")
    assert parse_time("2025-11-27T07:50:00+01:00") == parse_time("2025-11-27T06:50:00Z")


def test_the_clock_never_stands_still():
    """Two events of one process never have the same time."""
    times = [now_ns() for _ in range(5000)]
    assert sorted(set(times)) == times


# --- journal lines


def test_lines_come_in_order_and_a_torn_one_is_left_out():
    """Lines are read in order of time; a last one without its newline, which a death cut short, is left out."""
    lines = [event_line("stage.warning", n, {"message": str(n)}) for n in (3, 1, 2)]
    data = "\n".join(lines).encode() + b"\n" + event_line("stage.warning", 4, {"message": "4"})[:-5].encode()
    assert [event["message"] for event in parse_lines(data)] == ["1", "2", "3"]


def test_strict_reading_names_the_line():
    """A malformed line in the middle is left out, or named when asked to be strict."""
    good = event_line("stage.warning", 1, {"message": "m"}).encode()
    for bad in (b'{"time": "x"', b"[1]", b'{"time": "x"}', b"\xff"):
        data = good + b"\n" + bad + b"\n"
        assert len(list(parse_lines(data))) == 1
        with pytest.raises(ManifestError, match="^06_asr.jsonl: "):
            list(parse_lines(data, where="06_asr.jsonl", strict=True))


@pytest.mark.skipif(os.name == "nt", reason="names on Windows are text")
def test_the_errors_file_name_is_short(tmp_path: Path):
    """The error names folder and file, not the whole path."""
    folder = tmp_path / "06_asr"
    folder.mkdir()
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ManifestError, match=r"^06_asr/manifest\.json: "):
        read_stage(folder / "manifest.json")

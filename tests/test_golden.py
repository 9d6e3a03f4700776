"""Every file format, byte for byte: one fixed scenario run for real, against the files in tests/golden/.

`pytest tests/test_golden.py --update-golden` (or `UPDATE_GOLDEN=1`) writes them anew; look at the diff before you
commit it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from support import run_python

from otel_stage import __version__
from otel_stage.manifest import fold, parse_lines

GOLDEN = Path(__file__).parent / "golden"

# Ids and the times of events are fixed; what belongs to the machine and the moment is made alike afterwards.
SCENARIO = """
import logging
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from otel_stage import pipeline, stage
from otel_stage.testing import StepClock, deterministic_ids

trace.set_tracer_provider(TracerProvider(id_generator=deterministic_ids()))
with StepClock().installed(), pipeline(
    "subtitles", job_dir="baseline/1", stages=["demux", "asr", "mux"], config={"lang": "hi", "api_key": "hunter2"}
) as job:
    job.log.info("three stages")
    with open("baseline/1/movie.mp4", "wb") as f:
        f.write(b"a movie")
    with stage("demux") as st:
        st.track_input("baseline/1/movie.mp4", type="video")
        audio = st.track_output(st.dir / "audio.wav", type="audio", sample_rate=16_000)
        audio.write_bytes(b"a sound")
        st.track_output(st.dir / "video.h264", type="video")
        st.track_intermediate(st.dir / ".cache", retained=True, reason="frames for the next run")
        st.set_config(codec="pcm_s16le", channels=1, filters=["loudnorm", None], ratio=0.5)
        st.log.debug("opening %s", "movie.mp4")
        st.log.info("found 1 audio stream\\nand 1 video stream")
        st.log.warning("escape \\x1b[31mred\\x1b[0m and \\r carriage")
        logging.getLogger("av.codec").warning("unknown tag, token=hunter2")
        st.add_warning("input is mono")
        st.add_error("one frame was lost")
        st.set_resources(frames=250)
    try:
        with stage("asr", key="hi-IN") as st:
            st.track_input(audio, type="audio")
            raise RuntimeError("out of memory: größe")
    except RuntimeError:
        pass
    with stage("mux") as st:
        st.skip("no subtitles")
"""

FORMATS = {
    "stage.manifest.json": "01_demux/manifest.json",
    "failed-stage.manifest.json": "04_asr.hi-IN/manifest.json",
    "job.manifest.json": "manifest.json",
    "stage.journal.jsonl": ".otel-stage/stages/01_demux.jsonl",
    "job.journal.jsonl": ".otel-stage/journal.jsonl",
    "stage.log": "01_demux/stage.log",
    "failed-stage.log": "04_asr.hi-IN/stage.log",
    "pipeline.log": "logs/99_pipeline_*.log",
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job directory that the scenario leaves."""
    folder = tmp_path_factory.mktemp("golden")
    # Under a name that is no file, so that no version of Python shows source lines in tracebacks.
    code = f"exec(compile({SCENARIO!r}, 'pipeline.py', 'exec'))"
    run_python(code, cwd=folder, env={"OTEL_STAGE_CONSOLE": "off", "OTEL_STAGE_UTC": "1"})
    return folder / "baseline" / "1"


def normalised(data: bytes, job: Path) -> str:
    """The content of a file without what belongs to the machine and the moment."""
    run_id = json.loads((job / "manifest.json").read_bytes())["run_id"]
    text = data.decode().replace(run_id, "20251127T065000Z-1f3a9c2e").replace(str(job), "/data/out/baseline/1")
    for pattern, plain in (
        (r'("version": ?)"' + re.escape(__version__) + '"', r'\1"0.1.0"'),
        (r'("pid": ?)\d+', r"\g<1>4711"),
        (r'("host": ?)"[^"]*"', r'\1"worker-1"'),
        (r'("start_ticks": ?)(\d+|null)', r"\g<1>100000"),
        (r'("boot_id": ?)("[^"]*"|null)', r'\1"00000000-0000-4000-8000-000000000000"'),
        (r'("(?:duration|total)_seconds": ?)\d[\d.e-]*', r"\g<1>0.25"),
        (r'("manifest_sha256": ?)"[0-9a-f]{64}"', r'\1"…"'),
        (r'("folded_bytes": ?)\d+', r"\g<1>0"),
        (r"99_pipeline_\d{8}_\d{6}", "99_pipeline_20251127_065000"),
        (r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]", "[2025-11-27 06:50:00]"),
        (r"\(\d+\.\ds\)", "(0.2s)"),
    ):
        text = re.sub(pattern, plain, text)
    return text


def _updating(config: pytest.Config) -> bool:
    return bool(os.environ.get("UPDATE_GOLDEN") or config.getoption("--update-golden", default=False))


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_as_it_was(job: Path, request: pytest.FixtureRequest, name: str):
    """Each kind of file is what its golden file says, byte for byte."""
    (path,) = job.glob(FORMATS[name])
    text = normalised(path.read_bytes(), job)
    golden = GOLDEN / name
    if _updating(request.config):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(text, encoding="utf-8", newline="\n")
    assert text == golden.read_text(encoding="utf-8"), f"see {golden}; --update-golden writes it anew"


def test_no_golden_file_is_left_over():
    """Every file in tests/golden/ belongs to a format that is checked."""
    assert {path.name for path in GOLDEN.iterdir()} == set(FORMATS)


def test_what_was_made_alike_is_true(job: Path):
    """The seals and counts that golden files leave open agree with the files."""
    manifest = json.loads((job / "manifest.json").read_bytes())
    journal = (job / ".otel-stage" / "journal.jsonl").read_bytes()
    assert manifest.pop("journal") == {"folded_bytes": len(journal)}
    assert fold(parse_lines(journal)) == manifest
    for entry in manifest["stages"].values():
        data = (job / entry["manifest"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["manifest_sha256"]
        log = (job / entry["log"]).read_bytes()
        assert json.loads(data)["log"]["size_bytes"] == len(log)
        assert json.loads(data)["log"]["lines"] == log.count(b"\n")
    assert (job / manifest["log"]).is_file()


def test_nothing_secret_is_in_any_file(job: Path):
    """The key that the scenario's config and a library's message hold is in no file."""
    assert not [path for path in job.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]

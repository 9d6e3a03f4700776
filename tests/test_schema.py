"""The published JSON Schema: generated from the model, and true of what is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from support import JobFiles

from otel_stage import pipeline, stage
from otel_stage.manifest import json_schema
from otel_stage.testing import FileSpec, StageSpec, write_job

_KINDS = ("stage", "job", "journal")
_DOCS = Path(__file__).resolve().parents[1] / "docs" / "reference" / "schema"


@pytest.fixture(scope="module")
def validators() -> dict[str, jsonschema.Draft202012Validator]:
    """A validator per kind."""
    return {kind: jsonschema.Draft202012Validator(json_schema(kind)) for kind in _KINDS}


def _contents(job: Path) -> Iterator[tuple[str, dict]]:
    """Every manifest and every journal line of a job directory, with its kind."""
    yield "job", json.loads((job / "manifest.json").read_bytes())
    for path in sorted(job.glob("*_*/manifest.json")):
        yield "stage", json.loads(path.read_bytes())
    for path in sorted((job / ".otel-stage").rglob("*.jsonl")):
        if not path.name.endswith("samples.jsonl"):
            for line in path.read_bytes().splitlines():
                yield "journal", json.loads(line)


def _check(job: Path, validators: dict[str, jsonschema.Draft202012Validator]) -> set[str]:
    seen = set()
    for kind, content in _contents(job):
        validators[kind].validate(content)
        seen.add(content.get("event", kind))
    return seen


@pytest.mark.parametrize("kind", _KINDS)
def test_the_schema_is_a_schema(kind: str):
    """Each published schema is valid JSON Schema 2020-12."""
    jsonschema.Draft202012Validator.check_schema(json_schema(kind))


@pytest.mark.parametrize("kind", _KINDS)
def test_the_docs_hold_what_the_model_says(kind: str):
    """The files under docs/ are what the model generates (`python docs/_generate/schema.py` writes them)."""
    text = json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n"
    assert (_DOCS / f"{kind}.schema.json").read_text(encoding="utf-8") == text


def test_generated_directories_are_valid(tmp_path: Path, validators):
    """What `otel_stage.testing` writes, of every status, is valid against all three schemas."""
    statuses = ["success", "failed", "skipped", "reused", "cancelled", "crashed", "running"]
    specs = [
        StageSpec(f"s-{status}", status=status, inputs=["in"], outputs=[FileSpec(path="o", exists=status != "failed")],
                  intermediates=[FileSpec(path="c", metadata={"retained": True, "reason": "cache"})],
                  config={"a": 1}, warnings=["w"], errors=["e"], log=[("INFO", "x")])
        for status in statuses
    ]  # fmt: skip
    seen = _check(write_job(tmp_path / "job", stages=specs, runs=2, config={"k": 1}), validators)
    seen |= _check(write_job(tmp_path / "done", stages=specs[:2]), validators)
    assert {"stage.start", "stage.end", "stage.error", "stage.warning", "stage.config", "stage.artifact"} < seen
    assert {"job.start", "job.config", "job.environment", "job.end"} < seen


def test_a_real_run_is_valid(job: JobFiles, validators):
    """What a real run leaves, a failed and a skipped stage included, is valid against all three schemas."""
    with pipeline("real", job_dir=job.path, config={"lang": "hi"}, console="off", resources=True, facts=True):
        with stage("demux") as st:
            (st.dir / "a.wav").write_bytes(b"123")
            st.track_output(st.dir / "a.wav", sample_rate=16_000)
            st.track_intermediate(st.dir / "cache", retained=True, reason="for later")
            st.track_input("nowhere.txt")
            st.set_config(model="large", rate=0.5, none=None)
            st.set_resources(tokens=5)
            st.add_warning("mono")
        with pytest.raises(RuntimeError), stage("asr"):
            raise RuntimeError("out of memory")
        with stage("mux") as st:
            st.skip("no video")
    seen = _check(job.path, validators)
    assert {"stage.start", "stage.artifact", "stage.resource", "stage.end", "job.start", "job.end"} < seen


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("stage", {"status": "finished"}),
        ("stage", {"duration_seconds": -1}),
        ("stage", {"outputs": [{"type": "no path"}]}),
        ("job", {"pipeline": {}}),
        ("job", {"stages": []}),
        ("journal", {"event": "stage.unheard"}),
    ],
)
def test_the_schema_refuses_what_is_wrong(tmp_path: Path, validators, kind: str, wrong: dict):
    """The schemas are no rubber stamp: a wrong field makes a valid document invalid."""
    job = write_job(tmp_path / "job", stages=["demux"])
    content = next(content for found, content in _contents(job) if found == kind)
    with pytest.raises(jsonschema.ValidationError):
        validators[kind].validate({**content, **wrong})

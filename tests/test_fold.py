"""`fold`: the same events give the same manifest, from whatever they are read and in whatever order."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from support import run_python

from otel_stage.errors import ManifestError
from otel_stage.manifest import encode, event_line, events_from_otlp, fold, fold_stage_journal, parse_lines, parse_time
from otel_stage.testing import FileSpec, StageSpec, write_job

Event = Mapping[str, Any]

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_artifact = st.builds(
    lambda role, path, size, more: (
        "stage.artifact",
        {"role": role, "artifact": {**more, "type": "file", "path": path, "size_bytes": size}},
    ),
    st.sampled_from(["input", "output", "intermediate"]),
    st.sampled_from(["a", "b/ü", "/c"]),
    st.integers(0, 2**53),
    st.dictionaries(_text, _value, max_size=2),
)
_said = st.one_of(
    _artifact,
    st.builds(lambda c: ("stage.config", {"config": c}), st.dictionaries(_text, _value, max_size=3)),
    st.builds(lambda m: ("stage.warning", {"message": m}), _text),
    st.builds(lambda m, t: ("stage.error", {"message": m, "type": "E", "traceback": t}), _text, st.none() | _text),
    st.builds(lambda r: ("stage.resource", {"resources": r}), st.dictionaries(_text, _value, max_size=2)),
    st.builds(lambda v: ("stage.of_a_later_version", {"what": v}), _value),
)
_end = st.builds(
    lambda status, seconds, reason: (
        "stage.end",
        {"id": "asr", "status": status, "duration_seconds": seconds, "reason": reason,
         "resources": {"cpu_seconds": seconds}, "otel": {"end_time_unix_nano": "5"}, "log": {"path": "l", "lines": 3}},
    ),
    st.sampled_from(["success", "failed", "skipped", "cancelled", "crashed"]),
    st.floats(0, 1e6),
    st.none() | _text,
)  # fmt: skip
_PROCESS = {"pid": 4711, "host": "worker-1", "start_ticks": 7, "boot_id": "b"}
_START = {
    "schema_version": "1.0", "stage": "asr", "key": None, "id": "asr", "stage_number": 6, "run_id": "r", "attempt": 1,
    "folder": "06_asr", "process": _PROCESS, "environment": {"host": "worker-1"},
}  # fmt: skip


def _timed(said: Iterable[tuple[str, dict[str, Any]]], began: int, steps: list[int]) -> list[dict[str, Any]]:
    """Events as they are read back from a journal, each later than the one before."""
    ns, events = began, []
    for n, (name, fields) in enumerate(said):
        ns += steps[n % len(steps)]
        events.append(json.loads(event_line(name, ns, fields)))
    return events


@st.composite
def stage_events(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The events of one stage, ended or still running."""
    said = [("stage.start", _START), *draw(st.lists(_said, max_size=8)), *draw(st.lists(_end, max_size=1))]
    return _timed(said, draw(st.integers(0, 4 * 10**18)), draw(st.lists(st.integers(1, 10**10), min_size=1, max_size=4)))


def _job_events(stages: list[str], ends: list[str], open_ended: bool) -> list[dict[str, Any]]:
    said: list[tuple[str, dict[str, Any]]] = [
        ("job.start", {"schema_version": "1.0", "version": "0", "name": "p", "job_id": "j", "run_id": "r",
                       "process": _PROCESS, "open_ended": open_ended}),
        ("job.config", {"config": {"a": 1}}),
        ("job.environment", {"environment": {"host": "worker-1"}}),
    ]  # fmt: skip
    for number, (ident, end) in enumerate(zip(stages, ends, strict=False), 1):
        start = {**_START, "id": ident, "stage": ident, "stage_number": number, "folder": f"{number:02d}_{ident}"}
        said.append(("stage.start", start))
        if end != "running":
            said.append(("stage.end", {"id": ident, "status": end, "duration_seconds": 1.0, "manifest_sha256": "5a"}))
    said.append(("job.telemetry", {"process": _PROCESS, "otlp_endpoint": "e", "spans_exported": 3}))
    if "running" not in ends[: len(stages)] and not open_ended:
        said.append(("job.end", {"status": "success", "duration_seconds": 2.0}))
    return _timed(said, 10**18, [1_000_003])


# --- order


@given(stage_events(), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_stage_manifest(events, random):
    """A stage's events fold to the same bytes in whatever order they arrive."""
    shuffled = events[:]
    random.shuffle(shuffled)
    assert encode(fold(shuffled)) == encode(fold(events))


@given(
    st.lists(st.sampled_from("abcdef"), unique=True, max_size=5),
    st.lists(st.sampled_from(["success", "failed", "skipped", "running", "crashed"]), min_size=5, max_size=5),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_any_order_gives_the_same_job_manifest(stages, ends, open_ended, random):
    """A job's events fold to the same bytes in whatever order they arrive."""
    events = _job_events(stages, ends, open_ended)
    shuffled = events[:]
    random.shuffle(shuffled)
    assert encode(fold(shuffled)) == encode(fold(events))
    assert list(fold(events)["stages"]) == stages[: len(ends)]


@given(st.lists(_text, min_size=2, max_size=5, unique=True), st.randoms(use_true_random=False))
def test_events_of_the_same_instant_have_one_order(messages, random):
    """Two processes may speak in the same nanosecond: which comes first does not depend on the order of arrival."""
    events = [json.loads(event_line("stage.start", 1, _START))]
    events += [json.loads(event_line("stage.warning", 2, {"message": m})) for m in messages]
    shuffled = events[:]
    random.shuffle(shuffled)
    assert encode(fold(shuffled)) == encode(fold(events))


def test_a_clock_that_is_behind_loses_no_stage():
    """A stage opened on a host whose clock is behind the pipeline's is in the job manifest all the same."""
    events = _job_events(["a", "b"], ["success", "success"], False)
    for event in events:
        if event.get("id") == "b":
            event["time"] = event["time"].replace("2001", "2000")
    assert sorted(fold(events)["stages"]) == ["a", "b"]


# --- journals


def _journal(events: Iterable[Event]) -> bytes:
    return b"".join(encode(event) + b"\n" for event in events)


@given(stage_events(), st.randoms(use_true_random=False))
def test_a_journal_folds_to_the_same_manifest(events, random):
    """Written as lines, in any order, and read back, the events fold to the same bytes."""
    random.shuffle(shuffled := events[:])
    assert encode(fold_stage_journal(_journal(shuffled))) == encode(fold(events))
    assert encode(fold(parse_lines(_journal(shuffled)))) == encode(fold(events))


@given(stage_events(), st.integers(0, 10**6))
def test_a_torn_last_line_is_ignored(events, cut):
    """A journal that was cut in the middle of its last line folds to what was whole before."""
    *whole, last = events
    line = encode(last)
    data = _journal(whole) + line[: cut % len(line)]
    assert list(parse_lines(data)) == sorted(whole, key=lambda e: e["time"])
    if whole:
        assert encode(fold_stage_journal(data)) == encode(fold(whole))
    else:
        with pytest.raises(ManifestError, match=r"no stage\.start"):
            fold_stage_journal(data)


def test_unknown_events_are_left_out(tmp_path: Path):
    """Events that this version does not know change nothing in either manifest."""
    for known in (_timed([("stage.start", _START)], 5, [1]), _job_events(["a"], ["success"], False)):
        unknown = _timed([("stage.heartbeat", {"n": 1}), ("job.rating", {"stars": 5}), ("x", {})], 10**18, [7])
        assert fold(known + unknown) == fold(known)


@pytest.mark.parametrize(
    "bad",
    [
        {"event": "stage.artifact"},
        {"event": "stage.artifact", "role": "input", "artifact": []},
        {"event": "stage.config", "config": 5},
        {"event": "stage.warning"},
        {"event": "stage.end"},
    ],
)
def test_a_malformed_event_costs_itself_alone(bad: dict[str, Any]):
    """An event of a known kind without its fields is left out; what else was said is not lost with it."""
    good = _timed([("stage.start", _START), ("stage.warning", {"message": "m"})], 5, [1])
    if bad["event"] == "stage.end":
        assert fold([*good, {**bad, "time": "2025-11-27T06:50:00.000000000Z"}])["warnings"]
        return
    assert fold([*good, {**bad, "time": "2025-11-27T06:50:00.000000000Z"}]) == fold(good)


def test_without_a_start_there_is_no_manifest():
    """Events without a start amount to nothing, and the error says what is missing."""
    for events in ([], _timed([("stage.warning", {"message": "m"})], 5, [1])):
        with pytest.raises(ManifestError, match=r"no stage\.start among the events"):
            fold(events)


# --- what a fold says


def test_the_later_word_wins():
    """An artifact said again replaces the first in its place; config and resources go by key."""
    said = [
        ("stage.start", _START),
        ("stage.artifact", {"role": "output", "artifact": {"type": "f", "path": "a"}}),
        ("stage.artifact", {"role": "output", "artifact": {"type": "f", "path": "b"}}),
        ("stage.config", {"config": {"x": 1, "y": 1}}),
        ("stage.artifact", {"role": "output", "artifact": {"type": "f", "path": "a", "size_bytes": 3}}),
        ("stage.config", {"config": {"x": 2}}),
        ("stage.resource", {"resources": {"memory_mb": 7}}),
        ("stage.end", {"id": "asr", "status": "success", "resources": {"memory_mb": 5, "cpu_seconds": 1}}),
    ]
    manifest = fold(_timed(said, 5, [1]))
    assert manifest["outputs"] == [{"type": "f", "path": "a", "size_bytes": 3}, {"type": "f", "path": "b"}]
    assert manifest["config"] == {"x": 2, "y": 1}
    assert manifest["resources"] == {"memory_mb": 7, "cpu_seconds": 1}


def test_folding_does_not_change_the_events():
    """`fold` is pure: it leaves the events as they were, and gives the same again."""
    events = _job_events(["a", "b"], ["success", "running"], False)
    before = encode(events)
    assert fold(events) == fold(events)
    assert encode(events) == before


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        (["success", "running"], "running"),
        (["success", "success"], "success"),
        (["skipped", "reused"], "success"),
        (["failed", "crashed"], "crashed"),
        (["cancelled", "failed"], "failed"),
        (["cancelled", "success"], "cancelled"),
    ],
)
def test_an_open_ended_run_goes_by_its_stages(ends: list[str], status: str):
    """A run without a pipeline block is running while a stage is, else as bad as its worst stage."""
    assert fold(_job_events(["a", "b"], ends, True))["pipeline"]["status"] == status


def test_a_failure_that_was_caught_leaves_success():
    """The job's status is how the pipeline block ended, whatever its stages did."""
    manifest = fold(_job_events(["a", "b"], ["failed", "success"], False))
    assert manifest["pipeline"]["status"] == "success"
    assert manifest["pipeline"]["failed_stages"] == ["a"]


def test_the_telemetry_of_all_processes_is_added_up():
    """Each process counts what it sent; its later word wins, and the job has the sum."""
    said = [
        ("job.telemetry", {"process": {"pid": pid, "host": "h"}, "otlp_endpoint": "e", "spans_exported": n, "failed": 1})
        for pid, n in ((1, 5), (2, 7), (1, 6))
    ]
    events = _job_events([], [], True) + _timed(said, 2 * 10**18, [1])
    assert fold(events)["telemetry"] == {
        "otlp_endpoint": "e", "spans_exported": 6 + 7 + 3, "logs_exported": 0, "failed": 2,
    }  # fmt: skip


# --- OTLP


def otlp_json(events: Iterable[tuple[str, str, Event]]) -> dict[str, Any]:
    """(run, stage, event) as OTLP JSON, by the exporter's own encoder and the rules of the OTLP specification."""
    records = [
        ReadableLogRecord(
            log_record=LogRecord(
                timestamp=parse_time(event["time"]),
                trace_id=0x5BA91FAF7A024204F7C1BD874DA5E709,
                span_id=0xE443DF789558867F,
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                body=encode(event).decode(),
                event_name=event["event"],
                attributes={"stage.run.id": run, "stage.id": stage} if stage else {"stage.run.id": run},
            ),
            resource=Resource({"service.name": "p"}),
            instrumentation_scope=InstrumentationScope("otel_stage"),
        )
        for run, stage, event in events
    ]
    document = MessageToDict(encode_logs(records), use_integers_for_enums=True)
    # Protobuf's JSON has ids in base64; OTLP's has them in hex.
    for resource_logs in document.get("resourceLogs", []):
        for scope_logs in resource_logs["scopeLogs"]:
            for record in scope_logs["logRecords"]:
                for name in ("traceId", "spanId"):
                    record[name] = base64.b64decode(record[name]).hex()
    return document


def _grouped(document: dict[str, Any] | bytes) -> dict[tuple[str, str], list[Event]]:
    groups: dict[tuple[str, str], list[Event]] = {}
    for run, stage, event in events_from_otlp(document):
        groups.setdefault((run, stage), []).append(event)
    return groups


@settings(max_examples=50)
@given(stage_events(), st.randoms(use_true_random=False))
def test_events_read_back_from_otlp_fold_to_the_same_manifest(events, random):
    """Sent by OTLP in any order and read back from its JSON, the events fold to the same bytes."""
    random.shuffle(shuffled := events[:])
    document = otlp_json(("r", "asr", event) for event in shuffled)
    assert document["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["traceId"] == "5ba91faf7a024204f7c1bd874da5e709"
    for form in (document, json.dumps(document), json.dumps(document, ensure_ascii=False).encode()):
        groups = _grouped(form)
        assert list(groups) == [("r", "asr")]
        assert encode(fold(groups["r", "asr"])) == encode(fold(events))


def test_other_peoples_log_records_are_passed_over():
    """Records that are no events of ours, or only look like some, are left out."""
    mine = _timed([("stage.start", _START)], 5, [1])
    document = otlp_json(("r", "asr", event) for event in mine)
    records = document["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    body = records[0]["body"]
    records += [
        {"body": {"stringValue": "hello"}},
        {"eventName": "stage.start", "body": {"stringValue": "no json"}},
        {"eventName": "stage.end", "body": body},
        {"eventName": "stage.start"},
        {"eventName": "stage.start", "body": {"kvlistValue": {"values": []}}},
        {"eventName": "other.event", "body": body},
    ]
    assert _grouped(document) == {("r", "asr"): mine}
    assert _grouped({}) == {}


def test_a_generated_job_survives_otlp(tmp_path: Path):
    """Every journal of a job, sent by OTLP and read back, folds to the manifests that stand in the directory."""
    job = write_job(
        tmp_path / "job",
        stages=[
            StageSpec("demux", outputs=[FileSpec(path="ä.wav", metadata={"rate": 3})], config={"x": None}),
            StageSpec("asr", status="failed", inputs=["01_demux/ä.wav"], warnings=["mono"]),
        ],
    )
    sent = []
    for path in sorted((job / ".otel-stage" / "stages").glob("*.jsonl")):
        sent += [("r", path.stem[3:], event) for event in parse_lines(path.read_bytes())]
    sent += [("r", "", event) for event in parse_lines((job / ".otel-stage" / "journal.jsonl").read_bytes())
             if event["event"].startswith("job.")]  # fmt: skip
    groups = _grouped(otlp_json(sent))
    assert set(groups) == {("r", ""), ("r", "demux"), ("r", "asr")}
    for folder, ident in (("01_demux", "demux"), ("02_asr", "asr")):
        assert fold(groups["r", ident]) == json.loads((job / folder / "manifest.json").read_bytes())
    assert fold(groups["r", ""])["pipeline"]["status"] == "failed"


_REAL = """
    import sys
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
    from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
    from otel_stage import pipeline, stage

    sent = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(sent))
    set_logger_provider(provider)
    with pipeline("p", job_dir="job", config={"lang": "hi", "password": "hunter2"}):
        with stage("demux") as st:
            (st.dir / "a.wav").write_bytes(b"123")
            st.track_output(st.dir / "a.wav", token="hunter2")
            st.set_config(x=None, y=float("nan"), z=[1, "ü"])
            st.log.info("hello")
            st.add_warning("mono")
            st.set_resources(tokens=5)
        try:
            with stage("asr", key="b.c"):
                raise RuntimeError("out of memory")
        except RuntimeError:
            pass
    open("sent.pb", "wb").write(encode_logs(sent.get_finished_logs()).SerializeToString())
"""


def test_what_a_real_run_sends_folds_to_the_manifests_on_disk(tmp_path: Path):
    """The log events that leave by OTLP amount to the same stage manifests as the files, masked alike."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    run_python(_REAL, cwd=tmp_path, env={"OTEL_STAGE_CONSOLE": "off"})
    request = ExportLogsServiceRequest.FromString((tmp_path / "sent.pb").read_bytes())
    document = MessageToDict(request, use_integers_for_enums=True)
    assert b"hunter2" not in encode(document)
    groups = _grouped(document)
    run_id = json.loads((tmp_path / "job" / "manifest.json").read_bytes())["run_id"]
    assert set(groups) == {(run_id, ""), (run_id, "demux"), (run_id, "asr.b.c")}
    for folder, ident in (("01_demux", "demux"), ("02_asr.b.c", "asr.b.c")):
        on_disk = json.loads((tmp_path / "job" / folder / "manifest.json").read_bytes())
        assert fold(groups[run_id, ident]) == on_disk
    job = fold(groups[run_id, ""])
    assert (job["name"], job["config"], job["pipeline"]["status"]) == ("p", {"lang": "hi", "password": "***"}, "success")

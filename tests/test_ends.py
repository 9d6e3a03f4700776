"""How stages and pipelines end: status, error record, lines and span for each way out of a block."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from support import JobFiles, run_python, texts

from otel_stage import pipeline, stage

Python = Callable[..., CompletedProcess[str]]

# Each end in a pipeline of its own, seen by an exporter of the application's own provider.
ENDS = '''
import asyncio, json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
from otel_stage import pipeline, stage

class Custom(Exception):
    """An exception of the user's own."""

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")

def ok(st): pass
def skipped(st): st.skip("no input files")
def failed(st): raise RuntimeError("out of memory")
def custom(st): raise Custom("line one\\nline two")
def mute(st): raise Mute()
def empty(st): raise ValueError
def cause(st):
    try: int("x")
    except ValueError as err: raise KeyError("k") from err
def exit_none(st): sys.exit()
def exit_0(st): sys.exit(0)
def exit_3(st): sys.exit(3)
def exit_text(st): sys.exit("bad option")
def interrupt(st): raise KeyboardInterrupt
def cancelled(st): raise asyncio.CancelledError
def timeout(st): raise TimeoutError("30 s are over")
def program_timeout(st): st.run([sys.executable, "-c", "import sys; sys.stdin.read(); import time; time.sleep(60)"], timeout=0.3)
def program_failed(st): st.run([sys.executable, "-c", "import sys; sys.exit('no such codec')"])
def generator(st):
    raise GeneratorExit

out = {}
for fn in (ok, skipped, failed, custom, mute, empty, cause, exit_none, exit_0, exit_3, exit_text, interrupt, cancelled, timeout,
           program_timeout, program_failed, generator):
    name = fn.__name__
    raised = None
    try:
        with pipeline("p", job_dir=f"{sys.argv[1]}/{name}", console="off"):
            with stage(name) as st:
                fn(st)
    except BaseException as err:
        raised = type(err).__name__
    out[name] = {
        "raised": raised,
        "spans": [
            {"name": s.name, "status": s.status.status_code.name, "description": s.status.description,
             "attributes": dict(s.attributes), "events": [e.name for e in s.events]}
            for s in spans.get_finished_spans()
        ],
    }
    spans.clear()
assert trace.get_tracer_provider() is provider
print(json.dumps(out))
'''

# name: (exception that the caller sees, status, reason, error.type, result word)
EXPECTED: dict[str, tuple[str | None, str, str | None, str | None, str]] = {
    "ok": (None, "success", None, None, "success"),
    "skipped": (None, "skipped", "no input files", None, "skip"),
    "failed": ("RuntimeError", "failed", "RuntimeError: out of memory", "RuntimeError", "failure"),
    "custom": ("Custom", "failed", "Custom: line one", "__main__.Custom", "failure"),
    "mute": ("Mute", "failed", "Mute", "__main__.Mute", "failure"),
    "empty": ("ValueError", "failed", "ValueError", "ValueError", "failure"),
    "cause": ("KeyError", "failed", "KeyError: 'k'", "KeyError", "failure"),
    "exit_none": ("SystemExit", "success", None, None, "success"),
    "exit_0": ("SystemExit", "success", None, None, "success"),
    "exit_3": ("SystemExit", "failed", "SystemExit: exit code 3", "SystemExit", "failure"),
    "exit_text": ("SystemExit", "failed", "bad option", "SystemExit", "failure"),
    "interrupt": ("KeyboardInterrupt", "cancelled", "KeyboardInterrupt", "KeyboardInterrupt", "cancellation"),
    "cancelled": ("CancelledError", "cancelled", "CancelledError", "asyncio.exceptions.CancelledError", "cancellation"),
    "timeout": ("TimeoutError", "failed", "TimeoutError: 30 s are over", "timeout", "timeout"),
    "program_timeout": ("ProcessTimeoutError", "failed", "took longer than 0.3 s", "timeout", "timeout"),
    "program_failed": ("ProcessError", "failed", "ended with exit code 1", "otel_stage.errors.ProcessError", "failure"),
    "generator": ("GeneratorExit", "cancelled", "GeneratorExit", "GeneratorExit", "cancellation"),
}


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """All ends, run in one process: the folder of their job directories, and what was seen of each."""
    folder = tmp_path_factory.mktemp("ends")
    return folder, json.loads(run_python(ENDS, folder, cwd=folder).stdout)


def span_of(seen: dict[str, Any], name: str) -> dict[str, Any]:
    """The only span of that name."""
    (span,) = [s for s in seen["spans"] if s["name"] == name]
    return span


@pytest.mark.parametrize("name", EXPECTED)
def test_the_caller_sees_the_users_exception(ends: tuple[Path, dict[str, Any]], name: str) -> None:
    """Whatever left the block is what the caller gets."""
    assert ends[1][name]["raised"] == EXPECTED[name][0]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_manifest_says_how_the_stage_ended(ends: tuple[Path, dict[str, Any]], name: str) -> None:
    """Status and reason are truthful; a failure has one error record, with a traceback if it was an exception."""
    _, status, reason, _, _ = EXPECTED[name]
    m = JobFiles(ends[0] / name).stage(name)
    assert m["status"] == status
    assert reason is None or reason in m["reason"]
    assert (reason is None) == ("reason" not in m)
    assert len(m["errors"]) == (status == "failed")
    if status == "failed":
        (error,) = m["errors"]
        assert error["type"].rpartition(".")[2] == EXPECTED[name][0]
        assert error["message"]
        assert ("traceback" in error) == (not name.startswith("exit"))
        assert error["timestamp"].endswith("Z")
    assert m["completed_at"] is not None
    assert m["duration_seconds"] >= 0


@pytest.mark.parametrize("name", EXPECTED)
def test_the_lines_say_how_the_stage_ended(ends: tuple[Path, dict[str, Any]], name: str) -> None:
    """The pipeline log has one end line with sign, word, duration and reason, at the level that fits."""
    _, status, reason, _, _ = EXPECTED[name]
    (line,) = [r for r in JobFiles(ends[0] / name).pipeline_log if re.match("[✓✗⊘↻] Stage", r.text)]
    sign = {"success": "✓", "skipped": "⊘"}.get(status, "✗")
    assert line.text.startswith(f"{sign} Stage {name}: {status.upper()}")
    assert line.level == ("INFO" if status in ("success", "skipped") else "ERROR")
    assert bool(re.search(r"\(\d+\.\ds\)", line.text)) == (status != "skipped")
    assert reason is None or reason in line.text
    assert "\n" not in line.text


@pytest.mark.parametrize("name", EXPECTED)
def test_the_span_says_how_the_stage_ended(ends: tuple[Path, dict[str, Any]], name: str) -> None:
    """Span status ERROR for failed and cancelled with `error.type`; the field's word for the result."""
    _, status, _, error_type, result = EXPECTED[name]
    span = span_of(ends[1][name], f"stage {name}")
    attributes = span["attributes"]
    bad = status in ("failed", "cancelled")
    assert (span["status"] == "ERROR") == bad
    assert attributes.get("error.type") == error_type
    assert attributes["stage.status"] == status
    assert attributes["cicd.pipeline.task.run.result"] == result
    assert ("exception.type" in attributes) == (status == "failed")
    assert len([e for e in span["events"] if e == "exception"]) == (status == "failed")
    assert (attributes["stage.name"], attributes["stage.number"]) == (name, 1)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_pipeline_ends_as_its_block_did(ends: tuple[Path, dict[str, Any]], name: str) -> None:
    """The same exception left the pipeline block: job manifest, last line and root span say the same."""
    _, status, _, error_type, result = EXPECTED[name]
    status, result = ("success", "success") if status == "skipped" else (status, result)
    job = JobFiles(ends[0] / name)
    assert job.manifest["pipeline"]["status"] == status
    assert job.manifest["timing"]["completed_at"] is not None
    assert status.upper() in job.pipeline_log[-1].text
    span = span_of(ends[1][name], "pipeline p")
    assert (span["status"] == "ERROR") == (status != "success")
    assert span["attributes"]["cicd.pipeline.result"] == result
    assert span["attributes"].get("error.type") == error_type


def test_the_traceback_holds_the_cause(ends: tuple[Path, dict[str, Any]]) -> None:
    """A chained exception is recorded with its cause."""
    (error,) = JobFiles(ends[0] / "cause").stage("cause")["errors"]
    assert "ValueError: invalid literal" in error["traceback"]
    assert "direct cause" in error["traceback"]


def test_the_error_of_a_program_carries_the_tail_of_stderr(ends: tuple[Path, dict[str, Any]]) -> None:
    """What the program said last is in the error record and in stage.log."""
    job = JobFiles(ends[0] / "program_failed")
    assert "no such codec" in job.stage("program_failed")["errors"][0]["message"]
    assert "no such codec" in texts(job.stage_log("program_failed"))


def test_a_failure_that_was_caught_leaves_the_pipeline_a_success(job: JobFiles) -> None:
    """The job's status is how its block ended; `failed_stages` says what happened inside."""
    with pipeline("p", job_dir=job.path), pytest.raises(ValueError), stage("a"):
        raise ValueError
    p = job.manifest["pipeline"]
    assert (p["status"], p["failed_stages"], p["completed_stages"]) == ("success", ["a"], [])


def test_a_pipeline_that_fails_between_stages(job: JobFiles) -> None:
    """An exception outside of any stage fails the pipeline and no stage; the error is in the job manifest."""
    with pytest.raises(KeyError), pipeline("p", job_dir=job.path):
        with stage("a"):
            pass
        raise KeyError("between")
    p = job.manifest["pipeline"]
    assert (p["status"], p["completed_stages"], p["failed_stages"]) == ("failed", ["a"], [])
    assert "between" in p["reason"]
    assert job.manifest["errors"][0]["type"] == "KeyError"


EXITS = """
import os, signal, sys
from otel_stage import pipeline, stage
with pipeline("p", job_dir=sys.argv[1], console="off"):
    with stage("a"):
        {}
"""


@pytest.mark.parametrize(
    ("code", "returncode", "status"),
    [
        ("sys.exit(0)", 0, "success"),
        ("sys.exit(3)", 3, "failed"),
        ("raise RuntimeError('x')", 1, "failed"),
        pytest.param(
            "os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT, "cancelled",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals"),
        ),
    ],
)  # fmt: skip
def test_the_exit_code_of_the_process_is_the_users(
    job: JobFiles, python: Python, code: str, returncode: int, status: str
) -> None:
    """A process ends as it would without us, and both manifests tell the truth."""
    assert python(EXITS.format(code), job.path, check=False).returncode == returncode
    assert job.stage("a")["status"] == status
    assert job.manifest["pipeline"]["status"] == status


def test_a_stage_that_nobody_ends_says_running(job: JobFiles, python: Python) -> None:
    """After `os._exit` the files say what was known: the manifest is valid and never claims success."""
    python(EXITS.format("os._exit(0)"), job.path)
    assert job.stage("a")["status"] == "running"
    assert job.manifest["pipeline"]["status"] == "running"

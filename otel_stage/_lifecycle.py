"""How a stage opens and how it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry.context import set_value
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span, set_span_in_context

from otel_stage import _spans
from otel_stage._ending import Ending, ending_of, mark_span
from otel_stage._environment import quick_facts, script_identity, start_slow_facts
from otel_stage._logging import listening
from otel_stage._run import BARE_KEY, Run, open_stages, sole_context
from otel_stage._stage_core import ERROR
from otel_stage.jobdir import Claim, Place, this_process
from otel_stage.manifest import now_ns
from otel_stage.semconv import EVENT_END, EVENT_ERROR, EVENT_START, PLACE_KEY, SCHEMA_VERSION, STAGE_ID

if TYPE_CHECKING:
    from otel_stage._stage import Stage

_log = logging.getLogger("otel_stage")


def open_stage(stage: Stage) -> None:
    """Open a stage: its claim on an id and a folder, its span, its first event, its meter.

    Raises:
        StageError: The name, key or number cannot be had.
    """
    run = stage._run
    if run.job is None:
        stage._ident, stage._key = run.bare().claim(stage._name, stage._key)
        stage.context = set_value(BARE_KEY, stage, stage._parent)
        return
    try:
        claim = run.job.claim(stage._name, stage._key, stage._number)
    except OSError as err:
        reason = (err.strerror or type(err).__name__).lower()
        _log.warning("stage %s is not recorded: %s cannot be written: %s", stage._ident, run.path, reason)
        stage._run = _unrecorded(run)
        stage._otel = None
        stage.context = set_value(BARE_KEY, stage, stage._parent)
        return
    settle(stage, claim)
    tracer = run.telemetry.tracer
    attributes = _spans.start_attributes(stage)
    stage._span = tracer.start_span(
        f"stage {stage._ident}", context=stage._parent, start_time=claim.time_ns, attributes=attributes
    )
    enter_context(stage)
    where = stage._span.get_span_context()
    parent = get_current_span(stage._parent).get_span_context()
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "stage": stage._name,
        "id": stage._ident,
        "stage_number": stage._number,
        "run_id": run.run_id,
        "attempt": stage._attempt,
        "folder": claim.folder,
        "process": this_process(),
        "job_id": run.job.job_id,
        "otel": {
            "trace_id": format_trace_id(where.trace_id),
            "span_id": format_span_id(where.span_id),
            "parent_span_id": format_span_id(parent.span_id) if parent.is_valid else None,
            "start_time_unix_nano": str(claim.time_ns),
        },
        "environment": quick_facts() if run.settings.facts else {},
    }
    if stage._key is not None:
        fields["key"] = stage._key
    code = stage._code or (script_identity() if run.settings.facts else None)
    if code:
        fields["code"] = code
    if run.settings.facts:
        start_slow_facts()
    stage._began = time.perf_counter()
    stage._say_at(claim.time_ns, EVENT_START, fields)
    open_stages.append(stage)
    level = run.settings.library_level
    listening.start(run.telemetry, sole_context, console=run.prints, level=level)
    run.keep_house()
    if run.settings.resources:
        from otel_stage._resources import start_meter

        samples = f"{run.job.state}/stages/{claim.folder}.samples.jsonl"
        stage._meter = start_meter(stage._ident, interval=run.settings.sample_interval, series_path=samples)
    if run.settings.capture != "off":
        _start_capture(stage)


def settle(stage: Stage, claim: Claim) -> None:
    """Make a stage the one that a claim says, here or in another process."""
    job = stage._run.job
    if job is None:
        return
    stage._ident, stage._key, stage._number = claim.ident, claim.key, claim.number
    stage._attempt = claim.attempt
    stage._dir = f"{job.path}/{claim.folder}"
    stage._place = Place(
        job, ident=claim.ident, number=claim.number, folder=claim.folder, attempt=claim.attempt,
    )  # fmt: skip
    stage._place.stage, stage._place.run, stage._place.options = stage, stage._run, stage._run.settings
    stage._attributes = {**stage._run.event_attributes(), STAGE_ID: claim.ident}


def enter_context(stage: Stage) -> None:
    """Make the context that leads records and children of a stage to it."""
    stage.context = set_value(PLACE_KEY, stage._place, set_span_in_context(stage._span, stage._parent))


def end_stage(stage: Stage, exc: BaseException | None) -> None:
    """Say how the stage ended; never raises, and does nothing in a forked child of the owner."""
    if stage._ended or stage._place is None or os.getpid() != stage._pid:
        return
    stage._ended = True
    ending = ending_of(exc, stage._skipped)
    try:
        _tried(stage, "what it printed", stage._exits.close)
        _tried(stage, "its artifacts", stage._artifacts.settle)
        if ending.error is not None:
            stage._counts["error"] += 1
            stage._say(EVENT_ERROR, {**ending.error, "ends": True}, ERROR)
        resources = stage._meter.stop() if stage._meter is not None else {}
        _say_end(stage, ending, resources)
    except Exception as err:
        stage._trouble("the end", err)
    finally:
        with contextlib.suppress(ValueError):
            open_stages.remove(stage)
        listening.stop()
        stage._run.telemetry.forget_logger(f"stage.{stage._ident}")


def _tried(stage: Stage, what: str, do: Callable[[], object]) -> None:
    """One step of the end: what fails must not take the rest with it."""
    try:
        do()
    except Exception as err:
        stage._trouble(what, err)


def _say_end(stage: Stage, ending: Ending, resources: dict[str, Any]) -> None:
    seconds = time.perf_counter() - stage._began
    environment = stage._run.facts() if stage._run.settings.facts else {}
    ns = now_ns()
    fields: dict[str, Any] = {
        "id": stage._ident,
        "status": ending.status,
        "duration_seconds": round(seconds, 6),
        "resources": resources,
        "environment": environment,
        "otel": {"end_time_unix_nano": str(ns)},
    }
    if ending.reason:
        fields["reason"] = ending.reason
    _spans.set_end_attributes(stage, stage._span, ending, resources)
    mark_span(stage._span, ending)
    stage._say_at(ns, EVENT_END, fields)
    stage._span.end(ns)
    run = stage._run
    if run.closed:
        # Nobody's background thread will write it down any more.
        run.refresh()
    elif os.getpid() != run.pid or (run.joined and all(other is stage for other in open_stages)):
        run.refresh_if_due()


def _start_capture(stage: Stage) -> None:
    from otel_stage._capturing import record_prints

    stage._exits.enter_context(record_prints(stage))


def _unrecorded(run: Run) -> Run:
    """The same run as seen by a stage that cannot be recorded: user code goes on."""
    return Run(run.settings, run.telemetry, job=None, path=run.path, joined=True)

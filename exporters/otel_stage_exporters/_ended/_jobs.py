"""Which run a trace belongs to: found, joined or begun."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id

from otel_stage._version import __version__
from otel_stage.errors import JobBusyError
from otel_stage.jobdir import JobDir, Place, fresh_job_dir, new_run_id, open_job, this_process
from otel_stage.manifest import event_line, jsonable, parse_time
from otel_stage.redact import redactor
from otel_stage.semconv import (
    CICD_PIPELINE_NAME,
    JOB_CONFIG,
    JOB_END,
    JOB_ENVIRONMENT,
    STAGE_JOB_DIR,
    STAGE_NAME,
    STAGE_RUN_ID,
    SUCCESS,
)
from otel_stage_exporters._ended._env import Env
from otel_stage_exporters._ended._open import OpenSpans
from otel_stage_exporters._ended._spans import attributes_of, config_of, read_ending, safe_name, text_of
from otel_stage_exporters._files import JobFiles
from otel_stage_exporters._job_lines import job_end_line, job_start_line
from otel_stage_exporters._otel import ReadableSpan

_log = logging.getLogger("otel_stage")
_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,119}")
# How many of the latest job directories are asked whether they hold a trace that came from elsewhere.
_ASKED = 8


class Run:
    """One run, as this process writes it down.

    Attributes:
        ends_here: This process says how the run ended, when the root of the trace has.
    """

    def __init__(self, job: JobDir, env: Env, *, ends_here: bool) -> None:
        self.job = job
        self.run_id = job.run_id
        self.began_ns = parse_time(job.start["time"])
        self.ends_here = ends_here
        self._env = env
        self._files: JobFiles | None = None
        self._troubles: set[str] = set()

    @property
    def is_current(self) -> bool:
        """Whether the directory still holds this run and not a later one."""
        return self.job.run_id == self.run_id

    @property
    def files(self) -> JobFiles:
        """The run's pipeline log, open."""
        if self._files is None:
            self._files = JobFiles(Place(self.job), self._env)
            self._files.said = self._troubles
        return self._files

    def release(self) -> None:
        """Close the pipeline log until it is needed again."""
        files, self._files = self._files, None
        if files is not None:
            files.close()

    def write_manifest(self) -> None:
        """Write the job manifest, unless a later run has the directory now."""
        if not self.is_current:
            return
        try:
            self.job.write_manifest(fsync=self._env.fsync)
        except OSError as err:
            self.files.trouble("the job manifest", err)

    def append(self, name: str, ns: int, fields: dict[str, Any]) -> dict[str, Any]:
        """Append one event to the job's journal, secrets masked; gives its fields as they stand there."""
        masked: dict[str, Any] = redactor().value("", jsonable(fields))
        try:
            self.job.append(event_line(name, ns, masked))
        except OSError as err:
            self.files.trouble("the journal", err)
        return masked


def is_pipeline(root: ReadableSpan | None) -> bool:
    """Whether a local root stands for a pipeline: it names one and is no stage itself."""
    attributes = attributes_of(root)
    return bool(attributes.get(CICD_PIPELINE_NAME)) and STAGE_NAME not in attributes


def open_run(
    trace_id: int, span: ReadableSpan, spans: OpenSpans, env: Env, *, forked_ns: int, has_forked: bool
) -> Run:
    """The run that a trace belongs to.

    Args:
        trace_id: The trace.
        span: Its span that is about to be written.
        spans: Knows the root, also while it is open.
        env: The settings.
        forked_ns: When this process was forked from another; 0 if it was not.
        has_forked: This process has forked others, which may have been first with this trace.

    Raises:
        PipelineError: The directory cannot be used, and why.
    """
    live = spans.live_job_dir(trace_id)
    if live:
        return Run(_synced(live), env, ends_here=False)
    root = spans.root(trace_id)
    own_root = root is not None and (root.start_time or 0) >= forked_ns
    name = safe_name(_said(CICD_PIPELINE_NAME, root, span), "") or _service(span)
    trace_hex = format_trace_id(trace_id)
    path = _said(STAGE_JOB_DIR, span, root) or env.job_dir
    if not path:
        shared = has_forked or not own_root or (root is not None and root.parent is not None)
        path = (shared and _dir_of_trace(env.root, name, trace_hex)) or fresh_job_dir(env.root, name)
    wanted = _said(STAGE_RUN_ID, span, root) or env.run_id
    wanted = wanted if _RUN_ID.fullmatch(wanted) else ""
    job = _synced(path)
    ns = (root if root is not None else span).start_time or time.time_ns()
    pipeline = own_root and is_pipeline(root)
    if _holds(job, trace_hex, scan=pipeline):
        last = pipeline and root is not None and root.parent is None and bool(job.start.get("open_ended"))
        return Run(job, env, ends_here=last)
    if pipeline and root is not None and root.context is not None and not (wanted and wanted == job.run_id):
        otel = {"trace_id": trace_hex, "span_id": format_span_id(root.context.span_id)}
        try:
            job.begin_run(name, run_id=wanted or new_run_id(), version=__version__, otel=otel, ns=ns)
        except JobBusyError as err:
            _log.warning("%s; the stages of this trace are recorded in that run", err)
        else:
            return _begun(Run(job, env, ends_here=True), ns, env)
    before = job.run_id
    try:
        job.join_or_begin(name, run_id=wanted, fresh_run_id=new_run_id(), version=__version__, ns=ns)
    except JobBusyError as err:
        _log.warning("%s; the stages of this trace are recorded in the live run", err)
        job.join_or_begin(name, run_id="", fresh_run_id=new_run_id(), version=__version__, ns=ns)
    # Where the root was not seen to start, it may still turn out to be a pipeline.
    return Run(job, env, ends_here=root is None and job.run_id != before)


def end_run(run: Run, root: ReadableSpan) -> None:
    """Say how a run ended: as its root span did."""
    run.ends_here = False
    ending = read_ending(root)
    for warning in ending.warnings:
        _log.warning("job %s: %s", run.job.path, warning)
    start, end = root.start_time or 0, root.end_time or 0
    config = config_of(root)
    if config:
        run.append(JOB_CONFIG, end, {"config": config})
    fields: dict[str, Any] = {
        "status": ending.status,
        "duration_seconds": round(max(0, end - start) / 1e9, 6),
        "otel": {"end_time_unix_nano": str(end)},
    }
    if ending.reason:
        fields["reason"] = ending.reason
    if ending.errors:
        fields["error"] = {name: value for name, value in ending.errors[-1][1].items() if name != "ends"}
    masked = run.append(JOB_END, end, fields)
    run.job.sync()
    run.files.say("INFO" if ending.status == SUCCESS else "ERROR", job_end_line(masked, run.job), end)
    # At once: the next run of this directory keeps what it finds.
    run.write_manifest()


def environment(env: Env) -> dict[str, Any]:
    """Where and as what this process runs."""
    if not env.facts:
        return {}
    process = this_process()
    facts = {
        "host": process["host"],
        "pid": process["pid"],
        "python": sys.version.split(maxsplit=1)[0],
        "argv": redactor().argv([str(jsonable(word)) for word in sys.argv]),
    }
    try:
        facts["cwd"] = jsonable(os.getcwd())
    except OSError:  # the folder was removed under us
        pass
    return facts


def _begun(run: Run, ns: int, env: Env) -> Run:
    run.files.say("INFO", job_start_line(run.job.start, run.job.path), ns)
    facts = environment(env)
    if facts:
        run.append(JOB_ENVIRONMENT, ns + 1, {"environment": facts})
    return run


def _said(name: str, *spans: ReadableSpan | None) -> str:
    return next((text for span in spans if (text := text_of(attributes_of(span), name))), "")


def _synced(path: str) -> JobDir:
    job = open_job(path)
    job.sync()
    return job


def _holds(job: JobDir, trace_hex: str, *, scan: bool) -> bool:
    """Whether the directory's current run is of this trace: another process of it may have been first."""
    start = job.start
    if (start.get("otel") or {}).get("trace_id") == trace_hex:
        return True
    return scan and bool(start.get("open_ended")) and _speaks_of(job.journal_path, trace_hex)


def _speaks_of(journal: str, trace_hex: str) -> bool:
    try:
        with open(journal, "rb") as f:
            return f'"trace_id":"{trace_hex}"'.encode() in f.read()
    except OSError:
        return False


def _dir_of_trace(root: str, name: str, trace_hex: str) -> str:
    """The job directory of today in which another process has begun to write this trace; empty for none."""
    base = os.path.join(os.path.abspath(root), time.strftime("%Y/%m/%d"), name)
    try:
        numbers = sorted((int(n) for n in os.listdir(base) if n.isdecimal()), reverse=True)
    except OSError:
        return ""
    for n in numbers[:_ASKED]:
        if _speaks_of(os.path.join(base, str(n), ".otel-stage", "journal.jsonl"), trace_hex):
            return os.path.join(base, str(n))
    return ""


def _service(span: ReadableSpan) -> str:
    """The service's name as a pipeline's; the script's where there is none."""
    given = str((span.resource.attributes if span.resource is not None else {}).get("service.name") or "")
    if given and not given.startswith("unknown_service"):
        return safe_name(given, "job")
    stem = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    return safe_name(stem, "job")

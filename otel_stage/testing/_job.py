"""Whole job directories, written by the library's own events and `fold`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from otel_stage.jobdir import STATE_DIR, folder_name, stage_id, this_process
from otel_stage.jobdir._archive import keep_run, keep_stage
from otel_stage.jobdir._identity import host_name
from otel_stage.manifest import (
    JOB_MANIFEST,
    JOB_MANIFEST_BESIDE_FOREIGN,
    encode,
    fold,
    timestamp,
    to_json,
    write_atomic,
)
from otel_stage.semconv import (
    CANCELLED,
    CRASHED,
    FAILED,
    JOB_CONFIG,
    JOB_END,
    JOB_ENVIRONMENT,
    JOB_START,
    RUNNING,
    SCHEMA_VERSION,
    SUCCESS,
)
from otel_stage.testing._fakes import Ids, StepClock
from otel_stage.testing._lines import end_line, line, start_line, summary
from otel_stage.testing._specs import StageSpec
from otel_stage.testing._stage import StageWriter, event, raised

Who = Literal["dead", "alive", "elsewhere"]
_BOOT = "00000000-0000-4000-8000-000000000000"
_PYTHON, _PLATFORM, _HOST = "3.11.7", "Linux-6.1.0-x86_64", "worker-1"


def write_job(
    path: str | os.PathLike[str],
    *,
    stages: Sequence[StageSpec | str] = (),
    name: str = "job",
    status: str | None = None,
    reason: str | None = None,
    runs: int = 1,
    config: Mapping[str, Any] | None = None,
    process: Who | Mapping[str, Any] = "dead",
    open_ended: bool = False,
    planned: bool = True,
    facts: bool = True,
    foreign: Mapping[str, Any] | None = None,
    manifest: Literal["current", "stale", "missing"] = "current",
    clock: StepClock | None = None,
    ids: Ids | int = 0,
) -> Path:
    """Write a job directory, as a run (or several) would have left it.

    Args:
        path: Where; must not be a job directory yet.
        stages: What its stages did; a string is the name of a stage that succeeded. Every run has the same.
        name: The pipeline's name.
        status: How it ended; `running`: it did not. Default: what follows from the stages.
        reason: Why it ended so; default: that of the stage that fits.
        runs: Number of runs; all but the last stand under `.otel-stage/runs/`.
        config: Configuration of the whole run.
        process: Who wrote it, where that matters because something still runs: "dead", "alive" (this process),
            "elsewhere" (on another host), or a process as events carry it.
        open_ended: Stages without a pipeline around them, each a trace of its own.
        planned: The names of the stages were known when the run began.
        facts: Record host, platform, code and packages.
        foreign: Content of a `manifest.json` that somebody else put there.
        manifest: The job manifest holds all that the journal says, only its beginning, or is not there.
        clock: Gives the times of events, and passes them.
        ids: Where ids come from, or the seed of it.

    Returns:
        The job directory.

    Raises:
        FileExistsError: There is a job already.

    Example:
        >>> write_job("out/job", stages=["demux", StageSpec("asr", status="failed")])  # doctest: +SKIP
    """
    folder = os.path.abspath(path).replace(os.sep, "/")
    os.makedirs(f"{folder}/{STATE_DIR}/stages")
    os.makedirs(f"{folder}/logs", exist_ok=True)
    _put(f"{folder}/{STATE_DIR}/lock", b"")
    if foreign is not None:
        _put(f"{folder}/{JOB_MANIFEST}", encode(foreign))
    specs = [StageSpec(spec) if isinstance(spec, str) else spec for spec in stages]
    writer = _JobWriter(folder, name, clock or StepClock(), ids if isinstance(ids, Ids) else Ids(ids))
    writer.target = f"{folder}/{JOB_MANIFEST if foreign is None else JOB_MANIFEST_BESIDE_FOREIGN}"
    writer.facts = facts
    status = status or ("" if open_ended else _status_of(specs))
    for n in range(runs):
        last = n == runs - 1
        open_still = status == RUNNING or any(spec.status == RUNNING for spec in specs)
        writer.process = _process(process if last else "dead", running=open_still)
        writer.begin(specs, open_ended=open_ended, planned=planned, config=config or {})
        for spec in specs:
            writer.stage(spec)
        if not open_ended and status != RUNNING:
            writer.end(status, reason, specs)
        writer.flush("current" if not last else manifest)
    return Path(folder)


def _status_of(specs: Sequence[StageSpec]) -> str:
    seen = [spec.status for spec in specs]
    return next((status for status in (RUNNING, CRASHED, FAILED, CANCELLED) if status in seen), SUCCESS)


def _process(who: Who | Mapping[str, Any], *, running: bool) -> dict[str, Any]:
    if not isinstance(who, str):
        return dict(who)
    if who == "alive":
        return this_process()
    # Death can be proved only on the same host; where nothing is to be proved, files do not depend on it.
    host = host_name() if running and who == "dead" else _HOST
    return {"pid": 4711, "host": host, "start_ticks": 100_000, "boot_id": _BOOT}


class _JobWriter:
    """One job directory while its runs are written."""

    def __init__(self, path: str, name: str, clock: StepClock, ids: Ids) -> None:
        self.path, self.name, self.clock, self.ids = path, name, clock, ids
        self.state = f"{path}/{STATE_DIR}"
        self.journal_path = f"{self.state}/journal.jsonl"
        self.target = f"{path}/{JOB_MANIFEST}"
        self.facts = True
        self.process: dict[str, Any] = {}
        self.numbers: dict[str, int] = {}
        self.known: dict[str, dict[str, Any]] = {}
        self.run_id = ""
        self.events: list[dict[str, Any]] = []
        self.log: list[str] = []

    def begin(self, specs: Sequence[StageSpec], *, open_ended: bool, planned: bool, config: Mapping[str, Any]) -> None:
        """Say that a run began; the one before it is kept."""
        ns = self.clock()
        again = bool(self.events)
        if again:
            keep_run(self.state, self.run_id, self.journal_path, self.target)
        self.open_ended, self.taken, self.counts = open_ended, dict[str, int](), dict[str, int]()
        self.run_id, self.began = self.ids.run_id(ns), ns
        self.trace_id, self.span_id = f"{self.ids.trace_id():032x}", f"{self.ids.span_id():016x}"
        self.events, self.log = [], []
        for spec in specs if planned and not open_ended else ():
            self._identify(spec)
        self.total = len(self.taken) or None
        self.taken.clear()
        self.log_path = self._log_path(ns)
        fields: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "version": "0.1.0",
            "name": self.name,
            "job_id": self.job_id,
            "run_id": self.run_id,
            "process": self.process,
        }
        if open_ended:
            fields["open_ended"] = True
        if self.numbers:
            fields["numbers"] = dict(self.numbers)
        if self.total:
            fields["stages_total"] = self.total
        fields["log"] = self.log_path
        if not open_ended:
            fields["otel"] = {"trace_id": self.trace_id, "span_id": self.span_id}
        self.events.append(event(JOB_START, ns, fields))
        text = f"Pipeline {self.name}: started in {self.path} (run {self.run_id})"
        self.log.append(line(ns, "pipeline", "INFO", text))
        if self.facts:
            self.say(JOB_ENVIRONMENT, {"environment": self.environment()})
        if config and not open_ended:
            self.say(JOB_CONFIG, {"config": dict(config)})

    @property
    def job_id(self) -> str:
        """The last parts of the path."""
        return "/".join(Path(self.path).parts[-2:]).lstrip("/")

    def environment(self) -> dict[str, Any]:
        """What a process knows of itself."""
        return {
            "host": self.process["host"],
            "pid": self.process["pid"],
            "python": _PYTHON,
            "platform": _PLATFORM,
            "argv": [f"{self.name}.py"],
            "cwd": "/work",
        }

    def say(self, kind: str, fields: Mapping[str, Any]) -> int:
        """Add an event to the job's journal."""
        ns = self.clock()
        self.events.append(event(kind, ns, fields))
        return ns

    def _log_path(self, ns: int) -> str:
        stamp = event(JOB_START, ns, {})["time"][:19].replace("-", "").replace(":", "").replace("T", "_")
        n, path = 1, f"logs/99_pipeline_{stamp}.log"
        while os.path.exists(f"{self.path}/{path}"):
            n += 1
            path = f"logs/99_pipeline_{stamp}_{n}.log"
        return path

    def _identify(self, spec: StageSpec) -> tuple[str, str | None, int, int]:
        """Id, key, number and attempt that a real run would give."""
        key, n = spec.key, 1
        ident = stage_id(spec.name, key)
        while spec.key is None and ident in self.taken:
            n += 1
            key, ident = str(n), stage_id(spec.name, str(n))
        # Another stage with a key that the user gave is another attempt at the same one.
        self.taken[ident] = attempt = self.taken.get(ident, 0) + 1
        number = spec.number or self.numbers.get(ident) or max(self.numbers.values(), default=0) + 1
        self.numbers[ident] = number
        return ident, key, number, attempt

    def stage(self, spec: StageSpec) -> None:
        """Write a stage: folder, log, journal and manifest, and its share in the job's journal and log."""
        ident, key, number, attempt = self._identify(spec)
        folder = folder_name(number, ident)
        try:
            os.mkdir(f"{self.path}/{folder}")
        except FileExistsError:
            keep_stage(self.state, f"{self.path}/{folder}", folder)
        writer = StageWriter(spec, ident, key, number, attempt, self)
        self.counts[spec.status] = self.counts.get(spec.status, 0) + 1
        self.log.append(line(writer.began, "pipeline", "INFO", start_line(ident, number, self.total, attempt)))
        self.events.append(writer.opening())
        writer.write()
        self.log.extend(writer.pipeline_lines)
        if writer.closing is not None:
            self.events.append(writer.closing)
            level = "INFO" if spec.status in ("success", "skipped", "reused") else "ERROR"
            text = end_line(spec.status, ident, spec.seconds, spec.why)
            self.log.append(line(writer.ended, "pipeline", level, text))

    def end(self, status: str, reason: str | None, specs: Sequence[StageSpec]) -> None:
        """Say that the run ended."""
        if self.facts:
            self.say(JOB_ENVIRONMENT, {"environment": {"packages_sha256": "5a" * 32}})
        ns = self.clock()
        seconds = round((ns - self.began) / 1e9, 6)
        fields: dict[str, Any] = {"status": status, "duration_seconds": seconds}
        fields["otel"] = {"end_time_unix_nano": str(ns)}
        if status != SUCCESS:
            why = next((spec.why for spec in specs if spec.status == status), None)
            if reason or why:
                fields["reason"] = reason or why
            if status == FAILED:
                fields["error"] = {**raised(reason or why, 1, self.name), "timestamp": timestamp(ns)}
        self.events.append(event(JOB_END, ns, fields))
        text = summary(self.name, status, seconds, fields.get("reason"), self.counts)
        self.log.append(line(ns, "pipeline", "INFO" if status == SUCCESS else "ERROR", text))

    def flush(self, manifest: Literal["current", "stale", "missing"]) -> None:
        """Write the job's own files."""
        lines = [encode(one) + b"\n" for one in self.events]
        write_atomic(self.journal_path, b"".join(lines))
        _put(f"{self.path}/{self.log_path}", "".join(self.log).encode())
        if manifest != "missing":
            upto = len(lines) if manifest == "current" else 1
            content = fold(self.events[:upto])
            content["journal"] = {"folded_bytes": sum(map(len, lines[:upto]))}
            write_atomic(self.target, to_json(content))


def _put(path: str, data: bytes) -> None:
    with open(path, "wb") as f:
        f.write(data)

"""A run as this process takes part in it, and how one is found."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context, get_current, set_value
from opentelemetry.trace import Span, set_span_in_context

from otel_stage._arguments import script_name
from otel_stage._context import carrier, child_environment, context_from
from otel_stage._forking import before_forks
from otel_stage._logging import place_of
from otel_stage._sdk import Telemetry, emit, severity, telemetry
from otel_stage._settings import Settings, resolve
from otel_stage._version import __version__
from otel_stage.jobdir import JobDir, Place, fresh_job_dir, new_run_id, open_job, this_process
from otel_stage.manifest import event_line, now_ns
from otel_stage.semconv import (
    ENV_JOB_DIR,
    ENV_RUN_ID,
    JOB_TELEMETRY,
    PLACE_KEY,
    SCOPE_NAME,
    STAGE_JOB_DIR,
    STAGE_JOB_ID,
    STAGE_RUN_ID,
)

if TYPE_CHECKING:
    from otel_stage._bare import BareJob
    from otel_stage._stage import Stage

_log = logging.getLogger("otel_stage")
_INFO = severity(20, "INFO")
_REFRESH_SECONDS = 0.4
_PATIENCE_SECONDS = 0.2
# The keys of a run and of a stage that are not recorded: user code must find them all the same.
BARE_RUN_KEY = "otel-stage.bare-run"
BARE_KEY = "otel-stage.bare"

open_runs: list[Run] = []
open_stages: list[Stage] = []
_standing: Run | None = None
_standing_lock = threading.Lock()


def _renew_lock() -> None:
    global _standing_lock
    _standing_lock = threading.Lock()


before_forks(_renew_lock)


class Run:
    """One run of a job: its directory, its telemetry, and the context that its stages open in.

    Attributes:
        job: The job directory; None when the SDK is disabled.
        path: Absolute path of the job directory.
        context: Of the pipeline's span, or what the environment carried.
        joined: Somebody else began this run and ends it.
    """

    def __init__(self, settings: Settings, tel: Telemetry, *, job: JobDir | None, path: str, joined: bool) -> None:
        self.settings = settings
        self.telemetry = tel
        self.job = job
        self.path = path
        self.joined = joined
        self.closed = False
        self.pid = os.getpid()
        self.run_id = job.run_id if job is not None else ""
        self.place = Place(job) if job is not None else None
        if self.place is not None:
            self.place.run, self.place.options = self, settings
        self.context = Context()
        self._complained = False
        self._housekept = 0
        self._patience = _PATIENCE_SECONDS
        self._due = 0.0
        self._bare: BareJob | None = None
        self._telemetry_said: dict[str, Any] = {}

    def bare(self, name: str = "job", stages: list[str] | None = None) -> BareJob:
        """The folders of this run where nothing is recorded.

        Args:
            name: The pipeline's name.
            stages: Ids whose numbers are reserved.
        """
        if self._bare is None:
            from otel_stage._bare import BareJob

            self._bare = BareJob(self, name, stages or [])
        return self._bare

    def facts(self) -> dict[str, Any]:
        """Git and packages, as far as known; the first stages that end wait for them, together a moment."""
        from otel_stage._environment import slow_facts

        began = time.perf_counter()
        found = slow_facts(max(self._patience, 0.0))
        self._patience -= time.perf_counter() - began
        return found

    @property
    def prints(self) -> bool:
        """Whether a console of ours shows INFO and above."""
        return self.settings.console != "off" and "stage_files" in self.settings.exporters

    def enter(self, context: Context, span: Span | None = None) -> Context:
        """Make `context` (with `span` in it) the one that stages of this run open in."""
        if span is not None:
            context = set_span_in_context(span, context)
        key, value = (PLACE_KEY, self.place) if self.place is not None else (BARE_RUN_KEY, self)
        self.context = set_value(key, value, context)
        return self.context

    def say(self, name: str, ns: int, fields: Mapping[str, Any]) -> None:
        """Send one event of the job; the file exporter writes it down."""
        attributes = self.event_attributes() if self.telemetry.others else None
        line = event_line(name, ns, fields)
        emit(self.telemetry.logger(SCOPE_NAME), ns, self.context, _INFO, line, name, attributes)

    def event_attributes(self) -> dict[str, Any]:
        """What people search events and spans of this run by."""
        job_id = self.job.job_id if self.job is not None else ""
        return {STAGE_JOB_ID: job_id, STAGE_RUN_ID: self.run_id, STAGE_JOB_DIR: self.path}

    def child_env(self, context: Context, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment in which a child process joins this run under `context`."""
        return child_environment(context, self.path if self.job is not None else "", self.run_id, base)

    def handle(self) -> dict[str, Any]:
        """What another process needs to take part; see `run_from_handle`."""
        return {
            "job_dir": self.path,
            "run_id": self.run_id,
            "carrier": carrier(self.context),
            "settings": self.settings.given("argument", "configure()"),
        }

    def refresh(self) -> float:
        """Bring the job manifest up to date; gives the seconds until that is due again."""
        began = time.perf_counter()
        if self.job is not None:
            try:
                self.job.write_manifest()
            except OSError as err:
                if not self._complained:
                    self._complained = True
                    reason = (err.strerror or type(err).__name__).lower()
                    _log.warning(
                        "the job manifest of %s cannot be written: %s; the pipeline goes on", self.path, reason
                    )
        # A job of many thousand stages costs more to write down: never more than a twentieth of the time.
        rest = 20 * (time.perf_counter() - began)
        self._due = time.perf_counter() + rest
        return max(_REFRESH_SECONDS, rest)

    def refresh_if_due(self) -> None:
        """For each of many stages: within the same share of the time; thread and exit write the rest."""
        if time.perf_counter() >= self._due:
            self.refresh()

    def keep_house(self) -> None:
        """Have the job manifest kept up to date from now on, by the process's one background thread."""
        pid = os.getpid()
        if self._housekept != pid and self.job is not None:
            self._housekept = pid
            from otel_stage._resources import add_housekeeper

            add_housekeeper(self.refresh)

    @property
    def housekept(self) -> bool:
        """Whether the background thread of this process keeps the job manifest up to date."""
        return self._housekept == os.getpid()

    def leave_house(self) -> None:
        """No longer; the last writer has written it."""
        if self.housekept:
            self._housekept = 0
            from otel_stage._resources import remove_housekeeper

            remove_housekeeper(self.refresh)

    def say_telemetry(self) -> None:
        """Write down what this process has delivered by OTLP, where it has changed."""
        if self.job is None or not self.telemetry.exports:
            return
        counts = self.telemetry.counts.as_dict()
        if counts != self._telemetry_said:
            self._telemetry_said = counts
            fields = {"process": this_process(), "otlp_endpoint": self.telemetry.endpoint, **counts}
            try:
                self.job.append(event_line(JOB_TELEMETRY, now_ns(), fields))
            except OSError:
                return


def sole_context() -> Context | None:
    """The context for records and stages of threads that carry none: the sole open stage's, else the run's."""
    if len(open_stages) == 1:
        return open_stages[0].context
    run = _standing if not open_runs else (open_runs[0] if len(open_runs) == 1 else None)
    return run.context if run is not None and run.job is not None and not run.closed else None


def find_run() -> tuple[Run, Context]:
    """The run that a stage opened here belongs to, and the context that is its parent.

    The current context's; else the sole open run of the process; else the one that the environment names;
    else a fresh job of its own, which stays for the rest of the process.
    """
    context = get_current()
    place = place_of(context)
    if place is not None and place.run is not None and not place.run.closed:
        return place.run, context
    bare = context.get(BARE_RUN_KEY)
    if isinstance(bare, Run) and not bare.closed:
        return bare, context
    if len(open_runs) == 1:
        return open_runs[0], open_runs[0].context
    run = _standing_run()
    return run, run.context


def _standing_run() -> Run:
    global _standing
    with _standing_lock:
        run = _standing
        named = os.environ.get(ENV_JOB_DIR)
        if run is not None and (named is None or os.path.abspath(named) == run.path or run.path == ""):
            return run
        settings = resolve()
        name = script_name()
        tel = telemetry(settings, name)
        run = join(settings, tel, settings.job_dir or (fresh_job_dir(settings.root, name) if tel.enabled else ""), name)
        if run.job is not None:
            atexit.register(_leave, run)
        _standing = run
        return run


def _leave(run: Run) -> None:
    if run.job is not None and os.path.isdir(run.path):
        run.say_telemetry()
        run.refresh()


def join(settings: Settings, tel: Telemetry, path: str, name: str) -> Run:
    """Take part in the run that the environment names, or begin an open-ended one at `path`."""
    if not tel.enabled:
        return Run(settings, tel, job=None, path=os.path.abspath(path) if path else "", joined=True)
    job = open_job(path)
    began = job.join_or_begin(
        name, run_id=os.environ.get(ENV_RUN_ID, ""), fresh_run_id=new_run_id(), version=__version__
    )
    run = Run(settings, tel, job=job, path=job.path, joined=True)
    run.enter(context_from(os.environ))
    if began:
        from otel_stage._run_events import begin

        begin(run, began)
    return run


def run_from_handle(handle: Mapping[str, Any]) -> Run:
    """A run of another process, from what its `handle()` gave; the same object within one process."""
    settings = resolve(handle["settings"])
    tel = telemetry(settings)
    if not tel.enabled or not handle["run_id"]:
        return Run(settings, tel, job=None, path=handle["job_dir"], joined=True)
    job = open_job(handle["job_dir"])
    job.sync()
    for run in (*open_runs, *_attached):
        if run.job is job and run.run_id == handle["run_id"]:
            return run
    run = Run(settings, tel, job=job, path=job.path, joined=True)
    run.enter(context_from(handle["carrier"]))
    _attached.append(run)
    return run


_attached: list[Run] = []


def set_standing(run: Run) -> None:
    """Make `run` the one that stages of this process belong to where no context says otherwise."""
    global _standing
    _standing = run

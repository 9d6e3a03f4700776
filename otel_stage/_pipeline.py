"""`pipeline(...)`: one run of a job, as one trace."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, get_current
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

from otel_stage import _run_events
from otel_stage._arguments import absolute, check_stages
from otel_stage._block import Key, StageBlock, detach_quietly
from otel_stage._context import ExportedEnvironment, context_from
from otel_stage._ending import ending_of
from otel_stage._logging import listening, place_of
from otel_stage._run import Run, open_runs, open_stages, run_from_handle, set_standing, sole_context
from otel_stage._sdk import Telemetry, telemetry
from otel_stage._settings import Settings, resolve
from otel_stage._spans import run_attributes
from otel_stage._stage_logger import StageLogger, text_of
from otel_stage._version import __version__
from otel_stage.errors import PipelineError, StageError, StageNameError
from otel_stage.jobdir import JobDir, check_name, close_job, fresh_job_dir, new_run_id, open_job
from otel_stage.manifest import jsonable, now_ns
from otel_stage.redact import redactor
from otel_stage.semconv import (
    ENV_RUN_ID,
    JOB_CONFIG,
)

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger("otel_stage")


class Pipeline:
    """One run of a pipeline; `with pipeline("subtitles") as job:` gives it open."""

    def __init__(
        self, name: str, stages: Iterable[str] | int | None, config: Mapping[str, Any] | None,
        settings: Mapping[str, Any], *, export_env: bool,
    ) -> None:
        try:
            self._name = check_name(name, "pipeline name")
        except StageNameError as err:
            raise PipelineError(str(err)) from None
        self._stages, self._total = check_stages(stages)
        self._config = config
        self._settings = resolve(settings)
        self._export_env = export_env
        self._run: Run | None = None
        self._logger: logging.Logger | None = None
        self._pid = 0
        self._exported: ExportedEnvironment | None = None

    # --- what user code reads

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self._name

    @property
    def dir(self) -> Path:
        """The job directory, which exists."""
        from pathlib import Path

        run = self._opened()
        if run.job is None:
            return Path(run.bare().job_dir())
        return Path(run.path)

    @property
    def run_id(self) -> str:
        """The run's id; empty when the SDK is disabled."""
        return self._opened().run_id

    @property
    def log(self) -> logging.Logger:
        """A logger that speaks for the pipeline as a whole: INFO and above into the pipeline log."""
        run = self._opened()
        if self._logger is None:
            self._logger = (
                logging.getLogger("pipeline") if run.job is None
                else StageLogger("pipeline", run.telemetry, run.context)
            )  # fmt: skip
        return self._logger

    # --- what user code does

    def stage(
        self, name: str, /, *, number: int | None = None, key: Key | None = None, ignore: Iterable[str] = ()
    ) -> StageBlock:
        """A stage of this run from wherever you are: threads and pools have no context of their own.

        Args:
            name: The stage's name.
            number: Its number; default: the next one.
            key: Tells stages of one name apart.
            ignore: As for `stage`.
        """
        run = self._opened()
        if run.closed:
            raise StageError(f"stage {name!r} cannot open: pipeline {self._name!r} has ended; open a new pipeline()")
        here = place_of(get_current())
        parent = get_current() if here is not None and here.run is run else run.context
        return StageBlock(name, number, key, ignore, (run, parent))

    def set_config(self, mapping: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        """Record configuration of the whole run: a mapping, keywords, or both."""
        run = self._opened()
        if run.job is None or run.closed:
            return
        try:
            mask = redactor()
            given = {**(mapping or {}), **values}
            config = {(name := jsonable(text_of(k))): mask.value(name, jsonable(v)) for k, v in given.items()}
            run.say(JOB_CONFIG, now_ns(), {"config": config})
            if not run.housekept:
                run.refresh()
        except Exception as err:
            self._trouble("configuration", err)

    def add_config(self, key: str, value: Any) -> None:
        """Record one configuration value of the whole run."""
        self.set_config({key: value})

    def child_env(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment in which a program that you start yourself joins this run.

        Args:
            base: Environment to start from; default: a copy of this process's.
        """
        run = self._opened()
        if run.job is None:
            return dict(os.environ if base is None else base)
        here = place_of(get_current())
        return run.child_env(get_current() if here is not None and here.run is run else run.context, base)

    def join_process(self) -> None:
        """Make stages of this process belong to this run: `ProcessPoolExecutor(initializer=job.join_process)`."""
        run = self._opened()
        set_standing(run)
        if run.job is not None and not listening.active:
            listening.start(run.telemetry, sole_context, console=run.prints, level=run.settings.library_level)

    # --- the block

    def __enter__(self) -> Pipeline:
        if self._run is not None:
            raise PipelineError(f"pipeline {self._name!r} was opened before: call pipeline() again for another run")
        here = place_of(get_current())
        if here is not None and here.run is not None and not here.run.closed:
            raise PipelineError(
                f"pipeline {self._name!r} cannot open inside pipeline {here.job.name!r}: "
                "use stage() for a part of it, or leave the outer block first"
            )
        settings = self._settings
        tel = telemetry(settings, self._name)
        if not tel.enabled:
            run = self._run = Run(settings, tel, job=None, path=absolute(settings.job_dir), joined=True)
            run.bare(self._name, self._stages)
            self._token = attach(run.enter(get_current()))
            open_runs.append(run)
            return self
        job = open_job(settings.job_dir or fresh_job_dir(settings.root, self._name))
        job.sync()
        try:
            self._enter(settings, tel, job)
        except BaseException:
            close_job(job)
            raise
        return self

    def _enter(self, settings: Settings, tel: Telemetry, job: JobDir) -> None:
        joined = bool(os.environ.get(ENV_RUN_ID)) and os.environ[ENV_RUN_ID] == job.run_id
        around = get_current() if get_current_span().get_span_context().is_valid else context_from(os.environ)
        began = now_ns()
        self._span = tel.tracer.start_span(f"pipeline {self._name}", context=around, start_time=began)
        if not joined:
            where = self._span.get_span_context()
            job.begin_run(
                self._name, run_id=new_run_id(), version=__version__, stages=self._stages, total=self._total,
                otel={"trace_id": format_trace_id(where.trace_id), "span_id": format_span_id(where.span_id)},
            )  # fmt: skip
        run = self._run = Run(settings, tel, job=job, path=job.path, joined=joined)
        self._pid = os.getpid()
        self._began = time.perf_counter()
        self._span.set_attributes(run_attributes(run, self._name))
        self._token = attach(run.enter(around, self._span))
        open_runs.append(run)
        listening.start(tel, sole_context, console=run.prints, level=settings.library_level)
        try:
            if not joined:
                _run_events.begin(run, began)
            if self._config:
                self.set_config(self._config)
            run.refresh()
        except Exception as err:
            self._trouble("the beginning", err)
        if self._export_env:
            self._exported = ExportedEnvironment(run.child_env(run.context))

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run = self._run
        if run is None or run.closed:
            return
        if run.job is None:
            run.closed = True
            open_runs.remove(run)
            detach_quietly(self._token)
            return
        if os.getpid() != self._pid:
            return
        job = run.job
        ending = ending_of(exc)
        try:
            _run_events.end(run, self._span, ending, time.perf_counter() - self._began)
        except Exception as err:
            self._trouble("the end", err)
        finally:
            run.closed = True
            if self._exported is not None:
                self._exported.restore()
            run.leave_house()
            if run in open_runs:
                open_runs.remove(run)
            listening.stop()
            detach_quietly(self._token)
            if not any(stage._run is run for stage in open_stages):
                # A thread's stage may outlive the block; then its files stay open with the process.
                close_job(job)

    def _trouble(self, what: str, err: Exception) -> None:
        if self._settings.strict:
            raise err
        _log.warning("pipeline %s: %s could not be recorded: %s: %s", self._name, what, type(err).__name__, err)

    def _opened(self) -> Run:
        if self._run is None:
            raise PipelineError(f"pipeline {self._name!r} is not open: use it in `with pipeline(...) as job:`")
        return self._run

    # --- other processes

    def __reduce__(self) -> tuple[Callable[..., Pipeline], tuple[Any, ...]]:
        return _pipeline_elsewhere, (self._name, self._opened().handle())


def _pipeline_elsewhere(name: str, handle: Mapping[str, Any]) -> Pipeline:
    """The same run in another process, where it is joined and never ended."""
    job = Pipeline(name, None, None, handle["settings"], export_env=False)
    job._run = run_from_handle(handle)
    return job


def pipeline(
    name: str,
    *,
    job_dir: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    stages: Iterable[str] | int | None = None,
    config: Mapping[str, Any] | None = None,
    export_env: bool = False,
    **settings: Any,
) -> Pipeline:
    """Run a pipeline: a trace, and a job directory with logs and manifests.

    Args:
        name: What is run: letters, digits, `_`, `-`.
        job_dir: The job directory; default: `OTEL_STAGE_JOB_DIR`, else a fresh `ROOT/YYYY/MM/DD/<name>/<n>`.
        root: Where fresh job directories are made; default: `out`.
        stages: Names of the stages in their order, which reserves their numbers, or how many there are.
        config: Configuration of the whole run.
        export_env: Also put the run into `os.environ` while the block is open, so that programs that other
            libraries start join it.
        **settings: Any other setting: `console="off"`, `checksum="off"`, ….

    Raises:
        PipelineError: The directory cannot be used, or a pipeline is open here already.
        JobBusyError: A live run holds the directory.
        SettingError: There is no such setting, or it does not take this value.
        ExporterError: An exporter is not installed.

    Example:
        >>> with pipeline("subtitles", stages=["demux", "asr"]) as job:  # doctest: +SKIP
        ...     with stage("demux") as st:
        ...         st.track_input("movie.mp4")
    """
    return Pipeline(name, stages, config, {"job_dir": job_dir, "root": root, **settings}, export_env=export_env)

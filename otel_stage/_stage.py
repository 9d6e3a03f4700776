"""A stage: a span, a sub-folder, a logger, and the verbs that say what happened.

Sets spans and sends events; knows no file format.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from otel_stage._stage_core import ERROR, StageCore, plain_text
from otel_stage._stage_logger import StageLogger
from otel_stage.manifest import jsonable
from otel_stage.redact import redactor
from otel_stage.semconv import EVENT_CONFIG, EVENT_ERROR, EVENT_RESOURCE

if TYPE_CHECKING:
    from otel_stage._process import Completed


class Stage(StageCore):
    """One open stage. `with stage("asr") as st:` gives one; so does `current_stage()`.

    Nothing here raises into user code: what cannot be recorded is a warning.
    """

    # --- what user code reads

    @property
    def name(self) -> str:
        """The stage's name."""
        return self._name

    @property
    def key(self) -> str | None:
        """What tells stages of one name apart; None for the first."""
        return self._key

    @property
    def id(self) -> str:
        """The stage's id: its name, or `name.key`."""
        return self._ident

    @property
    def number(self) -> int:
        """The stage's number in its job directory."""
        if self._number is None and self._run.job is None:
            self._settle_bare()
        return self._number or 0

    @property
    def dir(self) -> Path:
        """The stage's folder, which exists. Outputs of the stage belong there."""
        if self._run.job is None:
            self._settle_bare()
        return Path(self._dir)

    @property
    def log(self) -> logging.Logger:
        """The stage's logger: DEBUG and up into stage.log, INFO and up also into the pipeline log."""
        if self._logger is None:
            name = f"stage.{self._ident}"
            job = self._run.job
            self._logger = (
                logging.getLogger(name) if job is None else StageLogger(name, self._run.telemetry, self.context)
            )
        return self._logger

    def _settle_bare(self) -> None:
        """Folder and number of a stage that is not recorded, when user code asks for either."""
        if not self._dir:
            self._dir = self._run.bare().stage_dir(self._ident, self._number)
            self._number = int(os.path.basename(self._dir).partition("_")[0])

    # --- what user code says

    def track_input(self, path: str | os.PathLike[str], /, *, type: str = "file", **metadata: Any) -> Path:
        """Say that the stage reads a file or directory; its checksum is taken now.

        Args:
            path: Relative paths mean the current directory.
            type: What it is to the stage: "audio", "model", ….
            **metadata: Whatever else is worth knowing: `sample_rate=16_000`.

        Returns:
            The absolute path.
        """
        return self._track("input", path, type, metadata)

    def track_output(self, path: str | os.PathLike[str], /, *, type: str = "file", **metadata: Any) -> Path:
        """Say that the stage writes a file or directory; size and checksum are taken at the stage's end.

        Args:
            path: Relative paths mean the current directory; the stage's own folder is `st.dir / "x"`.
            type: What it is to the stage.
            **metadata: Whatever else is worth knowing.

        Returns:
            The absolute path.
        """
        return self._track("output", path, type, metadata)

    def track_intermediate(
        self, path: str | os.PathLike[str], /, *, type: str = "intermediate", retained: bool = False,
        reason: str = "", **metadata: Any,
    ) -> Path:
        """Say that the stage uses a cache or temporary file; no checksum is taken.

        Args:
            path: Relative paths mean the current directory.
            type: What it is to the stage.
            retained: It stays after the stage.
            reason: Why it stays.
            **metadata: Whatever else is worth knowing.

        Returns:
            The absolute path.
        """
        extra: dict[str, Any] = {"retained": bool(retained)}
        if reason:
            extra["reason"] = plain_text(reason)
        return self._track("intermediate", path, type, metadata, extra)

    def add_config(self, key: str, value: Any) -> None:
        """Record one configuration value."""
        self.set_config({plain_text(key): value})

    def set_config(self, mapping: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        """Record configuration: a mapping, keywords, or both. Keys said again win."""
        if self._silent():
            return
        try:
            given = dict(mapping or {})
            given.update(values)
            mask = redactor()
            config = {(name := plain_text(k)): mask.value(name, jsonable(v)) for k, v in given.items()}
            self._config.update(config)
            self._say(EVENT_CONFIG, {"config": config})
        except Exception as err:
            self._trouble("the configuration", err)

    def add_warning(self, message: str) -> None:
        """Record a warning: in the manifest, in stage.log and in the pipeline log."""
        if not self._silent():
            self._warn(message)

    def add_error(self, message: str, exception: BaseException | None = None) -> None:
        """Record an error that does not end the stage.

        Args:
            message: What went wrong.
            exception: Its type and traceback are recorded too.
        """
        if self._silent():
            return
        try:
            from otel_stage._ending import error_record

            record = {} if exception is None else error_record(exception)
            record["message"] = redactor().text(plain_text(message))
            self._counts["error"] += 1
            self._say(EVENT_ERROR, record, ERROR)
        except Exception as err:
            self._trouble("an error", err)

    def set_resources(self, mapping: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        """Record resource figures that you know better; they win over measured ones."""
        if self._silent():
            return
        try:
            self._say(EVENT_RESOURCE, {"resources": redactor().mapping(jsonable({**(mapping or {}), **values}))})
        except Exception as err:
            self._trouble("resources", err)

    def skip(self, reason: str) -> None:
        """Mark the stage as skipped; the block goes on, and user code leaves as it likes."""
        self._skipped = redactor().text(plain_text(reason))

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        check: bool = True,
        capture: bool = False,
        timeout: float | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        input: str | bytes | None = None,
        stdout_level: str | None = None,
        stderr_level: str | None = None,
    ) -> Completed:
        """Run a program as a child span and wait for it; its output lines go to stage.log.

        Args:
            argv: Program and arguments; no shell.
            check: Raise when it ends with a non-zero exit code or by a signal.
            capture: Also give back what it wrote.
            timeout: Seconds after which it is ended, with its whole process group. Only a program with a
                timeout gets a group of its own: otherwise it stays in ours, so that a signal to the group
                ends both.
            cwd: Its current directory; default: ours.
            env: Its environment, to which the trace context is added; default: ours.
            input: What it reads from stdin; default: nothing, since a batch program must not wait for a
                terminal.
            stdout_level: Level of its stdout lines in stage.log; default: setting `child_stdout_level`.
            stderr_level: Level of its stderr lines; default: setting `child_stderr_level`.

        Raises:
            ProcessError: It failed, and `check` is true; carries the tail of stderr.
            ProcessTimeoutError: It took longer than `timeout`.
            OSError: It could not be started, as `subprocess` raises it.

        Example:
            >>> st.run(["ffmpeg", "-i", movie, audio], timeout=600)  # doctest: +SKIP
        """
        from otel_stage._process import run_program

        return run_program(
            self, argv, check=check, capture=capture, timeout=timeout, cwd=cwd, env=env, input=input,
            stdout_level=stdout_level, stderr_level=stderr_level,
        )  # fmt: skip

    def child_env(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment in which a program that you start yourself joins this run under this stage.

        Args:
            base: Environment to start from; default: a copy of this process's.
        """
        if self._run.job is None:
            return dict(os.environ if base is None else base)
        return self._run.child_env(self.context, base)

    def _track(
        self, role: str, path: Any, kind: str, metadata: Mapping[str, Any], extra: Mapping[str, Any] | None = None
    ) -> Path:
        if self._silent():
            return _as_path(path)
        try:
            absolute = self._artifacts.track(role, path, kind, metadata, extra or {})
        except Exception as err:
            self._trouble(f"{role} {_shown(path)}", err)
            return _as_path(path)
        return path if type(path) is _PATH and str(path) == absolute else Path(absolute)

    def __reduce__(self) -> tuple[Callable[..., Stage], tuple[Any, ...]]:
        from otel_stage._elsewhere import stage_from_handle, stage_handle

        return stage_from_handle, (stage_handle(self),)


_PATH = type(Path())


def _as_path(path: Any) -> Path:
    """The absolute path; what is no path comes back as it is, since nothing here may raise."""
    try:
        return Path(os.path.abspath(os.fsdecode(path)))
    except (TypeError, ValueError, OSError):
        return cast("Path", path)


def _shown(value: Any) -> str:
    try:
        return ascii(value)[:200]
    except Exception:  # a __repr__ that raises
        return f"(a {type(value).__name__})"

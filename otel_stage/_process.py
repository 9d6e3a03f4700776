"""`Stage.run`: a program as a child span, its output in stage.log line by line."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from otel_stage._settings import _level
from otel_stage.errors import ProcessError, ProcessTimeoutError, SettingError
from otel_stage.manifest import jsonable
from otel_stage.redact import is_secret_key, redactor
from otel_stage.semconv import (
    ERROR_TYPE,
    PROCESS_COMMAND_ARGS,
    PROCESS_EXECUTABLE_NAME,
    PROCESS_EXIT_CODE,
    PROCESS_PID,
    PROCESS_SIGNAL,
    STAGE_RESOURCE,
    TIMEOUT,
)

if TYPE_CHECKING:
    from otel_stage._stage import Stage

_TAIL_LINES = 20
_MIB = 2**20


@dataclass(frozen=True)
class Completed:
    """How a program ended.

    Attributes:
        argv: The program and its arguments.
        returncode: Exit code; negative is the number of the signal that ended it.
        stdout: What it wrote there, with `capture=True`; else empty.
        stderr: The same.
        duration_seconds: Wall time.
        cpu_seconds: User + system of the program and the children that it waited for; None where the system
            does not tell.
        memory_mb: Peak resident memory of the largest of these processes in MiB; None likewise, and where it
            never grew above ours: between fork and exec a child counts as large as we are.
    """

    argv: list[str]
    returncode: int
    stdout: str
    stderr: str
    duration_seconds: float
    cpu_seconds: float | None = None
    memory_mb: float | None = None


def run_program(
    stage: Stage,
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
    """What `Stage.run` does; see there."""
    if isinstance(argv, str | bytes):
        raise TypeError("argv must be a list of program and arguments, not one string: st.run(['ffmpeg', '-i', path])")
    if not argv:
        raise ValueError("argv is empty: give at least the program, st.run(['ffmpeg', '-i', path])")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: it takes seconds, more than 0")
    settings = stage._run.settings
    levels = {
        "stdout": _checked(stdout_level, "stdout_level", settings.child_stdout_level),
        "stderr": _checked(stderr_level, "stderr_level", settings.child_stderr_level),
    }
    args = [os.fsdecode(arg) for arg in argv]
    for name, value in (env or {}).items():
        if is_secret_key(name):
            redactor().add_secret(value)
    call = _Call(stage, args, levels, capture)
    return call.run(check=check, timeout=timeout, cwd=cwd, env=env, given=input)


def _checked(level: str | None, name: str, default: str) -> str:
    if level is None:
        return default
    try:
        return _level(level)
    except ValueError as err:
        raise SettingError(f"{name}={level!r}: it takes {err}") from None


class _Call:
    def __init__(self, stage: Stage, argv: list[str], levels: Mapping[str, str], capture: bool) -> None:
        from otel_stage._sdk import emit, severity

        self._stage = stage
        self._argv = argv
        self._shown = [str(jsonable(arg)) for arg in redactor().argv(argv)]
        self._program = str(jsonable(os.path.basename(argv[0]))) if argv else ""
        self._tail: list[str] = []
        self._kept: dict[str, list[bytes]] | None = {"stdout": [], "stderr": []} if capture else None
        self._emit = emit
        self._levels = {
            name: severity({"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}[word], word)
            for name, word in levels.items()
        }

    def run(self, *, check: bool, timeout: float | None, cwd: Any, env: Any, given: str | bytes | None) -> Completed:
        stage = self._stage
        telemetry = stage._run.telemetry
        recorded = stage._otel is not None
        span = telemetry.tracer.start_span(
            self._program or "program",
            context=stage.context,
            attributes={PROCESS_EXECUTABLE_NAME: self._program, PROCESS_COMMAND_ARGS: self._shown},
        )
        self._context: Context = set_span_in_context(span, stage.context)
        # One scope per program: `[stage.demux/ffmpeg]`.
        scope = f"stage.{stage.id}/{''.join(c if c.isalnum() or c in '._-' else '_' for c in self._program)}"
        self._otel = telemetry.logger(scope) if recorded else None
        child_env = stage._run.child_env(self._context, env) if recorded else (dict(env) if env is not None else None)
        try:
            done, timed_out = self._wait(timeout, cwd, child_env, given, span)
        except BaseException as err:
            span.set_attribute(ERROR_TYPE, type(err).__name__)
            span.set_status(Status(StatusCode.ERROR, redactor().text(f"{type(err).__name__}: {err}")))
            raise
        else:
            self._mark(span, done, timed_out, timeout)
            self._told(done)
        finally:
            span.end()
        if timed_out:
            raise ProcessTimeoutError(
                told(self._quoted(), f"took longer than {timeout:g} s and was ended", self._masked_tail()),
                argv=self._shown, returncode=done.returncode, stderr_tail=self._masked_tail(),
            )  # fmt: skip
        if check and done.returncode != 0:
            raise ProcessError(
                told(self._quoted(), _how(done.returncode), self._masked_tail()),
                argv=self._shown, returncode=done.returncode, stderr_tail=self._masked_tail(),
            )  # fmt: skip
        return done

    def _wait(
        self, timeout: float | None, cwd: Any, env: Mapping[str, str] | None, given: str | bytes | None, span: Span
    ) -> tuple[Completed, bool]:
        import subprocess

        from otel_stage._streams import pump

        began = time.perf_counter()
        own_group: dict[str, Any] = {"process_group": 0} if timeout is not None and sys.platform != "win32" else {}
        process = cast("subprocess.Popen[bytes]", subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env,
            **own_group,
        ))
        span.set_attribute(PROCESS_PID, process.pid)
        data = given.encode() if isinstance(given, str) else given
        timed_out, usage = pump(process, self._take, self._line, data=data, timeout=timeout, own_group=bool(own_group))
        meter = self._stage._meter
        if meter is not None and usage is not None:
            meter.note_child(usage)
        kept = self._kept or {"stdout": [], "stderr": []}
        done = Completed(
            argv=self._argv,
            returncode=process.returncode,
            stdout=b"".join(kept["stdout"]).decode("utf-8", "replace"),
            stderr=b"".join(kept["stderr"]).decode("utf-8", "replace"),
            duration_seconds=round(time.perf_counter() - began, 6),
            cpu_seconds=None if usage is None else round(usage.ru_utime + usage.ru_stime, 6),
            memory_mb=_peak_mb(usage),
        )
        return done, timed_out

    # --- what it writes

    def _take(self, name: str, data: bytes) -> None:
        if self._kept is not None:
            self._kept[name].append(data)

    def _line(self, name: str, line: str) -> None:
        if name == "stderr" and line.strip():
            self._tail.append(line)
            del self._tail[:-_TAIL_LINES]
        if self._otel is not None:
            self._emit(self._otel, time.time_ns(), self._context, self._levels[name], line)

    # --- what is said of it

    def _mark(self, span: Span, done: Completed, timed_out: bool, timeout: float | None) -> None:
        code = done.returncode
        if code >= 0:
            span.set_attribute(PROCESS_EXIT_CODE, code)
        else:
            span.set_attribute(PROCESS_SIGNAL, _signal_name(-code))
        if done.cpu_seconds is not None:
            span.set_attribute(f"{STAGE_RESOURCE}cpu_seconds", done.cpu_seconds)
        if done.memory_mb is not None:
            span.set_attribute(f"{STAGE_RESOURCE}memory_mb", done.memory_mb)
        if timed_out:
            span.set_attribute(ERROR_TYPE, TIMEOUT)
            span.set_status(Status(StatusCode.ERROR, f"took longer than {timeout:g} s"))
        elif code != 0:
            span.set_attribute(ERROR_TYPE, str(code) if code > 0 else _signal_name(-code))
            span.set_status(Status(StatusCode.ERROR, _how(code)))

    def _told(self, done: Completed) -> None:
        cpu = "" if done.cpu_seconds is None else f", {done.cpu_seconds:.2f} s of CPU"
        memory = "" if done.memory_mb is None else f", {done.memory_mb:.0f} MiB"
        self._stage.log.debug(
            "%s %s after %.2f s%s%s", self._quoted(), _how(done.returncode), done.duration_seconds, cpu, memory
        )

    def _quoted(self) -> str:
        text = shlex.join(self._shown)
        return text if len(text) <= 200 else f"{text[:197]}..."

    def _masked_tail(self) -> list[str]:
        mask = redactor().text
        return [mask(line) for line in self._tail]


def told(program: str, what: str, tail: list[str]) -> str:
    """The message of a failure: its first line says what happened, the rest is what stderr ended with."""
    first = f"{program} {what}"
    if not tail:
        return first
    return f"{first}: {tail[-1].strip()}" + ("\nstderr ended with:\n" + "\n".join(tail) if len(tail) > 1 else "")


def _how(returncode: int) -> str:
    if returncode < 0:
        return f"was ended by {_signal_name(-returncode)}"
    return f"ended with exit code {returncode}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _peak_mb(usage: Any) -> float | None:
    from otel_stage._proctree import child_peak

    peak = None if usage is None else child_peak(usage)
    return None if peak is None else round(peak / _MIB, 1)

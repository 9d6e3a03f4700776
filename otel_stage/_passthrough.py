"""Any program as a stage: stdin, stdout, stderr and the exit code pass through byte for byte."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from otel_stage._block import StageBlock
from otel_stage._capture import LineAssembler
from otel_stage._process import _how, told
from otel_stage._sdk import emit, severity
from otel_stage._stage import Stage
from otel_stage.errors import ProcessError, ProcessTimeoutError
from otel_stage.redact import redactor

_BLOCK = 65_536
_DEBUG = severity(10, "DEBUG")
_TIMED_OUT = 124
_NOT_FOUND, _NOT_RUNNABLE = 127, 126
_GRACE_SECONDS = 0.5
_FORWARDED = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def run_as_stage(
    name: str, argv: Sequence[str], *, key: str | None, number: int | None, inputs: Sequence[str],
    outputs: Sequence[str], config: Mapping[str, str], timeout: float | None,
) -> int:
    """Run `argv` as a stage and give its exit code as a shell would.

    Args:
        name: The stage's name.
        argv: Program and arguments.
        key: The stage's key.
        number: The stage's number.
        inputs: Files that it reads.
        outputs: Files that it writes.
        config: Configuration to record.
        timeout: Seconds after which it is ended.

    Raises:
        OtelStageError: The stage cannot be opened.
    """
    block = StageBlock(name, number, key, ())
    try:
        with block as st:
            for path in inputs:
                st.track_input(path)
            for path in outputs:
                st.track_output(path)
            if config:
                st.set_config(dict(config))
            _run(st, list(argv), timeout)
    except ProcessTimeoutError:
        return _TIMED_OUT
    except ProcessError as err:
        code = err.returncode or 0
        return code if code > 0 else 128 - code
    return 0


def _run(st: Stage, argv: list[str], timeout: float | None) -> None:
    program = os.path.basename(argv[0])
    try:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=st.child_env())
    except OSError as err:
        sys.stderr.write(f"otel-stage: {argv[0]}: {err.strerror}\n")
        code = _NOT_FOUND if isinstance(err, FileNotFoundError) else _NOT_RUNNABLE
        raise _plain(ProcessError(f"{argv[0]}: {err.strerror}", argv=argv, returncode=code, stderr_tail=[])) from None
    tail: list[str] = []
    threads = [
        threading.Thread(target=_pass_on, args=(st, program, pipe, fd, tail), name="otel-stage-pass", daemon=True)
        for pipe, fd in ((process.stdout, 1), (process.stderr, 2))
    ]
    for thread in threads:
        thread.start()
    with _forwarding(process):
        timed_out = _wait(process, timeout)
    for thread in threads:
        thread.join(_GRACE_SECONDS)
    st.log.debug("%s %s", program, _how(process.returncode))
    kind = ProcessTimeoutError if timed_out else ProcessError
    if timed_out or process.returncode != 0:
        what = f"took longer than {timeout:g} s" if timed_out else _how(process.returncode)
        shown = [redactor().text(line) for line in tail]
        message = told(program, what, shown)
        raise _plain(kind(message, argv=redactor().argv(argv), returncode=process.returncode, stderr_tail=shown))


def _plain(err: ProcessError) -> ProcessError:
    """The program failed, not our code: a traceback through us would tell nobody anything."""
    err._otel_stage_plain = True  # type: ignore[attr-defined]  # read where error records are made
    return err


def _wait(process: subprocess.Popen[bytes], timeout: float | None) -> bool:
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return True
    return False


@contextlib.contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Any:
    """What a scheduler sends us is meant for the program; a terminal's Ctrl-C reaches it by itself."""

    def forward(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(st: Stage, program: str, pipe: Any, fd: int, tail: list[str]) -> None:
    assembler = LineAssembler()
    otel = None if st._otel is None else st._run.telemetry.logger(f"stage.{st.id}/{program}")

    def record(lines: list[str]) -> None:
        for line in lines:
            if fd == 2 and line.strip():
                tail.append(line)
                del tail[:-20]
            if otel is not None:
                emit(otel, time.time_ns(), st.context, _DEBUG, line)

    open_out = True
    while data := os.read(pipe.fileno(), _BLOCK):
        if open_out:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            except OSError:
                # Nobody reads us any more (`| head`): the program must notice as it would without us.
                open_out = False
                pipe.close()
                break
        record(assembler.feed(data))
    record(assembler.close())

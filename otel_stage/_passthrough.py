"""Any program as a stage: stdin, stdout, stderr and the exit code pass through byte for byte."""

from __future__ import annotations

import contextlib
import errno
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
from otel_stage._ending import Interrupted
from otel_stage._process import _how, told
from otel_stage._sdk import emit, severity
from otel_stage._stage import Stage
from otel_stage.errors import ProcessError, ProcessTimeoutError
from otel_stage.manifest import jsonable
from otel_stage.redact import redactor

_BLOCK = 65_536
_DEBUG = severity(10, "DEBUG")
_TIMED_OUT = 124
_NOT_FOUND, _NOT_RUNNABLE = 127, 126
_POLL_SECONDS = 0.2
_TERM_SECONDS = 3
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
    block = StageBlock(name, number, key, (), None, _identity(argv))
    try:
        with block as st:
            for path in inputs:
                st.track_input(path)
            for path in outputs:
                st.track_output(path)
            if config:
                st.set_config(dict(config))
            return _run(st, list(argv), timeout)
    except ProcessTimeoutError:
        return _TIMED_OUT
    except ProcessError as err:
        code = err.returncode or 0
        return code if code > 0 else 128 - code
    except Interrupted as err:
        return 128 + signal.Signals[str(err)]


def _identity(argv: Sequence[str]) -> dict[str, Any]:
    """What runs: the program's file and its arguments, secrets masked."""
    import shutil

    mask = redactor()
    found = shutil.which(argv[0])
    identity: dict[str, Any] = {"kind": "program", "argv": [str(jsonable(arg)) for arg in mask.argv(argv)]}
    if found is not None:
        identity["path"] = mask.text(str(jsonable(os.path.realpath(found))))
    return identity


def _run(st: Stage, argv: list[str], timeout: float | None) -> int:
    program = os.path.basename(argv[0])
    # Before the program starts: a signal that comes at once must not miss it.
    with _Forwarding() as forwarding:
        process = _started(argv, st)
        forwarding.to(process)
        streams = [_Stream(st, program, pipe, fd) for pipe, fd in ((process.stdout, 1), (process.stderr, 2))]
        for stream in streams:
            stream.start()
        timed_out = _wait(process, timeout, forwarding)
        # Until the streams end, as a shell's pipe waits: a grandchild may write on.
        for stream in streams:
            while stream.is_alive():
                stream.join(_POLL_SECONDS)
                if forwarding.got or timed_out:
                    break
    st.log.debug("%s %s", program, _how(process.returncode))
    if forwarding.got and process.returncode in (-forwarding.got, 128 + forwarding.got):
        raise Interrupted(signal.Signals(forwarding.got).name)
    returncode, what = process.returncode, _how(process.returncode)
    unwritten = next((stream.error for stream in streams if stream.error is not None), None)
    if returncode == 0 and unwritten is not None:
        # Without us the program itself would have met the error, and most would have failed of it.
        returncode = 1 if unwritten.errno != errno.EPIPE else 128 + signal.SIGPIPE
        what = f"wrote what could not be passed on: {unwritten.strerror}"
        sys.stderr.write(f"otel-stage: {program} {what}\n")
    if timed_out:
        what = f"took longer than {timeout:g} s"
    if timed_out or returncode != 0:
        shown = [redactor().text(line) for line in streams[1].tail]
        kind = ProcessTimeoutError if timed_out else ProcessError
        message = told(program, what, shown)
        raise _plain(kind(message, argv=redactor().argv(argv), returncode=returncode, stderr_tail=shown))
    return 0


def _started(argv: list[str], st: Stage) -> subprocess.Popen[bytes]:
    try:
        if not argv[0]:
            raise FileNotFoundError(2, "the name of the program is empty")
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=st.child_env())
    except OSError as err:
        sys.stderr.write(f"otel-stage: {argv[0]}: {err.strerror}\n")
        code = _NOT_FOUND if isinstance(err, FileNotFoundError) else _NOT_RUNNABLE
        raise _plain(ProcessError(f"{argv[0]}: {err.strerror}", argv=argv, returncode=code, stderr_tail=[])) from None


def _plain(err: ProcessError) -> ProcessError:
    """The program failed, not our code: a traceback through us would tell nobody anything."""
    err._otel_stage_plain = True  # type: ignore[attr-defined]  # read where error records are made
    return err


def _wait(process: subprocess.Popen[bytes], timeout: float | None, forwarding: _Forwarding) -> bool:
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = 1.0 if deadline is None else max(0.0, min(1.0, deadline - time.monotonic()))
        try:
            process.wait(min(left, forwarding.pause))
        except subprocess.TimeoutExpired:
            forwarding.insist()
            if deadline is not None and time.monotonic() >= deadline:
                break
        else:
            return False
    process.terminate()
    try:
        process.wait(_TERM_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return True


class _Forwarding:
    """What a scheduler sends us is meant for the program.

    A terminal's Ctrl-C reaches the program by itself; sent to us alone it is passed on a moment later.

    Attributes:
        got: The signal that came, 0 for none.
    """

    pause = 0.2

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}
        self._owed = 0
        self.got = 0

    def __enter__(self) -> _Forwarding:
        for number in _FORWARDED:
            self._before[number] = signal.signal(number, self._forward)
        self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._later)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def to(self, process: subprocess.Popen[bytes]) -> None:
        """The program has started; it gets what came meanwhile."""
        self._process = process
        if self.got:
            self._send(self.got)

    def _send(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.send_signal(number)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        self.got = number
        self._send(number)

    def _later(self, number: int, _frame: FrameType | None) -> None:
        self.got = self._owed = number

    def insist(self) -> None:
        """The program lives on after an interrupt: it was sent to us alone."""
        owed, self._owed = self._owed, 0
        if owed:
            self._send(owed)


class _Stream(threading.Thread):
    """Passes one stream on, byte for byte, and its lines to stage.log.

    Attributes:
        tail: The last lines.
        error: What came when it could not be passed on.
    """

    def __init__(self, st: Stage, program: str, pipe: Any, fd: int) -> None:
        super().__init__(name="otel-stage-pass", daemon=True)
        self._pipe = pipe
        self._fd = fd
        self._context = st.context
        self._otel = None if st._otel is None else st._run.telemetry.logger(f"stage.{st.id}/{program}")
        self.tail: list[str] = []
        self.error: OSError | None = None

    def run(self) -> None:
        """Until the program closes the stream."""
        assembler = LineAssembler()
        while data := os.read(self._pipe.fileno(), _BLOCK):
            self._record(assembler.feed(data))
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(self._fd, view) :]
            except OSError as err:
                # Nobody reads us any more (`| head`), or the disk is full: the program must notice.
                self.error = err
                self._pipe.close()
                break
        self._record(assembler.close())

    def _record(self, lines: list[str]) -> None:
        for line in lines:
            if line.strip():
                self.tail.append(line)
                del self.tail[:-20]
            if self._otel is not None:
                emit(self._otel, time.time_ns(), self._context, _DEBUG, line)

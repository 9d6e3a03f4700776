"""Waiting for a child process while its output flows: in order within a stream, by arrival across."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from otel_stage._capture import LineAssembler

_BLOCK = 65_536
# A grandchild that lives on may hold the pipe open: after the child's end we take what is there, and go.
_GRACE_SECONDS = 0.5
_TERM_SECONDS = 3.0

Take = Callable[[str, bytes], None]
Line = Callable[[str, str], None]


def pump(
    process: subprocess.Popen[bytes], take: Take, line: Line, *, data: bytes | None, timeout: float | None,
    own_group: bool,
) -> tuple[bool, Any]:
    """Pass on what a child writes until it has ended.

    Args:
        process: With pipes for stdout and stderr, and for stdin if there is `data`.
        take: Gets (stream name, bytes) as they come.
        line: Gets (stream name, line).
        data: What the child reads.
        timeout: Seconds; then it is ended, first kindly.
        own_group: It leads a process group, which is ended with it.

    Returns:
        (whether it ran out of time, its rusage or None).
    """
    if sys.platform == "win32":  # pragma: no cover (pipes cannot be polled there)
        return _pump_by_threads(process, take, line, data, timeout)
    try:
        return _Pump(process, take, line, data, own_group).run(timeout)
    except BaseException:
        # Ctrl-C or a signal handler that raises: the child must not outlive the call, as with subprocess.run.
        _end(process, own_group, signal.SIGKILL)
        with contextlib.suppress(OSError):
            process.wait(_GRACE_SECONDS)
        raise
    finally:
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class _Pump:
    def __init__(
        self, process: subprocess.Popen[bytes], take: Take, line: Line, data: bytes | None, own_group: bool
    ) -> None:
        self._process = process
        self._take = take
        self._line = line
        self._data = memoryview(data or b"")
        self._own_group = own_group
        self._usage: Any = None
        self._selector = selectors.DefaultSelector()
        self._assemblers: dict[str, LineAssembler] = {}
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._assemblers[name] = LineAssembler()
                self._selector.register(pipe.fileno(), selectors.EVENT_READ, name)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            self._selector.register(process.stdin.fileno(), selectors.EVENT_WRITE, "stdin")
        self._pidfd = -1
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(process.pid)
                self._selector.register(self._pidfd, selectors.EVENT_READ, "pid")

    def run(self, timeout: float | None) -> tuple[bool, Any]:
        timed_out = False
        try:
            deadline = None if timeout is None else time.monotonic() + timeout
            while not self._ended():
                if deadline is not None and time.monotonic() >= deadline:
                    if timed_out:
                        _end(self._process, self._own_group, signal.SIGKILL)
                        deadline = None
                    else:
                        timed_out = True
                        _end(self._process, self._own_group, signal.SIGTERM)
                        deadline = time.monotonic() + _TERM_SECONDS
                self._turn(deadline)
            if timed_out:
                # What the child left behind in its group goes with it.
                _end_group(self._process.pid, self._own_group)
            self._drain()
        finally:
            for name, assembler in self._assemblers.items():
                for text in assembler.close():
                    self._line(name, text)
            self._selector.close()
            if self._pidfd >= 0:
                os.close(self._pidfd)
        return timed_out, self._usage

    def _ended(self) -> bool:
        if self._process.returncode is not None:
            return True
        try:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        except ChildProcessError:
            # Somebody else waited for it (SIGCHLD ignored); subprocess calls that exit code 0 too.
            self._process.returncode = 0
            return True
        if pid:
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self._usage = usage
        return pid != 0

    def _turn(self, deadline: float | None) -> None:
        longest = 1.0 if self._pidfd >= 0 else 0.02
        if deadline is not None:
            longest = max(0.0, min(longest, deadline - time.monotonic()))
        for key, _ in self._selector.select(longest):
            if key.data == "stdin":
                self._feed(key.fd)
            elif key.data != "pid":
                self._read(key.fd, key.data)

    def _feed(self, fd: int) -> None:
        try:
            if self._data:
                self._data = self._data[os.write(fd, self._data[:_BLOCK]) :]
        except BlockingIOError:
            return
        except OSError:
            self._data = memoryview(b"")
        if not self._data:
            self._selector.unregister(fd)
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()

    def _read(self, fd: int, name: str) -> bool:
        try:
            data = os.read(fd, _BLOCK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(fd)
            return False
        self._take(name, data)
        for text in self._assemblers[name].feed(data):
            self._line(name, text)
        return True

    def _drain(self) -> None:
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline:
            open_streams = [k for k in self._selector.get_map().values() if k.data in self._assemblers]
            if not open_streams:
                return
            ready = [key for key, _ in self._selector.select(0.05) if key.data in self._assemblers]
            for key in ready:
                self._read(key.fd, key.data)
            if not ready and not any(self._read(key.fd, key.data) for key in open_streams):
                continue


def _end(process: subprocess.Popen[bytes], own_group: bool, number: int) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(OSError):
        if own_group:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)


def _end_group(pid: int, own_group: bool) -> None:
    if own_group:
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGKILL)


def _pump_by_threads(
    process: subprocess.Popen[bytes], take: Take, line: Line, data: bytes | None, timeout: float | None
) -> tuple[bool, Any]:  # pragma: no cover (Windows)
    import threading

    def read(name: str, pipe: Any) -> None:
        assembler = LineAssembler()
        while block := pipe.read1(_BLOCK):
            take(name, block)
            for text in assembler.feed(block):
                line(name, text)
        for text in assembler.close():
            line(name, text)

    threads = [
        threading.Thread(target=read, args=(name, pipe), daemon=True)
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
    ]
    for thread in threads:
        thread.start()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.write(data or b"")
            process.stdin.close()
    timed_out = False
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        timed_out = True
        process.kill()
        process.wait()
    except BaseException:
        process.kill()
        raise
    for thread in threads:
        thread.join(_GRACE_SECONDS)
    return timed_out, None

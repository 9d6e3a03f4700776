"""capture="fd": what goes through the descriptors 1 and 2, whoever writes it.

One pump serves all captures of the process: it owns the two pipes and one thread, and lives from the first
capture to the last. Overlapping captures would otherwise stack pipe on pipe, in no order that can be undone.

What a pipe costs, on top of what `capture_fd` says: it holds 1 MiB on Linux (64 KiB elsewhere). C code that
prints more than this while it keeps the GIL waits for ever for our thread, and what is in the pipe when the
process is killed is lost.
"""

import os
import sys
import threading
from contextlib import AbstractContextManager

from otel_stage._capture._lines import Recorder, Sink
from otel_stage._capture._sys import capture_sys

_lock = threading.Lock()

if sys.platform != "win32":
    import atexit

    from otel_stage._capture._pump import Pump, flush_stdio

    _pumps: list[Pump] = []

    class _FdCapture:
        def __init__(self, sink: Sink) -> None:
            self._sink = sink
            self._recorder: Recorder | None = None
            self._pump: Pump | None = None
            self._pid = 0

        def __enter__(self) -> None:
            try:
                with _lock:
                    self._open()
            except Exception:
                self._pump = None  # nothing recorded, everything printed

        def _open(self) -> None:
            flush_stdio()
            pump = _current()
            if pump is None:
                pump = Pump()
                _pumps[:] = [p for p in _pumps if p.alive()]
                _pumps.append(pump)
            else:
                pump.sync()  # what was printed before this block is not ours
            self._pump, self._pid, self._recorder = pump, os.getpid(), Recorder(self._sink)
            pump.recorders += (self._recorder,)

        def __exit__(self, *exc: object) -> None:
            pump, recorder = self._pump, self._recorder
            if pump is None or recorder is None:
                return
            self._pump = None
            with _lock:
                try:
                    flush_stdio()
                    pump.sync()
                finally:
                    pump.recorders = tuple(r for r in pump.recorders if r is not recorder)
                    if not pump.recorders:
                        pump.restore()
                        pump.sync()
            if os.getpid() == self._pid:  # in a forked child the unfinished line is the parent's
                with pump.feeding:
                    recorder.close()

    def _current() -> Pump | None:
        for pump in reversed(_pumps):
            if pump.in_place():
                return pump
        return None

    def _at_exit() -> None:
        """Let out what is still on its way: blocks that nobody left, children that went on printing."""
        for pump in reversed(_pumps):
            flush_stdio()
            pump.restore()
            pump.sync()

    def _in_child() -> None:
        global _lock
        _lock = threading.Lock()
        for pump in _pumps:
            pump.disown()
        _pumps.clear()

    atexit.register(_at_exit)
    os.register_at_fork(after_in_child=_in_child)


def capture_fd(sink: Sink) -> "AbstractContextManager[None, None]":
    """Record what this process, its C code and its children print while the block is open.

    The bytes go on to the original descriptors at once, each stream in its own order. Standard output is a
    pipe meanwhile, so ``isatty`` says no. A child that outlives the block keeps printing for as long as this
    process lives, and is not recorded any more. On Windows this is `capture_sys`.

    Args:
        sink: Called with ``"stdout"`` or ``"stderr"`` and a line, in a thread of its own; it must not print.

    Returns:
        A context manager; leaving it returns when everything printed so far was passed on.

    Example:
        >>> lines = []
        >>> with capture_fd(lambda name, line: lines.append(line)):
        ...     _ = os.system("echo hello")
        >>> lines
        ['hello']
    """
    if sys.platform == "win32":
        return capture_sys(sink)
    else:
        return _FdCapture(sink)


def original_fd(fd: int) -> int:
    """Say where a captured descriptor leads.

    Args:
        fd: 1 or 2.

    Returns:
        The descriptor that it was before `capture_fd`; itself when there is no capture. Valid until the
        capture ends.
    """
    if sys.platform != "win32":
        for pump in _pumps:  # the oldest leads outside
            for stream in pump.streams:
                if stream.fd == fd and stream.saved >= 0 and pump.in_place():
                    return stream.saved
    return fd

"""capture="sys": what goes through sys.stdout and sys.stderr."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from otel_stage._capture._lines import Recorder, Sink

_NAMES = ("stdout", "stderr")
_lock = threading.Lock()
_tees: list["_Tee"] = []


class _Here(threading.local):
    deaf = False


_here = _Here()


class _Tee:
    """Stands for the stream in everything, and lets the recorders hear what is written."""

    def __init__(self, name: str, stream: Any) -> None:
        self._tee_name = name
        self._tee_stream = stream
        self._tee_recorders: tuple[Recorder, ...] = ()

    def write(self, text: Any) -> Any:
        # The stream's own exceptions are the user's business: they would have come without us too.
        written = self._tee_stream.write(text)
        if self._tee_recorders and not _here.deaf:
            _here.deaf = True
            try:
                for recorder in self._tee_recorders:
                    recorder.feed(self._tee_name, text, threading.get_ident())
            except Exception:
                pass  # a stream that takes other things than text: printed, not recorded
            finally:
                _here.deaf = False
        return written

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_tee_"):  # a half-made copy, which would ask for ever
            raise AttributeError(name)
        return getattr(self._tee_stream, name)

    def __enter__(self) -> Any:
        self._tee_stream.__enter__()
        return self

    def __exit__(self, *exc: object) -> Any:
        return self._tee_stream.__exit__(*exc)

    def __iter__(self) -> Any:
        return iter(self._tee_stream)

    def __repr__(self) -> str:
        return repr(self._tee_stream)


class capture_sys:  # noqa: N801 - used like a function
    """Record what Python code prints while the block is open.

    Streams that somebody else has put in place meanwhile stay in place; what is written through
    ``sys.stdout.buffer`` or by C code is printed and not recorded.

    Args:
        sink: Called with ``"stdout"`` or ``"stderr"`` and a line, in the thread that printed.

    Example:
        >>> lines = []
        >>> with capture_sys(lambda name, line: lines.append((name, line))):
        ...     print("hello")
        hello
        >>> lines
        [('stdout', 'hello')]
    """

    def __init__(self, sink: Sink) -> None:
        self._recorder = Recorder(sink)
        self._heard: list[_Tee] = []

    def __enter__(self) -> None:
        with _lock:
            for name in _NAMES:
                current = getattr(sys, name, None)
                if current is None:  # pythonw has none
                    continue
                # One tee serves all captures: a tee for each would pile up where captures overlap.
                tee = current if isinstance(current, _Tee) else _Tee(name, current)
                if self._recorder in tee._tee_recorders:  # sys.stderr = sys.stdout
                    continue
                tee._tee_recorders += (self._recorder,)
                if tee not in _tees:
                    _tees.append(tee)
                self._heard.append(tee)
                setattr(sys, name, tee)

    def __exit__(self, *exc: object) -> None:
        with _lock:
            for tee in self._heard:
                tee._tee_recorders = tuple(r for r in tee._tee_recorders if r is not self._recorder)
                if not tee._tee_recorders:
                    _tees.remove(tee)
                    _take_out(tee)
            self._heard = []
        _here.deaf, deaf = True, _here.deaf
        try:
            self._recorder.close()
        finally:
            _here.deaf = deaf


def _take_out(tee: _Tee) -> None:
    if getattr(sys, tee._tee_name, None) is not tee:
        return
    stream = tee._tee_stream
    while isinstance(stream, _Tee) and not stream._tee_recorders:
        stream = stream._tee_stream
    setattr(sys, tee._tee_name, stream)


@contextlib.contextmanager
def uncaptured() -> Iterator[None]:
    """Let this thread print past `capture_sys`: for a console that shows what is recorded anyway.

    Example:
        >>> with capture_sys(lambda name, line: print("never called")), uncaptured():
        ...     print("hello")
        hello
    """
    before = _here.deaf
    _here.deaf = True
    try:
        yield
    finally:
        _here.deaf = before


def _in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it
    _here.deaf = False
    for tee in _tees:
        for recorder in tee._tee_recorders:
            recorder.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

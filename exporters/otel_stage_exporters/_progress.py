"""`console="live"`: under the log lines, on a terminal, one line that says what runs and for how long."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TextIO

_EVERY_SECONDS = 0.25
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_CLEAR = "\r\x1b[2K"


class Progress:
    """The line of progress of one run; nothing at all where stderr is no terminal.

    Example:
        `⠹ 2/5 asr 12.3s · vad 0.4s`
    """

    def __init__(self) -> None:
        self._running: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._shown = False
        self._frame = 0

    def opened(self, ident: str, label: str) -> None:
        """A stage began."""
        self._running[ident] = (label, time.monotonic())
        if self._thread is None and _terminal() is not None:
            self._thread = threading.Thread(target=self._run, name="otel-stage-live", daemon=True)
            self._thread.start()

    def ended(self, ident: str) -> None:
        """A stage ended."""
        self._running.pop(ident, None)

    def clear(self) -> None:
        """Take the line away, so that a log line can stand there; it comes back by itself."""
        stream = _terminal()
        if self._shown and stream is not None:
            with self._lock:
                stream.write(_CLEAR)
                stream.flush()
                self._shown = False

    def close(self) -> None:
        """The run is over."""
        self._stop.set()
        self.clear()

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_SECONDS):
            stream = _terminal()
            if stream is None:
                return
            with self._lock:
                if self._stop.is_set():
                    return
                try:
                    stream.write(_CLEAR + self.line(time.monotonic(), _columns(stream) - 1))
                    stream.flush()
                except (OSError, ValueError):
                    return
                self._shown = True

    def line(self, now: float, width: int) -> str:
        """The line as of `now`, at most `width` columns."""
        running = list(self._running.values())
        if not running:
            return ""
        self._frame = (self._frame + 1) % len(_FRAMES)
        text = " · ".join(f"{label} {now - began:.1f}s" for label, began in running)
        return f"{_FRAMES[self._frame]} {text}"[: max(width, 0)]


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def _terminal() -> TextIO | None:
    """Stderr, if people look at it."""
    stream = sys.stderr
    try:
        return stream if stream is not None and stream.isatty() else None
    except ValueError:  # closed
        return None

"""The console: INFO and above on stderr, each line once."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from otel_stage_exporters._progress import Progress

_root = logging.getLogger()


class Console:
    """Lines on stderr, silent while the root logger has a handler there.

    Args:
        mode: `plain`, `live` or `off`.
        progress: The line of progress that makes way for log lines.
    """

    def __init__(self, mode: str, progress: Progress | None = None) -> None:
        self.on = mode != "off"
        self._progress = progress

    def write(self, line: str, fd: Callable[[], int] | None = None) -> None:
        """Show one line, newline included; a console that is gone is no reason to fail.

        Args:
            line: The line.
            fd: Says where stderr is while descriptor 2 is captured.
        """
        if not self.on or (_root.handlers and _root_has_stderr()):
            return
        try:
            if self._progress is not None:
                self._progress.clear()
            if fd is not None:
                os.write(fd(), line.encode("utf-8", "backslashreplace"))
                return
            # Past a capture of sys.stderr, or the line comes back as something that the stage printed.
            stream = getattr(sys.stderr, "_tee_stream", sys.stderr)
            try:
                stream.write(line)
            except UnicodeEncodeError:
                encoding = getattr(stream, "encoding", None) or "ascii"
                stream.write(line.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def _root_has_stderr() -> bool:
    return any(isinstance(h, logging.StreamHandler) and _is_stderr(h.stream) for h in _root.handlers)


def _is_stderr(stream: Any) -> bool:
    return stream is sys.stderr or stream is sys.__stderr__

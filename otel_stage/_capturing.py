"""The setting `capture`: what a stage prints is recorded in its stage.log, and still printed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from otel_stage._sdk import emit, severity

if TYPE_CHECKING:
    from otel_stage._stage import Stage

_DEBUG = severity(10, "DEBUG")


@contextmanager
def record_prints(stage: Stage) -> Iterator[None]:
    """Record stdout and stderr of this process at DEBUG while the stage is open."""
    run = stage._run
    loggers = {name: run.telemetry.logger(f"stage.{stage.id}/{name}") for name in ("stdout", "stderr")}

    def sink(name: str, line: str) -> None:
        emit(loggers[name], time.time_ns(), stage.context, _DEBUG, line)

    if run.settings.capture == "fd":
        from otel_stage._capture import capture_fd, original_fd

        if run.job is not None:
            # Our own console lines go past the capture, or they would come back. Asked at every line, since
            # captures of overlapping stages end in any order.
            run.job.console_fd = lambda: original_fd(2)
        with capture_fd(sink):
            yield
    else:
        from otel_stage._capture import capture_sys

        with capture_sys(sink):
            yield

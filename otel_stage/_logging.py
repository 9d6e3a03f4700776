"""Python's logging into OTel's `Logger`: every logger but the stage's own, and the warnings module.

While a pipeline is open, `logging.Logger.callHandlers` is wrapped, once per process. A handler on the root
logger would be the usual way, and would change what applications do: `logging.basicConfig()` does nothing
when the root has a handler, `dictConfig` throws handlers away, and the last resort that prints warnings falls
silent. The wrapper changes none of that.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context, get_current

from otel_stage import jobdir
from otel_stage._sdk import Telemetry, severity
from otel_stage._sdk._records import StageLogRecord, StageReadWriteRecord
from otel_stage._stage_logger import formatted, is_otel, text_of
from otel_stage.jobdir import Place
from otel_stage.semconv import PLACE_KEY

_root = logging.getLogger()
_time_ns = time.time_ns
_WARNING = severity(30, "WARNING")


class _Here(threading.local):
    """The record or warning that a hook of ours further out in the chain has heard already."""

    heard: object = None


_here = _Here()


class Listening:
    """Hears every logger and the warnings module while somebody is open.

    Each time it begins it puts a fresh hook around what it finds, and takes it away at the end if it is still
    outermost. Somebody else may have wrapped it meanwhile: then it stays and passes everything on, to what
    *it* was put around, so that no chain can become a circle.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._hooks: tuple[Any, Any, Any, Any] | None = None
        self._root_level: int | None = None
        self.telemetry: Telemetry | None = None
        self.fallback: Callable[[], Context | None] = lambda: None
        self.console = False

    def start(self, telemetry: Telemetry, fallback: Callable[[], Context | None], *, console: bool, level: str) -> None:
        """Begin to listen, or stay with those who do already.

        Args:
            telemetry: Where records go.
            fallback: Gives the context for records from threads that have none.
            console: Whether our console shows INFO and above.
            level: Level of the root logger meanwhile; empty: unchanged.
        """
        with self._lock:
            self._users += 1
            jobdir.fallback_place = lambda: place_of(fallback())
            self.telemetry, self.fallback, self.console = telemetry, fallback, console
            if level and self._root_level is None:
                self._root_level = _root.level
                _root.setLevel(level)
            if self._users == 1:
                call, show = logging.Logger.callHandlers, warnings.showwarning
                self._hooks = (call, _call_hook(call), show, _show_hook(show))
                logging.Logger.callHandlers = self._hooks[1]  # type: ignore[method-assign]  # see the module's docstring
                warnings.showwarning = self._hooks[3]

    def stop(self) -> None:
        """One user less; the last one puts back what was there."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return
            self._users = 0
            jobdir.fallback_place = lambda: None
            if self._root_level is not None:
                _root.setLevel(self._root_level)
                self._root_level = None
            if self._hooks is not None:
                call, our_call, show, our_show = self._hooks
                if logging.Logger.callHandlers is our_call:
                    logging.Logger.callHandlers = call  # type: ignore[method-assign]  # as it was
                if warnings.showwarning is our_show:
                    warnings.showwarning = show

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    @property
    def active(self) -> bool:
        """Whether anybody is open."""
        return self._users > 0


listening = Listening()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=listening.after_fork)


def _call_hook(original: Callable[[logging.Logger, logging.LogRecord], None]) -> Any:
    """`Logger.callHandlers` that tells OTel first."""

    def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
        if _here.heard is record or not listening._users or record.name.startswith("opentelemetry"):
            original(logger, record)
            return
        shown = False
        try:
            shown = _forward(logger, record)
        except Exception as err:
            _complain(err)
        if shown and _last_resort(logger):
            return
        before, _here.heard = _here.heard, record
        try:
            original(logger, record)
        finally:
            _here.heard = before

    return call_handlers


def _show_hook(original: Callable[..., None]) -> Any:
    """`warnings.showwarning` that tells OTel first."""

    def show_warning(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None,
        line: str | None = None,
    ) -> None:
        # With logging.captureWarnings the record comes through logging, once.
        captured = getattr(logging, "_warnings_showwarning", None) is not None
        if _here.heard is message or captured or file is not None or not listening._users:
            original(message, category, filename, lineno, file, line)
            return
        try:
            _record_warning(f"{filename}:{lineno}: {category.__name__}: {message}")
        except Exception as err:
            _complain(err)
        before, _here.heard = _here.heard, message
        try:
            original(message, category, filename, lineno, file, line)
        finally:
            _here.heard = before

    return show_warning


def _record_warning(text: str) -> None:
    context: Context | None = get_current()
    if context is None or PLACE_KEY not in context:
        context = listening.fallback()
    if context is not None and listening.telemetry is not None:
        otel = listening.telemetry.logger("py.warnings")
        record = StageLogRecord(_time_ns(), context, _WARNING, text)
        # The warnings module prints it on the console itself.
        record.quiet = True
        otel.emit(StageReadWriteRecord(record, otel))


def _forward(logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Into OTel; True if our console has shown it."""
    telemetry = listening.telemetry
    if telemetry is None:
        return False
    for handler in _root.handlers:
        if is_otel(handler):
            return False
    context: Context | None = get_current()
    if context is None or PLACE_KEY not in context:
        context = listening.fallback()
        if context is None:
            return False
    args = record.args
    text = text_of(record.msg) if not args else formatted(record.msg, args if isinstance(args, tuple) else (args,))
    if record.exc_info and record.exc_info[0] is not None:
        text = f"{text}\n{''.join(traceback.format_exception(*record.exc_info)).rstrip()}"
    elif record.exc_text:
        text = f"{text}\n{record.exc_text}"
    if record.stack_info:
        text = f"{text}\n{record.stack_info}"
    otel = telemetry.logger(record.name)
    log_record = StageLogRecord(
        int(record.created * 1e9), context, severity(record.levelno, record.levelname), text
    )
    # A library that prints by itself must not be printed twice; who is on the root is the console's to see.
    if logger.handlers or logger.parent is not _root:
        log_record.quiet = _prints(logger)
    otel.emit(StageReadWriteRecord(log_record, otel))
    return listening.console and record.levelno >= 20


def _prints(logger: logging.Logger) -> bool:
    """Whether a handler below the root writes to stderr."""
    current: logging.Logger | None = logger
    while current is not None and current is not _root:
        for handler in current.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stderr, sys.__stderr__):
                return True
        current = current.parent if current.propagate else None
    return False


def _last_resort(logger: logging.Logger) -> bool:
    """Whether no handler is found, so that logging would print to stderr itself."""
    if _root.handlers:
        return False
    current: logging.Logger | None = logger
    while current is not None:
        if current.handlers:
            return False
        if not current.propagate:
            return True
        current = current.parent
    return True


def _complain(err: Exception) -> None:
    try:
        sys.stderr.write(f"otel_stage: a log record could not be recorded: {type(err).__name__}: {err}\n")
    except Exception:  # a process without stderr
        return


def place_of(context: Context | None) -> Place | None:
    """The Place that a context carries."""
    found = None if context is None else context.get(PLACE_KEY)
    return found if isinstance(found, Place) else None

"""The stage's own logger: cheap records, straight into OTel's `Logger`."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Mapping
from types import FrameType
from typing import Any

from opentelemetry.context import Context

from otel_stage._sdk import Telemetry, emit, severity
from otel_stage._sdk._records import StageLogRecord, StageReadWriteRecord

_root = logging.getLogger()
_time_ns = time.time_ns
_LOGGING_FILE = logging.info.__code__.co_filename
_DEBUG, _INFO, _WARNING, _ERROR, _CRITICAL = (severity(n, "") for n in (10, 20, 30, 40, 50))


class StageLogger(logging.Logger):
    """A stage's logger: every level into stage.log, INFO and above also into the pipeline log.

    No `logging.LogRecord` is made unless a handler of the application wants one.
    """

    def __init__(self, name: str, telemetry: Telemetry, context: Context) -> None:
        super().__init__(name, logging.DEBUG)
        self.parent = _root
        self.manager = logging.Logger.manager
        self._otel = telemetry.logger(name)
        self._telemetry = telemetry
        self._context = context

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log at DEBUG."""
        if kwargs or self.handlers or _root.handlers or self.level > 10:
            self._full(10, msg, args, kwargs)
        else:
            self._say(_DEBUG, msg, args)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log at INFO."""
        if kwargs or self.handlers or _root.handlers or self.level > 20:
            self._full(20, msg, args, kwargs)
        else:
            self._say(_INFO, msg, args)

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log at WARNING."""
        if kwargs or self.handlers or _root.handlers or self.level > 30:
            self._full(30, msg, args, kwargs)
        else:
            self._say(_WARNING, msg, args)

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log at ERROR."""
        if kwargs or self.handlers or _root.handlers or self.level > 40:
            self._full(40, msg, args, kwargs)
        else:
            self._say(_ERROR, msg, args)

    def critical(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log at CRITICAL."""
        if kwargs or self.handlers or _root.handlers or self.level > 50:
            self._full(50, msg, args, kwargs)
        else:
            self._say(_CRITICAL, msg, args)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log at any level."""
        self._full(level, msg, args, kwargs)

    def _say(self, level: tuple[Any, str], msg: object, args: tuple[object, ...]) -> None:
        text = formatted(msg, args) if args else msg if type(msg) is str else text_of(msg)
        frame = sys._getframe(2)
        self._otel.emit(
            StageReadWriteRecord(
                StageLogRecord(
                    _time_ns(), self._context, level, text, None, None, (frame.f_code, frame.f_lineno)
                ),
                self._otel,
            )
        )

    def _full(self, level: int, msg: object, args: tuple[object, ...], kwargs: Mapping[str, Any]) -> None:
        if not isinstance(level, int):
            if logging.raiseExceptions:
                raise TypeError("level must be an integer")
            return
        if level < self.level:
            return
        exc_info = _exc_info(kwargs.get("exc_info"))
        text = formatted(msg, args) if args else text_of(msg)
        if exc_info is not None:
            text = f"{text}\n{''.join(traceback.format_exception(*exc_info)).rstrip()}"
        if kwargs.get("stack_info"):
            text = f"{text}\n{''.join(traceback.format_stack(sys._getframe(2))).rstrip()}"
        frame = _caller(sys._getframe(2))
        emit(
            self._otel, _time_ns(), self._context, severity(level, logging.getLevelName(level)), text, None,
            None, (frame.f_code, frame.f_lineno),
        )  # fmt: skip
        if self.handlers or (_root.handlers and level >= _root.level and self.propagate):
            stacklevel = int(kwargs.get("stacklevel", 1)) + 1
            path, line, function, stack = self.findCaller(bool(kwargs.get("stack_info")), stacklevel + 1)
            record = self.makeRecord(
                self.name, level, path, line, msg, args, exc_info, function, kwargs.get("extra"), stack
            )
            for handler in [*self.handlers, *(_root.handlers if self.propagate else ())]:
                if level >= handler.level and not is_otel(handler):
                    handler.handle(record)


    def getChild(self, suffix: str) -> StageLogger:  # noqa: N802 - logging's name
        """A logger of the same stage: `[stage.asr.decoder]`."""
        return StageLogger(f"{self.name}.{suffix}", self._telemetry, self._context)


def _caller(frame: FrameType) -> FrameType:
    """The first frame outside the logging module: adapters and `exception()` go through it."""
    while frame.f_code.co_filename == _LOGGING_FILE and frame.f_back is not None:
        frame = frame.f_back
    return frame


def formatted(msg: object, args: Any) -> str:
    """`msg % args` as logging does it; a message that cannot be formatted is kept, with the reason."""
    if len(args) == 1 and isinstance(args[0], Mapping) and args[0]:
        args = args[0]
    text = text_of(msg)
    try:
        return str(text % args)
    except Exception as err:
        try:
            shown = repr(args)
        except Exception:
            shown = "(arguments that cannot be shown)"
        return f"{text} {shown} [not formatted: {type(err).__name__}: {err}]"


def text_of(msg: object) -> str:
    """`str(msg)`, whatever its class does."""
    try:
        return str(msg)
    except Exception as err:
        return f"(message of type {type(msg).__name__} that cannot be shown: {type(err).__name__})"


def _exc_info(value: Any) -> Any:
    if not value:
        return None
    if isinstance(value, BaseException):
        return (type(value), value, value.__traceback__)
    if isinstance(value, tuple):
        return value if value[0] is not None else None
    found = sys.exc_info()
    return found if found[0] is not None else None


def is_otel(handler: logging.Handler) -> bool:
    """A handler that hands records to OTel, which would come back to us a second time."""
    return type(handler).__name__ == "LoggingHandler" and type(handler).__module__.startswith("opentelemetry")

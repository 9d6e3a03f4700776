"""Stages in other threads and processes: handles that pickle, and `wrap`."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, cast

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import NonRecordingSpan, get_current_span

from otel_stage._block import detach_quietly
from otel_stage._context import carrier, context_from
from otel_stage._lifecycle import enter_context, settle
from otel_stage._logging import listening, place_of
from otel_stage._run import Run, run_from_handle, sole_context
from otel_stage._stage import Stage
from otel_stage.jobdir import Claim

P = ParamSpec("P")
R = TypeVar("R")

_known: dict[tuple[str, str, str, int, int], Stage] = {}
_MOST_KNOWN = 256


def stage_handle(stage: Stage) -> dict[str, Any]:
    """What another process needs to speak for an open stage."""
    place = stage._place
    return {
        "run": stage._run.handle(),
        "carrier": carrier(stage.context),
        "name": stage.name,
        "key": stage.key,
        "ident": stage.id,
        "number": stage.number,
        "folder": place.folder if place is not None else "",
        "attempt": stage._attempt,
    }


def stage_from_handle(handle: Mapping[str, Any]) -> Stage:
    """An open stage of another process: everything can be said about it here, only its owner ends it."""
    run = run_from_handle(handle["run"])
    identity = (run.path, run.run_id, handle["ident"], handle["attempt"], os.getpid())
    known = _known.get(identity)
    if known is not None:
        return known
    stage = Stage(run, context_from(handle["carrier"]), handle["name"], handle["key"], handle["number"])
    if run.job is not None:
        settle(
            stage, Claim(handle["ident"], handle["key"], handle["number"], handle["folder"], handle["attempt"], 0)
        )
        stage._span = NonRecordingSpan(get_current_span(stage._parent).get_span_context())
        enter_context(stage)
    if len(_known) >= _MOST_KNOWN:
        _known.pop(next(iter(_known)))
    _known[identity] = stage
    return stage


class Wrapped(Generic[P, R]):
    """A function that runs in the stage or pipeline in which it was wrapped, in any thread or process."""

    def __init__(self, fn: Callable[P, R], context: Context, stage: Stage | None = None) -> None:
        functools.update_wrapper(self, fn)
        self._fn = fn
        self._context = context
        self._stage = stage

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in its context."""
        if inspect.iscoroutinefunction(self._fn):
            return cast("R", self._later(*args, **kwargs))
        token = attach(self._context)
        remote = self._stage
        if remote is not None and remote._run.job is not None:
            run = remote._run
            level = run.settings.library_level
            listening.start(run.telemetry, sole_context, console=run.prints, level=level)
        try:
            return self._fn(*args, **kwargs)
        finally:
            if remote is not None and remote._run.job is not None:
                # What this process tracked, this process looks at again: the owner never saw it.
                try:
                    remote._artifacts.settle()
                except Exception as err:
                    remote._trouble("an artifact", err)
                listening.stop()
            detach_quietly(token)

    async def _later(self, *args: Any, **kwargs: Any) -> Any:
        token = attach(self._context)
        try:
            return await cast("Any", self._fn)(*args, **kwargs)
        finally:
            detach_quietly(token)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        place = place_of(self._context)
        if place is None or place.run is None:
            return _plain, (self._fn,)
        if isinstance(place.stage, Stage):
            return _wrapped_elsewhere, (self._fn, stage_handle(place.stage), True)
        run: Run = place.run
        return _wrapped_elsewhere, (self._fn, run.handle(), False)


def _plain(fn: Callable[P, R]) -> Callable[P, R]:
    return fn


def _wrapped_elsewhere(fn: Callable[P, R], handle: Mapping[str, Any], of_stage: bool) -> Wrapped[P, R]:
    if not of_stage:
        return Wrapped(fn, run_from_handle(handle).context)
    stage = stage_from_handle(handle)
    return Wrapped(fn, stage.context, stage)


def wrap(fn: Callable[P, R]) -> Callable[P, R]:
    """Carry the open stage (or pipeline) into a thread or a process of a pool.

    Context variables do not cross threads by themselves. In another process log records, artifacts, config
    and warnings go to the same stage, whose owner ends it.

    Args:
        fn: What the pool is to call.

    Example:
        >>> with stage("resize"), ThreadPoolExecutor() as pool:  # doctest: +SKIP
        ...     list(pool.map(wrap(resize), images))
    """
    context = get_current()
    if place_of(context) is None:
        context = sole_context() or context
    return Wrapped(fn, context)

"""Carrying a run into another process: W3C trace context in environment variables.

The OpenTelemetry API keeps its own environment carrier private; this is a dozen lines of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context

from otel_stage.semconv import ENV_BAGGAGE, ENV_JOB_DIR, ENV_RUN_ID, ENV_TRACEPARENT, ENV_TRACESTATE

_VARIABLES = {"traceparent": ENV_TRACEPARENT, "tracestate": ENV_TRACESTATE, "baggage": ENV_BAGGAGE}
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def carrier(context: Context) -> dict[str, str]:
    """The environment variables that carry `context`."""
    propagate, baggage = _propagators()
    headers: dict[str, str] = {}
    propagate.inject(headers, context)
    baggage.inject(headers, context)
    return {_VARIABLES[name.lower()]: value for name, value in headers.items() if name.lower() in _VARIABLES}


def child_environment(
    context: Context, job_dir: str, run_id: str, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """A copy of the environment in which a child process joins this run.

    Args:
        context: Whose span is the child's parent.
        job_dir: The job directory.
        run_id: The run.
        base: Environment to start from; default: this process's.
    """
    env = dict(os.environ if base is None else base)
    # Stale ones first: a TRACESTATE or BAGGAGE of another trace must not stay beside our TRACEPARENT.
    for name in (*_VARIABLES.values(), ENV_JOB_DIR, ENV_RUN_ID):
        env.pop(name, None)
    env.update(carrier(context))
    if job_dir:
        env[ENV_JOB_DIR] = job_dir
    if run_id:
        env[ENV_RUN_ID] = run_id
    return env


def context_from(environ: Mapping[str, str]) -> Context:
    """The context that an environment carries; an empty one where it carries none."""
    parent = environ.get(ENV_TRACEPARENT, "").strip().lower()
    if not _TRACEPARENT.fullmatch(parent):
        return Context()
    headers = {name: environ[variable] for name, variable in _VARIABLES.items() if environ.get(variable)}
    headers["traceparent"] = parent
    propagate, baggage = _propagators()
    context: Context = baggage.extract(headers, propagate.extract(headers, Context()))
    return context


def _propagators() -> tuple[Any, Any]:
    # Milliseconds to import, and many runs never start a child.
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator(), W3CBaggagePropagator()


class ExportedEnvironment:
    """A run put into `os.environ` on request, and taken out again.

    Args:
        wanted: The environment of a child process of the run.
    """

    def __init__(self, wanted: Mapping[str, str]) -> None:
        names = (*_VARIABLES.values(), ENV_JOB_DIR, ENV_RUN_ID)
        self._before = {name: os.environ.get(name) for name in names}
        self._put({name: wanted.get(name) for name in names})

    def restore(self) -> None:
        """What was there before is there again."""
        self._put(self._before)

    @staticmethod
    def _put(values: Mapping[str, str | None]) -> None:
        for name, value in values.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

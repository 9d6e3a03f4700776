"""Exporters that the OpenTelemetry environment asks for, and leaving in bounded time."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_stage._sdk._guard import CountingExporter, Counts, GuardedLogProcessor, GuardedSpanProcessor
from otel_stage.errors import ExporterError
from otel_stage.redact import redactor

_log = logging.getLogger("otel_stage")
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_OURS = "stage_files"


def endpoint(signal: str) -> str | None:
    """The OTLP endpoint that the environment gives for `traces` or `logs`."""
    return os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or os.environ.get(_ENDPOINT) or None


def network_exporters(signal: str) -> list[tuple[str, Any]]:
    """Exporters for `traces` or `logs`, by name, as `OTEL_<SIGNAL>_EXPORTER` and the endpoint ask.

    Raises:
        ExporterError: One is not installed or cannot be built.
    """
    asked = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER")
    if asked is None:
        if endpoint(signal) is None:
            return []
        try:
            return [("otlp", _build("otlp", signal))]
        except ExporterError as err:
            # Nobody named an exporter, only an endpoint; offline parts must work without the extra.
            _log.warning("%s; the files are written all the same", err)
            return []
    names = [name.strip() for name in asked.split(",")]
    return [(name, _build(name, signal)) for name in names if name and name not in ("none", _OURS)]


def _build(name: str, signal: str) -> Any:
    candidates = [name]
    if name == "otlp":
        protocol = (
            os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
            or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        ).strip()
        kind = {"http/protobuf": "http", "grpc": "grpc"}.get(protocol)
        if kind is None:
            raise ExporterError(
                f"OTLP protocol {protocol!r} is not known here: OTEL_EXPORTER_OTLP_PROTOCOL takes http/protobuf or grpc"
            )
        candidates = [f"otlp_proto_{kind}"]
    from opentelemetry.util._importlib_metadata import entry_points

    group = f"opentelemetry_{signal}_exporter"
    found = {ep.name: ep for ep in entry_points(group=group)}
    for candidate in candidates:
        if candidate in found:
            try:
                return found[candidate].load()()
            except Exception as err:
                raise ExporterError(f"exporter {name!r} for {signal} cannot be made: {err}") from err
    mend = (
        "pip install 'otel-stage[otlp]'" if name.startswith("otlp")
        else f"OTEL_{signal.upper()}_EXPORTER takes " + (", ".join(sorted(found)) or "none")
    )  # fmt: skip
    raise ExporterError(f"exporter {name!r} for {signal} is not installed: {mend}")


class Network:
    """What leaves by the network from providers of ours; an application's own providers have their own way.

    Attributes:
        endpoint: Where to, as OTLP says it; None for other exporters.
        worker: Flushes in bounded time; None when nothing leaves.

    Raises:
        ExporterError: An exporter is not installed or cannot be built.
    """

    def __init__(self, *, own_tracers: bool, own_loggers: bool) -> None:
        self._spans = network_exporters("traces") if own_tracers else []
        self._logs = network_exporters("logs") if own_loggers else []
        where = (endpoint("traces") or endpoint("logs")) if self._spans or self._logs else None
        self.endpoint = redactor().text(where) if where else None
        self.worker = Worker() if self._spans or self._logs else None

    def attach(self, tracers: Any, loggers: Any, counts: Counts) -> None:
        """Add a batch processor per exporter, behind the file exporter."""
        for name, exporter in self._spans:
            counted: Any = CountingExporter(exporter, counts, "spans_exported")
            tracers.add_span_processor(GuardedSpanProcessor(BatchSpanProcessor(counted), name, counts))
        for name, exporter in self._logs:
            counted = CountingExporter(exporter, counts, "logs_exported")
            loggers.add_log_record_processor(GuardedLogProcessor(BatchLogRecordProcessor(counted), name, counts))


class Worker:
    """A parked thread that flushes and shuts down, so that leaving never waits longer than allowed.

    It starts early: from Python 3.12 on, no thread can be started while the interpreter ends.
    """

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._jobs: list[tuple[Callable[[], object], threading.Event]] = []
        self._thread = threading.Thread(target=self._run, name="otel-stage-flush", daemon=True)
        self._thread.start()
        self._last = threading.Event()
        self._last.set()
        self._pid = os.getpid()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            while self._jobs:
                work, done = self._jobs.pop(0)
                try:
                    work()
                except Exception as err:
                    _log.debug("flush failed: %s", err)
                done.set()

    def within(self, seconds: float, work: Callable[[], object]) -> bool:
        """Do `work` in the thread and wait for it, at most `seconds`; False if it was not done by then."""
        if os.getpid() != self._pid or not self._last.is_set():
            # A forked child has no such thread; and who waited in vain once does not wait again at exit.
            return False
        done = self._last = threading.Event()
        self._jobs.append((work, done))
        self._wanted.set()
        return done.wait(seconds)

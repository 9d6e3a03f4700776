"""Settings into providers: the one room here that imports the OpenTelemetry SDK.

Started once per process. An application's own provider is never replaced: our processors are added to it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import get_logger_provider, set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, LogRecordProcessor
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider, sampling

from otel_stage._sdk._entry import exporter_factory
from otel_stage._sdk._guard import Counts, GuardedLogProcessor, GuardedSpanProcessor
from otel_stage._sdk._records import emit, severity
from otel_stage._settings import Settings
from otel_stage._version import __version__
from otel_stage.errors import ExporterError
from otel_stage.manifest import jsonable
from otel_stage.semconv import SCOPE_NAME

__all__ = ["Telemetry", "emit", "severity", "telemetry"]

_log = logging.getLogger("otel_stage")
_NETWORK_VARIABLES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
    "OTEL_LOGS_EXPORTER",
)
_lock = threading.Lock()
_started: Telemetry | None = None


class Telemetry:
    """The process's tracer, loggers and exporters.

    Attributes:
        enabled: False when `OTEL_SDK_DISABLED` is set: then nothing of ours touches a file.
        counts: What left by the network.
        endpoint: Where to, or None.
        own_tracers: Whether the tracer provider, and so its limits, are ours.
        others: Whether anybody but the file exporter gets log records.
    """

    def __init__(self, settings: Settings, service: str) -> None:
        self.enabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        self.counts = Counts()
        self.endpoint: str | None = None
        self._loggers: dict[str, Any] = {}
        self._worker: Any = None
        self._flushed: list[Any] = []
        self._names: set[str] = set()
        self.others = False
        self.own_tracers = True
        if not self.enabled:
            self.tracer: trace.Tracer = trace.NoOpTracer()
            return
        found_tracers, found_loggers = trace.get_tracer_provider(), get_logger_provider()
        own_tracers = self.own_tracers = not isinstance(found_tracers, TracerProvider)
        own_loggers = not isinstance(found_loggers, LoggerProvider)
        resource = None
        if own_tracers or own_loggers:
            resource = found_tracers.resource if isinstance(found_tracers, TracerProvider) else _resource(service)
        # Whatever can fail fails here, before a global is set.
        live = [(name, _load(name, settings)) for name in settings.exporters]
        network = _leaving(own_tracers=own_tracers, own_loggers=own_loggers)
        tracers = found_tracers if isinstance(found_tracers, TracerProvider) else _tracer_provider(resource)
        loggers = found_loggers if isinstance(found_loggers, LoggerProvider) else _logger_provider(resource)
        for name, (span_processor, log_processor) in live:
            self._names.add(name)
            if span_processor is not None:
                _add_span_processor(tracers, GuardedSpanProcessor(span_processor, name))
            if log_processor is not None:
                # Ours guards itself; the wrapper would cost a call per record.
                guarded = log_processor if name == "stage_files" else GuardedLogProcessor(log_processor, name)
                _add_log_processor(loggers, guarded)
        if network is not None:
            network.attach(tracers, loggers, self.counts)
            self.endpoint = network.endpoint
            self._worker = network.worker
        # Attributes that only others read are made only where there are others.
        self.others = not own_loggers or self._worker is not None or set(settings.exporters) != {"stage_files"}
        if own_tracers:
            trace.set_tracer_provider(tracers)
            self._flushed.append(tracers)
        if own_loggers:
            set_logger_provider(loggers)
            self._flushed.append(loggers)
        self.tracer = tracers.get_tracer(SCOPE_NAME, __version__)
        self._logger_provider = loggers
        self._shutdown_seconds = settings.otlp_shutdown_seconds
        atexit.register(self._at_exit)

    def logger(self, name: str) -> Any:
        """The OTel logger whose scope is `name`, kept."""
        try:
            return self._loggers[name]
        except KeyError:
            scope = name if name.isascii() else jsonable(name)
            logger = self._loggers[name] = self._logger_provider.get_logger(scope, __version__)
            return logger

    def forget_logger(self, name: str) -> None:
        """Drop the kept logger of an ended stage."""
        self._loggers.pop(name, None)

    @property
    def exports(self) -> bool:
        """Whether anything leaves by the network through providers of ours."""
        return self._worker is not None

    def flush(self, seconds: float) -> bool:
        """Send what waits for the network, waiting at most `seconds`; False if not all was sent by then."""
        if self._worker is None:
            return True
        return bool(self._worker.within(seconds, self._flush_all))

    def _flush_all(self) -> None:
        for provider in self._flushed:
            provider.force_flush()

    def _at_exit(self) -> None:
        if self._worker is not None:
            self._worker.within(self._shutdown_seconds, self._shut_down)

    def _shut_down(self) -> None:
        for provider in self._flushed:
            provider.shutdown()


def _leaving(*, own_tracers: bool, own_loggers: bool) -> Any:
    """What leaves by the network, if the environment asks for any of it."""
    if not any(os.environ.get(name) for name in _NETWORK_VARIABLES):
        return None
    # Milliseconds to import, and an offline run has no use for it.
    from otel_stage._sdk._network import Network

    return Network(own_tracers=own_tracers, own_loggers=own_loggers)


def telemetry(settings: Settings, service: str = "") -> Telemetry:
    """The process's telemetry, started on first use.

    Args:
        settings: Of the pipeline that is being opened; a later one cannot add exporters.
        service: `service.name` where the environment gives none.

    Raises:
        ExporterError: An exporter is unknown or cannot be built.
    """
    global _started
    started = _started
    if started is None:
        with _lock:
            if _started is None:
                _started = Telemetry(settings, service)
            started = _started
    elif started.enabled and not started._names.issuperset(settings.exporters):
        unknown = [name for name in settings.exporters if name not in started._names]
        for name in unknown:
            _load(name, settings)
        raise ExporterError(
            f"exporter {unknown[0]!r} cannot be added: telemetry of this process was started with "
            f"{', '.join(sorted(started._names)) or 'none'}; name all exporters before the first pipeline"
        )
    return started


def _resource(service: str) -> Resource:
    resource = Resource.create()
    given = str(resource.attributes.get(SERVICE_NAME, ""))
    if service and given.startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: service}))
    return resource


def _tracer_provider(resource: Resource | None) -> TracerProvider:
    sampler = sampling._get_from_env_or_default()
    return TracerProvider(
        resource=resource,
        # Recorded though not sampled: a TRACEPARENT that says "not sampled" must not empty the files.
        sampler=sampling.AlwaysRecordSampler(sampler),
        shutdown_on_exit=False,
        span_limits=SpanLimits(
            max_attributes=None,
            max_span_attributes=2048,
            max_attribute_length=SpanLimits.UNSET,
            max_span_attribute_length=SpanLimits.UNSET,
        ),
    )


def _logger_provider(resource: Resource | None) -> LoggerProvider:
    unlimited = LogRecordLimits.UNSET
    limits = LogRecordLimits(
        max_attributes=unlimited,
        max_attribute_length=unlimited,
        max_log_record_attributes=unlimited,
        max_log_record_attribute_length=unlimited,
    )
    return LoggerProvider(resource=resource, shutdown_on_exit=False, log_record_limits=limits)


def _load(name: str, settings: Settings) -> tuple[SpanProcessor | None, LogRecordProcessor | None]:
    factory = exporter_factory(name)
    try:
        pair: tuple[SpanProcessor | None, LogRecordProcessor | None] = factory(settings)
    except Exception as err:
        raise ExporterError(f"exporter {name!r} cannot be made: {type(err).__name__}: {err}") from err
    return pair


def _add_span_processor(provider: TracerProvider, processor: SpanProcessor) -> None:
    _add_first(provider, "_active_span_processor", "_span_processors", processor, provider.add_span_processor)


def _add_log_processor(provider: LoggerProvider, processor: LogRecordProcessor) -> None:
    _add_first(
        provider, "_multi_log_record_processor", "_log_record_processors", processor,
        provider.add_log_record_processor,
    )  # fmt: skip


def _add_first(provider: Any, multi: str, field: str, processor: Any, add: Any) -> None:
    """Before an application's own processors, so that they get what is masked and complete."""
    add(processor)
    holder = getattr(provider, multi, None)
    chain = getattr(holder, field, None)
    if isinstance(chain, tuple) and len(chain) > 1 and chain[-1] is processor:
        ours = sum(1 for p in chain[:-1] if getattr(p, "_otel_stage", False))
        setattr(holder, field, (*chain[:ours], processor, *chain[ours:-1]))
    processor._otel_stage = True

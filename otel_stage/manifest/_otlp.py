"""Events read back from OTLP JSON, as the Collector's file exporter writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from otel_stage.manifest._events import decode
from otel_stage.semconv import EVENT_START, STAGE_ID, STAGE_RUN_ID

_PREFIXES = ("stage.", "job.")


def events_from_otlp(document: bytes | str | Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Our events among the log records of one OTLP JSON document (or line).

    Args:
        document: JSON with `resourceLogs`: camelCase names, hex ids, 64-bit integers as strings.

    Yields:
        (run id, stage id or "", event): group by the first two, then `fold` each group.
    """
    root = decode(document) if isinstance(document, bytes | str) else document
    for resource_logs in root.get("resourceLogs", ()):
        for scope_logs in resource_logs.get("scopeLogs", ()):
            for record in scope_logs.get("logRecords", ()):
                event = _event(record)
                if event is not None:
                    attributes = {a["key"]: a.get("value", {}) for a in record.get("attributes", ())}
                    run = attributes.get(STAGE_RUN_ID, {}).get("stringValue", "")
                    stage = attributes.get(STAGE_ID, {}).get("stringValue", "")
                    if event["event"] == EVENT_START and not stage:
                        stage = event["id"]
                    yield run, stage, event


def _event(record: Mapping[str, Any]) -> dict[str, Any] | None:
    name = record.get("eventName", "")
    if not name.startswith(_PREFIXES):
        return None
    try:
        event = decode(record.get("body", {}).get("stringValue", ""))
    except msgspec.DecodeError:
        return None
    return event if isinstance(event, dict) and event.get("event") == name else None

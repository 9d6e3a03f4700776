"""The published JSON Schema (2020-12), generated from the model."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from otel_stage.semconv import SCHEMA_VERSION

KINDS = ("stage", "job", "journal")
_TITLES = {
    "stage": "otel-stage stage manifest",
    "job": "otel-stage job manifest",
    "journal": "otel-stage journal: one event, a line each",
}


def json_schema(kind: Literal["stage", "job", "journal"]) -> dict[str, Any]:
    """JSON Schema of a stage manifest, a job manifest or one journal line.

    Example:
        >>> json_schema("stage")["$schema"]
        'https://json-schema.org/draft/2020-12/schema'
    """
    from otel_stage.manifest._event_model import Event
    from otel_stage.manifest._model import JobManifest, StageManifest

    model: Any = {"stage": StageManifest, "job": JobManifest, "journal": Event}[kind]
    (body,), components = msgspec.json.schema_components([model], ref_template="#/$defs/{name}")
    if "$ref" in body:
        body = components.pop(body["$ref"].rpartition("/")[2])
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:otel-stage:schema:{kind}:{SCHEMA_VERSION}",
        **body,
        "title": _TITLES[kind],
    }
    return {**head, "$defs": dict(sorted(components.items()))} if components else head

"""The published schema as tables of fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from docstrings import cell


def manifest() -> Iterator[str]:
    """Tables of fields, from the schema."""
    from otel_stage.manifest import json_schema

    yield "# Manifests and journals\n"
    yield (
        "Field by field. Readers keep fields that they do not know. The schema itself: `otel-stage schema stage`,\n"
        "`job`, `journal`, or [schema/](schema/).\n"
    )
    titles = {
        "stage": "Stage manifest: `NN_id/manifest.json`",
        "job": "Job manifest: `manifest.json`",
        "journal": "Journal: one event per line",
    }
    seen: set[str] = set()
    kinds: list[Literal["stage", "job", "journal"]] = ["stage", "job", "journal"]
    for kind in kinds:
        schema = json_schema(kind)
        definitions = schema.get("$defs", {})
        yield f"## {titles[kind]}\n"
        if "properties" in schema:
            yield from fields(schema)
        for name, body in definitions.items():
            if name in seen or "properties" not in body:
                continue
            seen.add(name)
            event = body["properties"].get("event", {}).get("enum")
            yield f"### {f'`{event[0]}`' if event else name}\n"
            yield f"{' '.join(body.get('description', '').split())}\n"
            yield from fields(body)


def fields(body: dict[str, Any]) -> Iterator[str]:
    """The table of one object's fields."""
    required = set(body.get("required", ()))
    yield "| field | type | required | meaning |"
    yield "|---|---|---|---|"
    for name, spec in body["properties"].items():
        must = "yes" if name in required else ""
        yield f"| `{name}` | {cell(kind_of(spec))} | {must} | {cell(_described(spec))} |"
    yield ""


def kind_of(spec: dict[str, Any]) -> str:
    """A schema's type in a few words, with a link where it has a table of its own."""
    if "$ref" in spec:
        name = spec["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in spec:
        return " or ".join(kind_of(one) for one in spec["anyOf"])
    if "enum" in spec:
        return ", ".join(f"`{value}`" for value in spec["enum"])
    if spec.get("type") == "array":
        return f"list of {kind_of(spec.get('items', {}))}"
    if spec.get("type") == "object":
        values = spec.get("additionalProperties")
        return f"object of {kind_of(values)}" if isinstance(values, dict) and values else "object"
    return str(spec.get("type", "anything"))


def _described(spec: dict[str, Any]) -> str:
    found = spec.get("description") or next((d for one in spec.get("anyOf", ()) if (d := one.get("description"))), "")
    return str(found)

"""Text on spans is masked before anybody writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Status

from otel_stage.redact import Redactor, is_secret_key, redactor
from otel_stage.semconv import SCOPE_NAME
from otel_stage_exporters._otel import ReadableSpan, SpanProcessor

_SCALARS = (int, float, bool)
# What the front door puts on spans of its own is masked where it is made.
_OURS = ("stage.", "cicd.", "process.", "error.", "exception.")


class MaskingSpanProcessor(SpanProcessor):
    """Masks name, status, attributes and events of every span that ends.

    An ended span offers no way to change it, and processors all get the same object: what is put in place of
    its fields is what the processors behind see. It stands first in the chain.
    """

    def on_end(self, span: ReadableSpan) -> None:
        """Mask one span; a span that cannot be masked must not take the pipeline down."""
        try:
            _mask(span, redactor())
        except Exception:
            return


def _mask(span: ReadableSpan, mask: Redactor) -> None:
    scope = span.instrumentation_scope
    ours = scope is not None and scope.name == SCOPE_NAME
    name = mask.text(span.name)
    if name is not span.name:
        span._name = name
    masked = _masked(span.attributes, mask, _OURS if ours else ())
    if masked is not None:
        span._attributes = masked
    description = span.status.description
    if description and not ours:
        text = mask.text(description)
        if text is not description:
            span._status = Status(span.status.status_code, text)
    parts: list[Any] = [*span.events, *span.links]
    for part in parts:
        masked = _masked(part.attributes, mask)
        if masked is not None:
            part._attributes = masked


def _masked(
    attributes: Mapping[str, Any] | None, mask: Redactor, clean_already: tuple[str, ...] = ()
) -> dict[str, Any] | None:
    """The attributes without secrets; None where there are none."""
    if not attributes:
        return None
    changed: dict[str, Any] = {}
    for key, value in attributes.items():
        if key.startswith(clean_already) if clean_already else (type(value) in _SCALARS and not is_secret_key(key)):
            continue
        clean = mask.value(key, value)
        if clean is not value and clean != value:
            changed[key] = clean
    return {**attributes, **changed} if changed else None

"""Exporters come in by entry points, ours through the same door as everybody's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from otel_stage.errors import ExporterError

GROUP = "otel_stage_exporter"
_DISTRIBUTION = "otel_stage-"


def exporter_factory(name: str) -> Callable[[Any], Any]:
    """What the entry point `name` of the group `otel_stage_exporter` names.

    Raises:
        ExporterError: There is no such entry point, or it cannot be loaded.
    """
    target = _of_our_distribution(name)
    if target is None:
        # 20 ms: it reads the metadata of everything that is installed.
        from opentelemetry.util._importlib_metadata import entry_points

        found = {ep.name: ep.value for ep in entry_points(group=GROUP)}
        if name not in found:
            installed = ", ".join(sorted(found)) or "none"
            raise ExporterError(f"exporter {name!r} is not installed: setting exporters takes {installed}")
        target = found[name]
    module, _, attribute = target.partition(":")
    try:
        import importlib

        loaded: Any = importlib.import_module(module.strip())
        for part in attribute.strip().split("."):
            loaded = getattr(loaded, part)
    except (ImportError, AttributeError) as err:
        raise ExporterError(f"exporter {name!r} cannot be loaded from {target!r}: {err}") from err
    factory: Callable[[Any], Any] = loaded
    return factory


def _of_our_distribution(name: str) -> str | None:
    """The entry point in our own distribution's metadata, read without reading everybody's."""
    for folder in sys.path:
        try:
            names = [n for n in os.listdir(folder or ".") if n.startswith(_DISTRIBUTION) and n.endswith(".dist-info")]
            for info in names:
                with open(os.path.join(folder or ".", info, "entry_points.txt"), encoding="utf-8") as f:
                    target = _lookup(f.read(), name)
                if target is not None:
                    return target
        except (OSError, UnicodeDecodeError):
            continue
    return None


def _lookup(text: str, name: str) -> str | None:
    inside = False
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            inside = line == f"[{GROUP}]"
        elif inside:
            key, _, value = line.partition("=")
            if key.strip() == name:
                return value.strip()
    return None

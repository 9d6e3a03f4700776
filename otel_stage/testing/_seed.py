"""Job directories of the older kind, as its own `StageIO` left them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from otel_stage.manifest import event_time
from otel_stage.testing._fakes import StepClock
from otel_stage.testing._lines import line
from otel_stage.testing._specs import FileSpec, StageSpec, as_file


def write_seed_job(
    path: str | os.PathLike[str], *, stages: Sequence[StageSpec | str], clock: StepClock | None = None
) -> Path:
    """Write a job directory of the older kind: no `schema_version`, no checksums, no `.otel-stage`.

    Args:
        path: Where.
        stages: What its stages did.
        clock: Gives the times.

    Returns:
        The directory.
    """
    folder = Path(os.path.abspath(path))
    (folder / "logs").mkdir(parents=True)
    tick = clock or StepClock()
    for number, given in enumerate(stages, 1):
        spec = StageSpec(given) if isinstance(given, str) else given
        number = spec.number or number
        place = folder / f"{number:02d}_{spec.name}"
        place.mkdir()
        ns = tick()
        lines = [line(ns, f"stage.{spec.name}", level, text) for level, text in spec.log]
        (place / "stage.log").write_text("".join(lines), encoding="utf-8")
        manifest: dict[str, Any] = {
            "stage": spec.name,
            "stage_number": number,
            "timestamp": f"{event_time(ns)[:19]}Z",
            "duration_seconds": spec.seconds,
            "status": spec.status,
            "inputs": [_record(file, "") for file in spec.inputs],
            "outputs": [_record(file, f"{place.name}/") for file in spec.outputs],
            "intermediate_files": [_record(file, f"{place.name}/") for file in spec.intermediates],
            "config": dict(spec.config),
            "resources": {"cpu_percent": 45.2, "memory_mb": 4096, "gpu_used": True},
            "errors": [*spec.errors, *([spec.why] if spec.status == "failed" else [])],
            "warnings": list(spec.warnings),
        }
        (place / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        tick.advance(spec.seconds)
    (folder / "manifest.json").write_text(json.dumps({"job_id": folder.name, "status": "completed"}), encoding="utf-8")
    return folder


def _record(given: FileSpec | str, prefix: str) -> dict[str, Any]:
    file = as_file(given)
    path = file.path if os.path.isabs(file.path) else prefix + file.path
    return {"type": file.type, "path": path, "size_bytes": file.facts(path).get("size_bytes", 0), **file.metadata}

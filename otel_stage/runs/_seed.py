"""Job directories of the older kind: stage folders with manifests, and nothing that says what the job did."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from otel_stage.errors import ManifestError
from otel_stage.manifest import STAGE_MANIFEST, read_stage
from otel_stage.semconv import CANCELLED, CRASHED, FAILED, RUNNING, SUCCESS

_FOLDER = re.compile(r"\d{2,}_.+")
_WORST_FIRST = (RUNNING, CRASHED, FAILED, CANCELLED)


def is_seed_job(folder: str, below: Iterable[str]) -> bool:
    """Whether one of the sub-folders `below` is a stage folder with a manifest."""
    for name in below:
        if _FOLDER.fullmatch(name):
            try:
                with open(f"{folder}/{name}/{STAGE_MANIFEST}", "rb") as f:
                    raw = msgspec.json.decode(f.read())
            except (OSError, msgspec.DecodeError, UnicodeDecodeError):
                continue
            if isinstance(raw, dict) and "stage" in raw and "status" in raw:
                return True
    return False


def seed_manifest(path: str, run_id: str = "") -> dict[str, Any]:
    """A job manifest made from the stage folders in `path`; stages whose manifests are malformed are left out.

    Raises:
        ManifestError: There is no stage manifest that can be read.
    """
    stages: dict[str, dict[str, Any]] = {}
    began: list[str] = []
    problem: ManifestError | None = None
    try:
        names = sorted(name for name in os.listdir(path) if _FOLDER.fullmatch(name))
    except OSError:
        names = []
    for name in names:
        try:
            stage = read_stage(f"{path}/{name}/{STAGE_MANIFEST}")
        except OSError:
            continue
        except ManifestError as err:
            problem = err
            continue
        ident = stage["stage"] if stage.get("key") is None else f"{stage['stage']}.{stage['key']}"
        if stage["timestamp"]:
            began.append(stage["timestamp"])
        stages[ident if ident not in stages else name] = {
            "status": stage["status"],
            "stage_number": stage["stage_number"],
            "attempt": stage["attempt"],
            "duration_seconds": stage.get("duration_seconds"),
            "manifest": f"{name}/{STAGE_MANIFEST}",
            "log": f"{name}/stage.log",
        }
    if not stages:
        raise problem or ManifestError(
            f"{path}: no job manifest, no journal and no stage manifests: this is no job directory"
        )
    seen = {entry["status"] for entry in stages.values()}
    parts = os.path.abspath(path).replace(os.sep, "/").split("/")
    start = min(began, default="")
    return {
        "schema_version": "0.0",
        "version": "",
        "timestamp": start,
        "job_id": "/".join(parts[-2:]),
        "run_id": run_id,
        "name": parts[-2] if parts[-1].isdecimal() and len(parts) > 2 else parts[-1],
        "pipeline": {"status": next((status for status in _WORST_FIRST if status in seen), SUCCESS)},
        "stages": stages,
        "timing": {"started_at": start, "completed_at": None, "total_seconds": None},
        "config": {},
        "environment": {},
        "telemetry": {},
    }

"""Evidence is never overwritten: what a later run or attempt replaces is kept under `.otel-stage/runs/`."""

from __future__ import annotations

import os

from otel_stage.errors import ManifestError
from otel_stage.manifest import parse_stage

_UNKNOWN_RUN = "before"


def keep_run(state: str, run_id: str, journal: str, manifest: str) -> None:
    """Keep a run's journal and job manifest; both stay in place until the new run replaces them."""
    folder = f"{state}/runs/{run_id}"
    os.makedirs(folder, exist_ok=True)
    _link(journal, f"{folder}/journal.jsonl")
    _link(manifest, f"{folder}/manifest.json")


def keep_stage(state: str, stage_dir: str, folder: str) -> None:
    """Move a stage's manifest, log, journal and samples out of the way of a new run or attempt."""
    manifest = f"{stage_dir}/manifest.json"
    journal = f"{state}/stages/{folder}.jsonl"
    moves = [
        (manifest, "manifest.json"),
        (f"{stage_dir}/stage.log", "stage.log"),
        (journal, "journal.jsonl"),
        (f"{state}/stages/{folder}.samples.jsonl", "samples.jsonl"),
    ]
    there = [(source, name) for source, name in moves if os.path.lexists(source)]
    if not there:
        return
    run_id, attempt = _whose(manifest, journal)
    target = base = f"{state}/runs/{run_id}/{folder}" + (f".attempt{attempt}" if attempt else "")
    n = 2
    while os.path.lexists(target):
        target, n = f"{base}.{n}", n + 1
    os.makedirs(target)
    for source, name in there:
        os.replace(source, f"{target}/{name}")


def _whose(manifest: str, journal: str) -> tuple[str, int]:
    for path, first_line in ((manifest, False), (journal, True)):
        try:
            with open(path, "rb") as f:
                data = f.readline() if first_line else f.read()
            if first_line:
                from otel_stage.manifest import parse_lines

                record = next(iter(parse_lines(data)))
            else:
                record = parse_stage(data)
            run_id = str(record.get("run_id") or _UNKNOWN_RUN)
            if run_id == os.path.basename(run_id) and not run_id.startswith("."):
                return run_id, int(record.get("attempt") or 0) if record.get("run_id") else 0
        except (OSError, ManifestError, StopIteration, ValueError, TypeError):
            continue
    return _UNKNOWN_RUN, 0


def _link(source: str, target: str) -> None:
    if not os.path.exists(source) or os.path.lexists(target):
        return
    try:
        os.link(source, target)
    except OSError:
        import shutil

        shutil.copy2(source, target)

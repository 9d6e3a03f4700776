"""Which directories are job directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from otel_stage.jobdir import STATE_DIR
from otel_stage.manifest import JOB_MANIFEST, JOB_MANIFEST_BESIDE_FOREIGN, is_ours
from otel_stage.runs._seed import is_seed_job


def find_jobs(root: str | os.PathLike[str]) -> Iterator[Path]:
    """Every job directory at or below `root`, in order of their paths.

    A job directory has a folder `.otel-stage`, a job manifest of ours (`manifest.json` or `job.manifest.json`),
    or stage folders of the older kind. What lies inside one is not looked at; links to directories are not
    followed; folders that cannot be read are passed over.

    Args:
        root: Where to look; may be a job directory itself.

    Raises:
        OSError: `root` cannot be read.
    """
    stack = [os.fspath(root)]
    os.scandir(stack[0]).close()
    while stack:
        folder = stack.pop()
        names: set[str] = set()
        below: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    names.add(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.name)
        except OSError:
            continue
        if STATE_DIR in below or _has_manifest(folder, names) or is_seed_job(folder, below):
            yield Path(folder)
        else:
            below.sort(reverse=True)
            stack.extend(os.path.join(folder, name) for name in below)


def _has_manifest(folder: str, names: set[str]) -> bool:
    for name in (JOB_MANIFEST, JOB_MANIFEST_BESIDE_FOREIGN):
        if name in names:
            try:
                with open(os.path.join(folder, name), "rb") as f:
                    if is_ours(f.read()):
                        return True
            except OSError:
                continue
    return False

"""Arguments of `pipeline()`, checked before a file is touched, and the name of a run that nobody named."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable

from otel_stage.errors import PipelineError
from otel_stage.jobdir import check_key, check_name


def absolute(path: str | None) -> str:
    """The absolute path of a job directory; empty for none.

    Raises:
        PipelineError: The current directory is gone.
    """
    try:
        return os.path.abspath(path) if path else ""
    except OSError as err:
        raise PipelineError(f"job_dir {path!r} cannot be found: {err.strerror}; give an absolute one") from None


def check_stages(stages: Iterable[str] | int | None) -> tuple[list[str], int | None]:
    """Ids whose numbers are reserved, and how many stages there will be.

    Raises:
        PipelineError: It is neither a list of names nor a number.
        StageNameError: One of the names cannot be a folder name.
    """
    if stages is None:
        return [], None
    if isinstance(stages, int) and not isinstance(stages, bool):
        if stages < 1:
            raise PipelineError(f"stages={stages}: give the number of stages, at least 1, or their names")
        return [], stages
    if isinstance(stages, str | bytes | bool):
        raise PipelineError(f"stages={stages!r}: give a list of stage names, or their number")
    if not isinstance(stages, Iterable):
        raise PipelineError(f"stages={stages!r}: give a list of stage names, or their number")
    names: list[str] = []
    for item in stages:
        name, dot, key = str(item).partition(".")
        check_name(name)
        if dot:
            check_key(key)
        if item in names:
            raise PipelineError(f"stages= names {item!r} twice: give each id once (a second `bwa` is `bwa.2`)")
        names.append(str(item))
    return names, len(names)


def script_name() -> str:
    """The main script's name as a pipeline name."""
    stem = os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-") or "job"

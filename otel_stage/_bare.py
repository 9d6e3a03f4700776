"""Pipelines whose telemetry is off: user code finds the same folders, and nothing else is written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from otel_stage.errors import PipelineError, StageError
from otel_stage.jobdir import folder_name, fresh_job_dir, stage_id

if TYPE_CHECKING:
    from otel_stage._run import Run


class BareJob:
    """Folders of one run without records: names and numbers as they would be with them.

    Args:
        run: The run.
        name: The pipeline's name.
        stages: Ids whose numbers are reserved.
    """

    def __init__(self, run: Run, name: str, stages: list[str]) -> None:
        self._run = run
        self._name = name
        self._numbers = {ident: n for n, ident in enumerate(stages, 1)}
        self._opened: set[str] = set()

    def claim(self, name: str, key: str | None) -> tuple[str, str | None]:
        """The id and key of a stage that opens: the same name without a key is `.2`, `.3`, … in one run."""
        tried, n = key, 2
        while (ident := stage_id(name, tried)) in self._opened:
            tried, n = str(n) if key is None else f"{key}.{n}", n + 1
        self._opened.add(ident)
        return ident, tried

    def job_dir(self) -> str:
        """The job directory, made on first use.

        Raises:
            PipelineError: It cannot be made.
        """
        run = self._run
        try:
            if not run.path:
                run.path = run.settings.job_dir or fresh_job_dir(run.settings.root, self._name)
            run.path = os.path.abspath(run.path)
            os.makedirs(run.path, exist_ok=True)
        except OSError as err:
            raise PipelineError(f"job directory {run.path} cannot be made: {err.strerror}") from None
        return run.path

    def stage_dir(self, ident: str, number: int | None) -> str:
        """A stage's folder: the one that carries its id already, else the next number.

        Raises:
            StageError: It cannot be made.
        """
        job = self.job_dir()
        highest = max(self._numbers.values(), default=0)
        for entry in os.listdir(job):
            digits, _, rest = entry.partition("_")
            if digits.isdecimal() and os.path.isdir(os.path.join(job, entry)):
                if rest == ident:
                    return os.path.join(job, entry)
                highest = max(highest, int(digits))
        n = number if number is not None else self._numbers.get(ident, highest + 1)
        folder = os.path.join(job, folder_name(n, ident))
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as err:
            raise StageError(f"stage {ident!r} has no folder: {err.strerror} ({folder})") from None
        return folder

"""Where we are: what the OpenTelemetry context carries, so that records find their files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_stage.jobdir._job import JobDir


class Place:
    """A job, or a stage of it.

    Attributes:
        job: The job directory.
        ident: The stage's id; empty for the job itself.
        number: The stage's number; 0 for the job itself.
        folder: The stage's folder, relative to the job directory.
        attempt: Which attempt of the stage this is, from 1.
        options: The run's settings, for the file exporter; None: its own defaults.
        run: The front door's run.
        stage: The front door's stage, for `current_stage()`.
        files: The file exporter's open files.
    """

    __slots__ = ("attempt", "files", "folder", "ident", "job", "number", "options", "run", "stage")

    def __init__(
        self, job: JobDir, *, ident: str = "", number: int = 0, folder: str = "", attempt: int = 1
    ) -> None:
        self.job = job
        self.ident = ident
        self.number = number
        self.folder = folder
        self.attempt = attempt
        self.options: Any = None
        self.run: Any = None
        self.stage: Any = None
        self.files: Any = None

    @property
    def stage_dir(self) -> str:
        """Absolute path of the stage's folder (of the job directory for the job itself)."""
        return f"{self.job.path}/{self.folder}" if self.folder else self.job.path

    @property
    def journal_path(self) -> str:
        """Absolute path of the stage's journal."""
        return f"{self.job.state}/stages/{self.folder}.jsonl"

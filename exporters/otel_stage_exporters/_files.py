"""The open files of a job and of a stage, and what each event does to them."""

from __future__ import annotations

import logging
import os
from typing import Any

import msgspec

from otel_stage.errors import ManifestError
from otel_stage.jobdir import Place
from otel_stage.manifest import (
    StageFold,
    encode,
    event_line,
    fold_stage_journal,
    to_json,
    write_atomic,
)
from otel_stage.semconv import CANCELLED, EVENT_END, EVENT_START, FAILED, REUSED, SKIPPED, SUCCESS
from otel_stage_exporters._append import Appender, open_append
from otel_stage_exporters._console import Console
from otel_stage_exporters._lines import Clock, escape, span_of_time
from otel_stage_exporters._progress import Progress

_log = logging.getLogger("otel_stage")
_BLOCK = 1 << 20
_MOST_LINES = 500
_SIGNS = {SUCCESS: "✓", SKIPPED: "⊘", REUSED: "↻"}


class JobFiles:
    """The pipeline log of one run, as this process writes it.

    Args:
        place: In the run.
        options: `console utc milliseconds hold_gil fsync`, as attributes.
    """

    def __init__(self, place: Place, options: Any) -> None:
        self.job = place.job
        self.run_id = place.job.run_id
        self.fsync: bool = options.fsync
        self.clock = Clock(utc=options.utc, milliseconds=options.milliseconds)
        self.progress = Progress() if options.console == "live" else None
        self.console = Console(options.console, self.progress)
        self.appender = Appender(hold_gil=options.hold_gil, folder=place.job.path)
        self.job_files = self
        self.said: set[str] = set()
        log = place.job.start.get("log")
        self.log_fd = -1
        if log:
            try:
                self.log_fd = open_append(f"{place.job.path}/{log}")
            except OSError as err:
                self.trouble("the pipeline log", err)

    def write(self, line: str) -> None:
        """Append one line, newline included, to the pipeline log."""
        if self.log_fd < 0:
            return
        try:
            self.appender.write(self.log_fd, line.encode("utf-8", "backslashreplace"))
        except OSError as err:
            self.trouble("the pipeline log", err)

    def say(self, level: str, text: str, ns: int) -> None:
        """A line of the library's own: in the pipeline log and on the console."""
        line = f"{self.clock.at(ns)}[pipeline] [{level}] {text}\n"
        self.write(line)
        self.console.write(line, self.job.console_fd)

    def trouble(self, what: str, err: OSError) -> None:
        """Say once per run and reason that something is not being recorded."""
        reason = (err.strerror or type(err).__name__).lower()
        if reason not in self.said:
            self.said.add(reason)
            _log.warning(
                "%s of job %s cannot be written: %s (%s); the pipeline goes on, what cannot be written is missing",
                what, self.job.path, reason, err.filename or what,
            )  # fmt: skip

    def close(self) -> None:
        """Close the pipeline log."""
        if self.progress is not None:
            self.progress.close()
        fd, self.log_fd = self.log_fd, -1
        if fd >= 0:
            self.appender.close(fd)
        self.appender.finish()


class StageFiles:
    """stage.log, journal and manifest of one stage, as this process writes them."""

    def __init__(self, place: Place, job: JobFiles) -> None:
        self.place = place
        self.job_files = job
        self.tag = f"[stage.{place.ident}] "
        self.log_size = 0
        self.log_lines = 0
        self.unwritten: list[str] = []
        self.lines: list[bytes] | None = []
        self.journal_size = 0
        job.appender.prepare()
        self.log_fd = self._open(f"{place.stage_dir}/stage.log")
        self.journal_fd = self._open(place.journal_path)

    def _open(self, path: str) -> int:
        try:
            return open_append(path)
        except OSError as err:
            self.job_files.trouble(f"stage {self.place.ident}", err)
            return -1

    def write_log(self, line: str, lines: int = 1) -> None:
        """Append one record of so many lines, newline included, to stage.log."""
        # Read once: a stage that ends meanwhile takes it away, and its descriptor rests a moment before it closes.
        fd = self.log_fd
        if fd < 0:
            return
        data = line.encode("utf-8", "backslashreplace")
        try:
            self.job_files.appender.write(fd, data)
        except OSError as err:
            self.job_files.trouble(f"stage.log of stage {self.place.ident}", err)
            return
        self.log_size += len(data)
        self.log_lines += lines

    def write_event(self, line: str) -> None:
        """Append one event to the journal; what could not be written is tried again with the next."""
        if self.unwritten:
            self._retry()
        data = line.encode() + b"\n"
        try:
            self.job_files.appender.write(self.journal_fd, data)
            self.journal_size += len(data)
            if self.lines is not None:
                self.lines.append(data)
                if len(self.lines) > _MOST_LINES:
                    self.lines = None
        except OSError as err:
            self.job_files.trouble(f"the journal of stage {self.place.ident}", err)
            self.unwritten.append(line)

    def _retry(self) -> None:
        try:
            while self.unwritten:
                self.job_files.appender.write(self.journal_fd, self.unwritten[0].encode() + b"\n")
                del self.unwritten[0]
        except OSError:
            pass

    # --- events

    def start(self, line: str) -> dict[str, Any]:
        """The stage opened: from now on the manifest says `running`."""
        self.write_event(line)
        event: dict[str, Any] = msgspec.json.decode(line)
        fold = StageFold()
        fold.apply(event)
        self._write_manifest(fold.manifest())
        return event

    def complete_end(self, line: str, zone: str) -> tuple[str, dict[str, Any]]:
        """The `stage.end` event with what stage.log holds; log lines that follow go to the pipeline log alone."""
        event: dict[str, Any] = msgspec.json.decode(line)
        path = f"{self.place.folder}/stage.log"
        lines, size = self._counted()
        event["log"] = {"path": path, "lines": lines, "size_bytes": size, "timezone": zone}
        return encode(event).decode(), event

    def _counted(self) -> tuple[int, int]:
        """Lines and bytes of stage.log; from here on no record goes there."""
        fd, self.log_fd = self.log_fd, -1
        if fd < 0:
            return 0, 0
        size = os.fstat(fd).st_size
        lines = self.log_lines if size == self.log_size else self._count_lines(size)
        self.job_files.appender.close(fd)
        return lines, size

    def _count_lines(self, size: int) -> int:
        """Lines in the first `size` bytes: other processes and threads wrote there too."""
        lines, left = 0, size
        with open(f"{self.place.stage_dir}/stage.log", "rb") as f:
            while left > 0 and (block := f.read(min(_BLOCK, left))):
                lines += block.count(b"\n")
                left -= len(block)
        return lines

    def end(self, line: str, event: dict[str, Any], ns: int) -> None:
        """The stage ended: journal, manifest and the job's journal say how."""
        self.write_event(line)
        if self.job_files.fsync and self.journal_fd >= 0:
            os.fsync(self.journal_fd)
        try:
            sealed = self._write_manifest(self._folded())
        except (OSError, ManifestError) as err:
            # The job's journal must say that the stage ended, whatever became of its manifest.
            sealed = ""
            _log.warning("manifest.json of stage %s could not be made: %s", self.place.ident, err)
        fields = {
            "id": self.place.ident,
            "status": event["status"],
            "duration_seconds": event.get("duration_seconds"),
        }
        if sealed:
            fields["manifest_sha256"] = sealed
        try:
            self.place.job.append(event_line(EVENT_END, ns, fields))
        except OSError as err:
            self.job_files.trouble("the journal", err)
        self.close()

    def _folded(self) -> dict[str, Any]:
        if self.lines is not None and os.fstat(self.journal_fd).st_size == self.journal_size:
            # A small stage, and nobody else spoke: what was written is still at hand.
            return fold_stage_journal(b"".join(self.lines))
        fd = os.open(self.place.journal_path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            data = b"".join(iter(lambda: os.read(fd, _BLOCK), b""))
        finally:
            os.close(fd)
        if self.unwritten:
            data += "".join(f"{line}\n" for line in self.unwritten).encode()
        return fold_stage_journal(data)

    def _write_manifest(self, manifest: dict[str, Any]) -> str:
        data = to_json(manifest)
        try:
            write_atomic(f"{self.place.stage_dir}/manifest.json", data, fsync=self.job_files.fsync)
        except OSError as err:
            self.job_files.trouble(f"manifest.json of stage {self.place.ident}", err)
            return ""
        import hashlib

        return hashlib.sha256(data).hexdigest()

    def close(self) -> None:
        """Close both files."""
        for name in ("log_fd", "journal_fd"):
            fd = getattr(self, name)
            setattr(self, name, -1)
            if fd >= 0:
                self.job_files.appender.close(fd)


# --- the library's own lines in the pipeline log


def start_line(event: dict[str, Any], total: int | None) -> str:
    """`▶ Stage 6/12: asr`."""
    number = event["stage_number"]
    of = f"{number}/{total}" if total and number <= total else f"{number}"
    attempt = f" (attempt {event['attempt']})" if event.get("attempt", 1) > 1 else ""
    return f"▶ Stage {of}: {event['id']}{attempt}"


def end_line(event: dict[str, Any], ident: str) -> str:
    """`✓ Stage asr: SUCCESS (44.8s)`, and the other ends."""
    status = event["status"]
    line = f"{_SIGNS.get(status, '✗')} Stage {ident}: {status.upper()}"
    if status in (SUCCESS, FAILED, CANCELLED):
        line += f" ({span_of_time(event.get('duration_seconds') or 0.0)})"
    reason = event.get("reason")
    if reason and status != SUCCESS:
        line += f": {escape(str(reason))}"
    return line


__all__ = ["EVENT_START", "JobFiles", "StageFiles", "end_line", "start_line"]

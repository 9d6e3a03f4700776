"""One job directory, as one process sees it: its journal, its numbers, its runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from otel_stage.errors import PipelineError, StageError
from otel_stage.jobdir._archive import keep_run, keep_stage
from otel_stage.jobdir._claims import Claim, Identities, busy, live_holder, other_run, start_fields
from otel_stage.jobdir._identity import folder_name, this_process
from otel_stage.jobdir._liveness import may_live
from otel_stage.jobdir._lock import LockFile
from otel_stage.jobdir._paths import create_log, job_manifest_path, make_folders, open_journal, read_at, why
from otel_stage.manifest import (
    JobFold,
    event_line,
    event_time,
    now_ns,
    parse_lines,
    to_json,
    write_atomic,
)
from otel_stage.semconv import EVENT_START, JOB_START, SCHEMA_VERSION

STATE_DIR = ".otel-stage"


class JobDir:
    """A job directory: use `open_job` to get one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.state = f"{path}/{STATE_DIR}"
        self.journal_path = f"{self.state}/journal.jsonl"
        make_folders(path, self.state)
        try:
            self._lock = LockFile(f"{self.state}/lock")
            self._fd = open_journal(self.journal_path)
        except OSError as err:
            raise PipelineError(f"job directory {path} cannot be used: {why(err)}") from None
        self._fold = JobFold()
        self._offset = 0
        self._written = -1
        self._write_lock = threading.Lock()
        self._identities = Identities()
        # Says where stderr is while descriptor 2 is captured; set by whoever captures.
        self.console_fd: Callable[[], int] | None = None
        self.users = 0

    def after_fork(self) -> None:
        """In a forked child: locks that another thread of the parent may have held."""
        self._write_lock = threading.Lock()
        self._lock.after_fork()

    def close(self) -> None:
        """Close both descriptors, and with them the sign of life; nothing can be written afterwards."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._lock.close()

    @property
    def run_id(self) -> str:
        """The current run's id; empty before the first run."""
        return str(self._fold.start.get("run_id", ""))

    @property
    def name(self) -> str:
        """The current run's pipeline name."""
        return str(self._fold.start.get("name", ""))

    @property
    def job_id(self) -> str:
        """What people call this job: the last parts of its path."""
        return str(self._fold.start.get("job_id", ""))

    @property
    def start(self) -> Mapping[str, Any]:
        """The `job.start` event of the current run; empty before the first run."""
        return self._fold.start

    def stage_count(self) -> dict[str, int]:
        """How many stages of the current run have which status."""
        counts: dict[str, int] = {}
        for entry in self._fold.stages.values():
            counts[entry["status"]] = counts.get(entry["status"], 0) + 1
        return counts

    def _sync(self) -> None:
        """Take in what others have appended; call it with the mutex held."""
        try:
            at_path = os.stat(self.journal_path)
        except OSError:
            return
        here = os.fstat(self._fd)
        if (at_path.st_ino, at_path.st_dev) != (here.st_ino, here.st_dev):
            # A new run put a journal of its own in place.
            fd = open_journal(self.journal_path)
            os.close(self._fd)
            self._fd, self._offset, self._fold = fd, 0, JobFold()
            here = os.fstat(fd)
        if here.st_size <= self._offset:
            return
        data = read_at(self._fd, self._offset, here.st_size - self._offset)
        whole = data.rfind(b"\n") + 1
        for event in parse_lines(data[:whole]):
            self._fold.apply(event)
        self._offset += whole
        if whole < len(data):
            # A line that a death or a full disk cut short: the next one must not be glued to it.
            os.write(self._fd, b"\n")

    def sync(self) -> None:
        """Take in what other processes have appended."""
        with self._lock.mutex():
            self._sync()

    def append(self, line: str) -> None:
        """Append one event to the job's journal; it is in the kernel when this returns.

        Raises:
            OSError: It could not be written.
        """
        os.write(self._fd, line.encode() + b"\n")

    # --- runs

    def is_alive(self, process: Mapping[str, Any]) -> bool:
        """Whether a process that spoke in this job may still live; False is proof of its death."""
        return may_live(process, self._lock.holder)

    def begin_run(
        self, name: str, *, run_id: str, version: str, open_ended: bool = False, stages: list[str] | None = None,
        total: int | None = None, otel: Mapping[str, Any] | None = None, ns: int | None = None,
    ) -> int:
        """Begin a run; what an earlier run left is kept under `.otel-stage/runs/`.

        Args:
            name: The pipeline's name.
            run_id: Id of the new run.
            version: Of the library.
            open_ended: There is no pipeline block that will end it.
            stages: Names whose numbers are reserved in this order.
            total: Number of stages, if it is known without their names.
            otel: Trace and span id of the run's root span.
            ns: When it began, for one that is written down afterwards; default: now.

        Returns:
            When it began, in nanoseconds since the epoch.

        Raises:
            JobBusyError: A live run holds the directory.
            PipelineError: The directory cannot be written.
        """
        with self._lock.mutex():
            self._sync()
            holder = live_holder(self._fold, self.is_alive)
            if holder is not None:
                raise busy(self.path, self._fold.start, holder)
            return self._begin(name, run_id, version, open_ended, stages or [], total, otel, ns)

    def join_or_begin(
        self, name: str, *, run_id: str, fresh_run_id: str, version: str, ns: int | None = None
    ) -> int:
        """Join the run that is here, or begin an open-ended one where none can be joined.

        Args:
            name: Name of the open-ended run, if one begins.
            run_id: The run that the environment names; empty if it names none.
            fresh_run_id: Id of the open-ended run, if one begins.
            version: Of the library.
            ns: When it began, for one that is written down afterwards; default: now.

        Returns:
            When it began, in nanoseconds since the epoch; 0 when one was joined.
        """
        with self._lock.mutex():
            self._sync()
            start = self._fold.start
            if start and run_id == start["run_id"]:
                return 0
            held = bool(start) and live_holder(self._fold, self.is_alive) is not None
            if start and not run_id and (start.get("open_ended") or held):
                return 0
            if held:
                raise other_run(self.path, self.run_id, run_id)
            return self._begin(name, run_id or fresh_run_id, version, True, [], None, None, ns)

    def _begin(
        self, name: str, run_id: str, version: str, open_ended: bool, stages: list[str], total: int | None,
        otel: Mapping[str, Any] | None, ns: int | None,
    ) -> int:
        self._lock.mark_alive()
        fields = start_fields(
            self.path, name, run_id, version, open_ended=open_ended, stages=stages, total=total,
            numbers=self._fold.numbers,
        )  # fmt: skip
        try:
            fields["log"] = create_log(self.path)
            if otel:
                fields["otel"] = otel
            ns = now_ns() if ns is None else ns
            line = event_line(JOB_START, ns, fields)
            if self._fold.start:
                keep_run(self.state, self.run_id, self.journal_path, self.manifest_path())
                write_atomic(self.journal_path, line.encode() + b"\n")
            else:
                self.append(line)
        except OSError as err:
            raise PipelineError(f"job directory {self.path} cannot be written: {why(err)}") from None
        self._sync()
        return ns

    # --- stages

    def claim(
        self, name: str, key: str | None, number: int | None, extra: Mapping[str, Any] | None = None,
        ns: int | None = None,
    ) -> Claim:
        """Open a stage in the current run: settle its id, number, folder and attempt.

        Args:
            name: The stage's name.
            key: Its key, if the user gave one.
            number: Its number, if the user gave one.
            extra: Further fields of its `stage.start`.
            ns: When it opened, for one that is written down afterwards; default: now.

        Raises:
            StageNumberError: `number` belongs to another stage of this directory.
            OSError: The directory cannot be written.
        """
        with self._lock.mutex():
            self._lock.mark_alive()
            self._sync()
            ident, key, attempt = self._identities.choose(self._fold, name, key, self.is_alive)
            number = self._identities.number(self._fold, ident, number, self.path)
            folder = folder_name(number, ident)
            stage_dir = f"{self.path}/{folder}"
            try:
                os.mkdir(stage_dir)
            except FileExistsError:
                if not os.path.isdir(stage_dir):
                    raise StageError(
                        f"stage {ident!r} cannot open: {stage_dir} is in the way and is no directory; move it"
                    ) from None
                keep_stage(self.state, stage_dir, folder)
            ns = now_ns() if ns is None else ns
            fields = {
                "id": ident, "stage": name, "stage_number": number, "run_id": self.run_id,
                "attempt": attempt, "folder": folder, "process": this_process(), "schema_version": SCHEMA_VERSION,
                **(extra or {}),
            }  # fmt: skip
            if key is not None:
                fields["key"] = key
            self._append_own(EVENT_START, ns, fields)
        self._identities.took(ident)
        return Claim(ident, key, number, folder, attempt, ns)

    def _append_own(self, name: str, ns: int, fields: Mapping[str, Any]) -> None:
        line = event_line(name, ns, fields)
        self.append(line)
        after = self._offset + len(line.encode()) + 1
        if os.fstat(self._fd).st_size == after:
            # Nobody else wrote meanwhile: what we wrote is known.
            self._offset = after
            self._fold.apply({"time": event_time(ns), "event": name, **fields})
        else:
            self._sync()

    # --- the job manifest

    def manifest_path(self) -> str:
        """Where the job manifest is written; beside a `manifest.json` that is somebody else's."""
        return job_manifest_path(self.path)

    def write_manifest(self, *, fsync: bool = False) -> bool:
        """Write the job manifest if the journal has grown since it was last written here.

        Returns:
            Whether it was written.

        Raises:
            OSError: It could not be written.
        """
        with self._write_lock:
            if os.fstat(self._fd).st_size == self._written and not fsync:
                return False
            with self._lock.mutex():
                self._sync()
                if not self._fold.start:
                    return False
                content = self._fold.manifest()
                content["journal"] = {"folded_bytes": self._offset}
                write_atomic(self.manifest_path(), to_json(content), fsync=fsync)
                self._written = self._offset
        return True

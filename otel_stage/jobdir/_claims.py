"""Who a run and a stage are: ids, attempts and numbers. Asked with the job's mutex held."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from otel_stage.errors import JobBusyError, StageNumberError
from otel_stage.jobdir._identity import stage_id, this_process
from otel_stage.manifest import JobFold
from otel_stage.semconv import CANCELLED, CRASHED, FAILED, RUNNING, SCHEMA_VERSION


class Claim:
    """What a stage got when it opened: who it is, and where it writes."""

    __slots__ = ("attempt", "folder", "ident", "key", "number", "time_ns")

    def __init__(self, ident: str, key: str | None, number: int, folder: str, attempt: int, time_ns: int) -> None:
        self.ident = ident
        self.key = key
        self.number = number
        self.folder = folder
        self.attempt = attempt
        self.time_ns = time_ns


def start_fields(
    path: str, name: str, run_id: str, version: str, *, open_ended: bool, stages: list[str], total: int | None,
    numbers: Mapping[str, int],
) -> dict[str, Any]:
    """The fields of a `job.start`: what the run is, and which numbers ids own in its directory."""
    owned = dict(numbers)
    for ident in stages:
        owned.setdefault(ident, max(owned.values(), default=0) + 1)
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "version": version,
        "name": name,
        "job_id": "/".join(part for part in path.split("/")[-2:] if part),
        "run_id": run_id,
        "process": this_process(),
    }
    if open_ended:
        fields["open_ended"] = True
    if owned:
        fields["numbers"] = owned
    if stages or total:
        fields["stages_total"] = total or len(stages)
    return fields


def live_holder(fold: JobFold, is_alive: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any] | None:
    """The live process of a job's current run, if there is one."""
    start = fold.start
    if not start:
        return None
    speakers = [fold.opened_by[ident] for ident, entry in fold.stages.items() if entry["status"] == RUNNING]
    if not fold.end and not start.get("open_ended"):
        speakers.insert(0, start["process"])
    return next((process for process in speakers if is_alive(process)), None)


def busy(path: str, start: Mapping[str, Any], holder: Mapping[str, Any]) -> JobBusyError:
    """What is told to a run that finds a live one in its directory."""
    return JobBusyError(
        f"job directory {path} is in use: run {start['run_id']} of pipeline {start['name']!r} by process "
        f"{holder['pid']} on {holder['host']} since {start['time'][:19]}Z; wait for it, stop it, or choose another "
        "job_dir (a process of that same run joins it through OTEL_STAGE_RUN_ID)"
    )


def other_run(path: str, here: str, named: str) -> JobBusyError:
    """What is told to a process whose environment names another run than the live one that is here."""
    return JobBusyError(
        f"job directory {path} holds the live run {here}, not {named} that OTEL_STAGE_RUN_ID names; unset it or give "
        "the right OTEL_STAGE_JOB_DIR"
    )


class Identities:
    """What one process knows of the ids that it took."""

    def __init__(self) -> None:
        self._mine: set[str] = set()
        self._pid = os.getpid()
        self._next_key: dict[tuple[str, int, str], int] = {}

    def took(self, ident: str) -> None:
        """Remember an id that this process opened."""
        if self._pid != os.getpid():
            self._mine, self._pid = set(), os.getpid()
        self._mine.add(ident)

    def choose(
        self, fold: JobFold, name: str, key: str | None, is_alive: Callable[[Mapping[str, Any]], bool]
    ) -> tuple[str, str | None, int]:
        """The first of name(.key), then .2, .3, … that nobody in this run has, or that may be tried again.

        Args:
            fold: The job as of now.
            name: The stage's name.
            key: The key that the user gave.
            is_alive: Whether a process may still live.

        Returns:
            (id, key, attempt).
        """
        own = self._mine if self._pid == os.getpid() else set()
        explicit = key is not None
        run_id = str(fold.start.get("run_id", ""))
        base = (run_id, os.getpid(), stage_id(name, key))
        n = self._next_key.get(base, 1)
        while True:
            tried = key if n == 1 else (f"{key}.{n}" if explicit else str(n))
            ident = stage_id(name, tried)
            entry = fold.stages.get(ident)
            if entry is None:
                # Not n + 1: the number may be refused, and the id is free for another try.
                self._next_key[base] = n
                return ident, tried, 1
            alive = entry["status"] == RUNNING and is_alive(fold.opened_by[ident])
            # What failed may be tried again in its place; what succeeded in this run is not overwritten.
            failed = entry["status"] in (FAILED, CANCELLED, CRASHED, RUNNING)
            again = (explicit and failed) or (bool(fold.start.get("open_ended")) and ident not in own)
            if again and not alive:
                return ident, tried, int(entry.get("attempt", 1)) + 1
            n += 1

    def number(self, fold: JobFold, ident: str, wanted: int | None, where: str) -> int:
        """The number of an id: the one it owns, else the wanted one, else the next.

        Raises:
            StageNumberError: The wanted number is another's, or the id has another.
        """
        owned = fold.numbers.get(ident)
        if wanted is None:
            return owned if owned is not None else fold.highest + 1
        if owned is not None and owned != wanted:
            raise StageNumberError(
                f"stage {ident!r} cannot take number {wanted}: it has number {owned} in {where}; leave number= out"
            )
        other = fold.owners.get(wanted, ident)
        if other != ident:
            raise StageNumberError(
                f"stage {ident!r} cannot take number {wanted}: it belongs to stage {other!r} in {where}; "
                "give another number or leave it out"
            )
        return wanted

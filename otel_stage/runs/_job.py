"""One run of a job as its files tell it, whatever became of the processes that wrote them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from otel_stage.errors import ManifestError
from otel_stage.jobdir import STATE_DIR
from otel_stage.jobdir._liveness import is_alive
from otel_stage.manifest import (
    JOB_MANIFEST,
    JOB_MANIFEST_BESIDE_FOREIGN,
    encode,
    is_ours,
    parse_job,
    read_stage,
)
from otel_stage.runs._seed import seed_manifest
from otel_stage.runs._stage import events_of, folded, folder_of, gone, load_kept_stage, load_stage
from otel_stage.semconv import CANCELLED, CRASHED, FAILED, JOB_START, RUNNING, SUCCESS

_WORST_FIRST = (RUNNING, CRASHED, FAILED, CANCELLED)


class JobRecord(Struct, frozen=True):
    """One run of a job.

    Attributes:
        path: The job directory.
        manifest: The run's job manifest, as of now.
        kept: Where an earlier run is kept; None for the latest one.
    """

    path: Path
    manifest: dict[str, Any]
    kept: Path | None = None

    @property
    def run_id(self) -> str:
        """The run's id; empty for a directory of the older kind."""
        return str(self.manifest["run_id"])

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.manifest["name"])

    @property
    def status(self) -> str:
        """How the run stands."""
        return str(self.manifest["pipeline"]["status"])

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """Stage ids and their entries in the job manifest, in order of opening."""
        stages: dict[str, dict[str, Any]] = self.manifest["stages"]
        return stages

    def stage(self, ident: str) -> dict[str, Any]:
        """The manifest of a stage of this run.

        Raises:
            ManifestError: There is no such stage, or its files are missing or malformed.
            OSError: A file cannot be read.
        """
        entry = self.stages.get(ident)
        if entry is None:
            raise ManifestError(f"no stage {ident!r} in run {self.run_id or '(none)'} of {self.path}")
        if self.kept is None:
            return load_stage(self.path, entry)
        return load_kept_stage(self._kept_folder(entry))

    def load_stages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Ids and manifests of all stages, in order of opening; raises as `stage` does."""
        for ident in self.stages:
            yield ident, self.stage(ident)

    def _kept_folder(self, entry: Mapping[str, Any]) -> str:
        """Where a stage of an earlier run is: moved aside, or still in its place if nothing replaced it."""
        folder = folder_of(entry)
        if not folder or folder.startswith(".") or "/" in folder or os.sep in folder:
            raise ManifestError(f"{folder!a} is not the folder of a stage")
        attempt = entry.get("attempt", 1)
        base = f"{self.kept}/{folder}"
        for name in (f"{base}.attempt{attempt}", base):
            if os.path.isdir(name):
                return name
        place = f"{self.path}/{folder}"
        try:
            if read_stage(f"{place}/{JOB_MANIFEST}").get("run_id") == self.run_id:
                return place
        except OSError:
            pass
        raise ManifestError(f"stage {folder} of run {self.run_id} is not kept in {self.path}")


def load_job(path: str | os.PathLike[str]) -> JobRecord:
    """The latest run of a job directory, as of now.

    The job manifest where it is up to date, else the fold of the journal. A run or stage that says it is
    running though its process is provably dead is shown as crashed; on another host it is left as it is.

    Args:
        path: The job directory.

    Raises:
        ManifestError: It is no job directory, or its manifest and journal are malformed.
        OSError: A file cannot be read.

    Example:
        >>> load_job("out/2025/11/27/baseline/1").status  # doctest: +SKIP
        'success'
    """
    job = os.fspath(path)
    manifests = (f"{job}/{JOB_MANIFEST}", f"{job}/{JOB_MANIFEST_BESIDE_FOREIGN}")
    known: set[str] = set()
    while True:
        manifest = _read(manifests, f"{job}/{STATE_DIR}/journal.jsonl")
        if manifest is None:
            return JobRecord(Path(job), seed_manifest(job))
        dead = _dead(manifest, lambda process: not is_alive(job, process))
        # What they wrote between our reading and their death must not be missed.
        if dead.keys() <= known:
            return JobRecord(Path(job), _shown(manifest, dead))
        known |= dead.keys()


def earlier_runs(path: str | os.PathLike[str]) -> Iterator[JobRecord]:
    """The runs that a later one replaced, oldest first, as `.otel-stage/runs/` keeps them.

    Args:
        path: The job directory.

    Raises:
        ManifestError: What is kept of a run is malformed.
        OSError: A file cannot be read.
    """
    job = os.fspath(path)
    runs = f"{job}/{STATE_DIR}/runs"
    try:
        names = sorted(os.listdir(runs))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        kept = f"{runs}/{name}"
        manifest = _read((f"{kept}/{JOB_MANIFEST}",), f"{kept}/journal.jsonl")
        if manifest is not None:
            # A live run lets nobody begin another one here: whatever still says `running` is dead.
            yield JobRecord(Path(job), _shown(manifest, _dead(manifest, lambda _: True)), Path(kept))


def _read(manifests: tuple[str, ...], journal: str) -> dict[str, Any] | None:
    """The job manifest, from the file if nothing was said since, else from the journal."""
    manifest: dict[str, Any] | None = None
    written = 0
    for path in manifests:
        try:
            with open(path, "rb") as f:
                written, data = os.fstat(f.fileno()).st_mtime_ns, f.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if is_ours(data):
            manifest = parse_job(data, where="/".join(path.split("/")[-2:]))
            break
    try:
        st = os.stat(journal)
    except (FileNotFoundError, NotADirectoryError):
        return manifest
    upto = -1 if manifest is None else (manifest.get("journal") or {}).get("folded_bytes", -1)
    # Of a size by chance the same a new run's journal may be, but it is younger than the manifest.
    if manifest is not None and st.st_size == upto and st.st_mtime_ns <= written:
        return manifest
    events = events_of(journal)
    if not any(event["event"] == JOB_START for event in events):
        return manifest
    where = "/".join(journal.split("/")[-2:])
    return parse_job(encode(folded(events, where)), where=where)


def _dead(manifest: Mapping[str, Any], is_dead: Callable[[Mapping[str, Any]], bool]) -> dict[str, Mapping[str, Any]]:
    """What says it is running and is not: stage ids, and "" for the run itself; with their processes."""
    dead: dict[str, Mapping[str, Any]] = {}
    answers: dict[str, bool] = {}
    speakers = {ident: e.get("process") for ident, e in manifest["stages"].items() if e["status"] == RUNNING}
    if manifest["pipeline"]["status"] == RUNNING and not manifest.get("open_ended"):
        speakers[""] = manifest.get("process")
    for ident, process in speakers.items():
        if not process:
            continue
        who = str(process)
        if who not in answers:
            answers[who] = is_dead(process)
        if answers[who]:
            dead[ident] = process
    return dead


def _shown(manifest: dict[str, Any], dead: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The manifest with what is dead as crashed: when it died is not known, and not guessed."""
    if not dead:
        return manifest
    stages, pipeline = manifest["stages"], manifest["pipeline"]
    for ident in dead:
        if ident:
            stages[ident]["status"] = CRASHED
            stages[ident].pop("process", None)
    for status in (RUNNING, CRASHED):
        pipeline[f"{status}_stages"] = [ident for ident, entry in stages.items() if entry["status"] == status]
    running = pipeline["running_stages"]
    pipeline["current_stage"] = running[-1] if running else None
    if manifest.get("open_ended"):
        seen = {entry["status"] for entry in stages.values()}
        pipeline["status"] = next((status for status in _WORST_FIRST if status in seen), SUCCESS)
    elif "" in dead:
        manifest.pop("process", None)
        manifest["pipeline"] = {"status": CRASHED, "reason": gone(dead[""]), **{
            name: value for name, value in pipeline.items() if name != "status"
        }}  # fmt: skip
    return manifest

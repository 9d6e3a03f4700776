"""The job directory: one owner for what many processes share.

Lock, numbers, folder names, the job's journal and manifest, and who lives.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from otel_stage.errors import PipelineError
from otel_stage.jobdir._claims import Claim
from otel_stage.jobdir._identity import check_key, check_name, folder_name, stage_id, this_process
from otel_stage.jobdir._job import STATE_DIR, JobDir
from otel_stage.jobdir._place import Place

__all__ = [
    "STATE_DIR",
    "Claim",
    "JobDir",
    "Place",
    "check_key",
    "check_name",
    "close_job",
    "folder_name",
    "fresh_job_dir",
    "new_run_id",
    "open_job",
    "stage_id",
    "this_process",
]

_open: dict[tuple[int, int], JobDir] = {}
_open_lock = threading.Lock()


def _after_fork() -> None:
    # Another thread of the parent may have held it.
    global _open_lock
    _open_lock = threading.Lock()
    for job in _open.values():
        job.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# Gives the place for records whose context carries none: threads of a process with one open stage.
fallback_place: Callable[[], Place | None] = lambda: None


def open_job(path: str | os.PathLike[str]) -> JobDir:
    """The job directory at `path`, made if need be; one object per directory and process.

    Raises:
        PipelineError: It cannot be a job directory, and why.
    """
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise PipelineError(f"job_dir must be a path, not {type(path).__name__}") from None
    if not text or "\0" in text:
        raise PipelineError(f"job_dir {text!a} is not a path")
    absolute = _absolute(text).replace(os.sep, "/")
    with _open_lock:
        job = _open.get(_inode(absolute))
        if job is None or not os.path.isdir(job.state):
            job = JobDir(absolute)
            _open[_inode(absolute)] = job
        job.users += 1
        return job


def close_job(job: JobDir) -> None:
    """Done with a job that `open_job` gave: the last user in this process closes its files."""
    with _open_lock:
        job.users -= 1
        if job.users <= 0:
            for inode in [inode for inode, known in _open.items() if known is job]:
                del _open[inode]
            job.close()


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:
        raise PipelineError(
            f"{path!r} cannot be found: the current directory is gone; give an absolute job_dir or root"
        ) from None


def _inode(path: str) -> tuple[int, int]:
    try:
        st = os.stat(path)
    except (OSError, ValueError):
        return (-1, -1)
    return (st.st_dev, st.st_ino)


def fresh_job_dir(root: str | os.PathLike[str], pipeline: str) -> str:
    """Make the next free `ROOT/YYYY/MM/DD/<pipeline>/<n>`.

    Raises:
        PipelineError: The root cannot be written, and why.
    """
    base = os.path.join(_absolute(os.fspath(root)), time.strftime("%Y/%m/%d"), pipeline)
    try:
        os.makedirs(base, exist_ok=True)
        with os.scandir(base) as entries:
            n = max((int(e.name) for e in entries if e.name.isdecimal()), default=0) + 1
        while True:
            try:
                os.mkdir(os.path.join(base, str(n)))
            except FileExistsError:
                n += 1
            else:
                return os.path.join(base, str(n))
    except OSError as err:
        reason = (err.strerror or type(err).__name__).lower()
        raise PipelineError(
            f"no job directory can be made under root {os.fspath(root)!r}: {reason} ({err.filename}); "
            "give job_dir= or a root= that can be written"
        ) from None


def new_run_id() -> str:
    """A fresh run id: sorts by time, `20251127T065030Z-1f3a9c2e`."""
    return time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + os.urandom(4).hex()

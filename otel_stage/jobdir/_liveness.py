"""Whether a process that spoke in a job still lives, asked without writing: for readers of any directory."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

from otel_stage.jobdir._identity import boot_id, host_name, start_ticks

# `struct flock` with 64-bit offsets: where its type, its whence, its start, its length and its pid stand.
_LINUX = ("@hhqqi", lambda kind, start: (kind, 0, start, 1, 0), 0, 4)
_BSD = ("@qqihh", lambda kind, start: (start, 1, 0, kind, 0), 3, 2)


def is_alive(job_dir: str, process: Mapping[str, Any]) -> bool:
    """Whether a process that spoke in a job may still live; False is proof of its death.

    It is dead when the machine was started anew since, or when its mark in the job's lock file is gone and no
    process has its pid and its start time. Nothing is written, and no lock is taken.

    Args:
        job_dir: The job directory; without a lock file that can be read, pid and start time decide alone.
        process: `pid`, `host`, `start_ticks` and `boot_id`, as events carry them.
    """
    return may_live(process, lambda pid: _mark_holder(f"{job_dir}/.otel-stage/lock", pid))


def may_live(process: Mapping[str, Any], holder_of: Callable[[int], int | None]) -> bool:
    """The rule, whoever asks for the mark: False is proof of death.

    Args:
        process: `pid`, `host`, `start_ticks` and `boot_id`, as events carry them.
        holder_of: Gives the pid, as seen here, that holds the mark of a pid in the lock file; None: nobody.
    """
    if process.get("host") != host_name():
        return True
    try:
        pid = int(process["pid"])
    except (KeyError, TypeError, ValueError):
        return True
    said, now = process.get("boot_id"), boot_id()
    if said is not None and now is not None and said != now:
        return False
    ticks = process.get("start_ticks")
    holder = holder_of(pid)
    if holder is not None:
        # A holder in another pid namespace has no pid here that could be looked at.
        began = start_ticks(holder) if holder > 0 else None
        if ticks is None or began is None or began == ticks:
            return True
    return _runs(pid, ticks)


def _mark_holder(lock: str, pid: int) -> int | None:
    from otel_stage import jobdir

    # Closing any descriptor of a file drops all record locks that this process holds on it, so a file that is
    # open here is asked through who has it open; and nobody may open it between the look and the close.
    with jobdir._open_lock:
        try:
            st = os.stat(lock)
            for job in list(jobdir._open.values()):
                here = os.fstat(job._lock._fd)
                if (here.st_dev, here.st_ino) == (st.st_dev, st.st_ino):
                    return job._lock.holder(pid)
            if sys.platform == "win32":
                return None
            fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        except OSError:
            return None
        try:
            return _holder(fd, 1 + pid)
        finally:
            os.close(fd)


def _holder(fd: int, offset: int) -> int | None:
    """The pid that holds the lock on one byte; None if nobody does or the system does not tell."""
    layout, fields, kind_at, pid_at = _LINUX if sys.platform == "linux" else _BSD
    try:
        import fcntl

        asked = struct.pack(layout, *fields(fcntl.F_WRLCK, offset))
        told = struct.unpack(layout, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    except (ImportError, OSError, ValueError, struct.error):
        return None
    return int(told[pid_at]) if told[kind_at] != fcntl.F_UNLCK else None


def _runs(pid: int, ticks: int | None) -> bool:
    """Whether a process `pid` that began at `ticks` runs here; one that waits to be reaped does not."""
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", "rb") as f:
                fields = f.read().rpartition(b")")[2].split()
            return fields[0] not in (b"Z", b"X") and (ticks is None or int(fields[19]) == ticks)
        except (OSError, ValueError, IndexError):
            # Other users' processes can be hidden from /proc; the next question finds them.
            pass
    try:
        if sys.platform != "win32":
            os.kill(pid, 0)
        import psutil

        if not psutil.pid_exists(pid):
            return False
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and ticks in (None, start_ticks(pid))
    except ProcessLookupError:
        return False
    except Exception:  # of another user, or psutil's own kinds: no proof
        return True

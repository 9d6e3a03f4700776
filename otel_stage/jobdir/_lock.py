"""The job's lock file: who may write now, and who is alive.

POSIX record locks, never `flock`: a forked worker keeps a flock after its parent's death, record locks go with
the process. Byte 0 is the mutex, byte 1 + pid says that this process lives. Record locks are dropped when a
process closes *any* descriptor of the file, so there is one `LockFile` per file and process, closed when the
process is done with the job.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_MUTEX = 0
_PATIENCE_SECONDS = 30.0

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _try_lock(fd: int, offset: int) -> bool:
        os.lseek(fd, offset, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(fd: int, offset: int) -> None:
        os.lseek(fd, offset, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import errno
    import fcntl

    def _try_lock(fd: int, offset: int) -> bool:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except OSError as err:
            # A file system without locks cannot keep anybody out: go on, as one does there.
            return err.errno not in (errno.EACCES, errno.EAGAIN, errno.EBADF)
        return True

    def _unlock(fd: int, offset: int) -> None:
        fcntl.lockf(fd, fcntl.LOCK_UN, 1, offset)


class LockFile:
    """One lock file, as one process holds it."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._thread_lock = threading.Lock()
        self._alive_pid = 0

    def after_fork(self) -> None:
        """In a forked child: another thread of the parent may have held it."""
        self._thread_lock = threading.Lock()

    def close(self) -> None:
        """Let go of everything; the file is not used again through this object."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @contextmanager
    def mutex(self) -> Iterator[None]:
        """Hold the mutex among threads and processes.

        Waits at most 30 s: a holder that was stopped must not stop everybody's pipelines for ever.
        """
        with self._thread_lock:
            held = _try_lock(self._fd, _MUTEX)
            if not held:
                held = self._wait()
            try:
                yield
            finally:
                if held:
                    try:
                        _unlock(self._fd, _MUTEX)
                    except OSError:
                        pass

    def _wait(self) -> bool:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        pause = 0.0002
        while time.monotonic() < deadline:
            time.sleep(pause)
            if _try_lock(self._fd, _MUTEX):
                return True
            pause = min(pause * 1.5, 0.005)
        return False

    def mark_alive(self) -> None:
        """Say that this process lives; the kernel takes it back when the process is gone, however it goes."""
        pid = os.getpid()
        if self._alive_pid != pid:
            _try_lock(self._fd, 1 + pid)
            self._alive_pid = pid

    def holder(self, pid: int) -> int | None:
        """The pid that holds the mark of `pid` in this job, which is its own; None if nobody does."""
        if pid == os.getpid():
            return pid if self._alive_pid == pid else None
        if _try_lock(self._fd, 1 + pid):
            try:
                _unlock(self._fd, 1 + pid)
            except OSError:
                pass
            return None
        return pid

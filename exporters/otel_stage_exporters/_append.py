"""Appending to files that many threads and processes write: one `write` per record, in the kernel on return.

Beside other Python threads each `os.write` gives up the interpreter lock and waits up to a switch interval to
get it back, which makes a record 30 times dearer. So while foreign threads exist, small writes to local disks
keep the lock. A file system that may block (NFS) is never written that way: it would stop all threads.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

_FLAGS = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)
_SMALL = 65_536
# How many records pass between two looks at the threads.
_LOOK_EVERY = 64
_MOST_RETIRED = 32
_REST_SECONDS = 1.0
# Magic numbers of statfs(2): ext, xfs, btrfs, tmpfs, ramfs, overlayfs, f2fs, zfs.
_LOCAL = {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x858458F6, 0x794C7630, 0xF2F52010, 0x2FC12FC1}
_OWN_THREADS = ("otel-stage", "OtelBatch", "OtelPeriodic")

Write = Callable[[int, bytes, int], int]


def open_append(path: str) -> int:
    """A descriptor that appends to `path`, which is made if need be and is never a symbolic link.

    Raises:
        OSError: It cannot be opened.
    """
    return os.open(path, _FLAGS, 0o666)


class Appender:
    """Writes records; notices by itself whether other Python threads run.

    Args:
        hold_gil: Whether small writes may keep the interpreter lock at all.
        folder: A folder on the file system in question.
    """

    def __init__(self, *, hold_gil: bool, folder: str) -> None:
        self._holding: Write | None = None
        self._may_hold = hold_gil and sys.platform != "win32"
        self._folder = folder
        self._left = 1
        self._torn: set[int] = set()
        self._retired: deque[tuple[float, int]] = deque()

    def finish(self) -> None:
        """The run is over: close what is left."""
        while self._retired:
            os.close(self._retired.popleft()[1])

    def prepare(self) -> None:
        """Import what holding needs while no thread is in the way; beside one each file read costs 5 ms."""
        if self._may_hold:
            import ctypes  # noqa: F401 - for later

    def write(self, fd: int, data: bytes) -> None:
        """Append one record.

        Raises:
            OSError: Not all could be written.
        """
        self._left -= 1
        if self._left <= 0:
            self._look()
        if self._torn and fd in self._torn:
            # The last record went out in part only: this one begins at column 0 all the same.
            data = b"\n" + data
        holding = self._holding
        size = len(data)
        written = os.write(fd, data) if holding is None or size > _SMALL else holding(fd, data, size)
        if written != size:
            self._rest(fd, data, max(written, 0))
        elif self._torn:
            self._torn.discard(fd)

    def _rest(self, fd: int, data: bytes, written: int) -> None:
        """Only a part went out, or nothing: let the system take the rest or say why not."""
        while written < len(data):
            try:
                written += os.write(fd, data[written:])
            except OSError:
                if written:
                    self._torn.add(fd)
                raise
        self._torn.discard(fd)

    def close(self, fd: int) -> None:
        """Close a descriptor, a moment later.

        Another thread may be about to write to it, and its number will be another file's.
        """
        self._torn.discard(fd)
        now = time.monotonic()
        self._retired.append((now, fd))
        while self._retired and (len(self._retired) > _MOST_RETIRED or now - self._retired[0][0] > _REST_SECONDS):
            try:
                os.close(self._retired.popleft()[1])
            except (OSError, IndexError):
                continue

    def _look(self) -> None:
        self._left = _LOOK_EVERY
        if not self._may_hold:
            return
        others = threading.active_count() > 1 and _foreign_threads()
        if not others:
            self._holding = None
        elif self._holding is None:
            self._holding = _holding_write(self._folder)
            self._may_hold = self._holding is not None


def _foreign_threads() -> bool:
    return sum(not t.name.startswith(_OWN_THREADS) for t in threading.enumerate()) > 1


def _holding_write(folder: str) -> Write | None:
    """`write` of the C library, called with the interpreter lock kept; None where that is not wise."""
    try:
        import ctypes

        libc = ctypes.PyDLL(None)
        if sys.platform == "linux" and not _is_local(ctypes.CDLL(None), folder):
            return None
        write = libc.write
        write.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
        write.restype = ctypes.c_ssize_t
    except (ImportError, OSError, AttributeError):
        return None
    held: Write = write
    return held


def _is_local(libc: object, folder: str) -> bool:
    import ctypes

    buffer = ctypes.create_string_buffer(256)
    if libc.statfs(os.fsencode(folder), buffer) != 0:  # type: ignore[attr-defined]  # functions of a CDLL
        return False
    magic = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF
    return magic in _LOCAL

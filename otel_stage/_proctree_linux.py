"""The process tree by Linux's /proc, with descriptors that stay open."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from otel_stage._proctree import Living, ProcessTree

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_KEEP_SHARE = 6  # of the descriptors that a process may have, at most one in so many is ours
_FULL_PAGE = 3500  # the kernel hands out a list of children by the page: a shorter piece was the last


def works_here() -> bool:
    """Tell whether /proc is there, shows our own pid namespace and lists children."""
    try:
        pid = os.getpid()
        return os.readlink("/proc/self") == str(pid) and os.path.exists(f"/proc/{pid}/task/{pid}/children")
    except OSError:
        return False


class LinuxTree(ProcessTree):
    """Reads `task/*/children`, `stat`, `statm` and `io` below /proc."""

    tick = 1.0 / _TICKS

    def __init__(self) -> None:
        super().__init__()
        self._root = f"/proc/{self.pid}"
        self._files: dict[str, int] = {}
        self._room = 0
        self._room_known = False

    def clock(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def rss(self) -> int | None:
        try:
            return int(self._read(f"{self._root}/statm", 64).split(None, 2)[1]) * _PAGE
        except (OSError, ValueError, IndexError):
            return None

    def io(self) -> tuple[int, int] | None:
        try:
            return _parse_io(self._read(f"{self._root}/io", 512))
        except (OSError, ValueError, IndexError):
            return None

    def io_living(self) -> dict[int, tuple[int, int]] | None:
        found = {}
        for pid in self.known:
            try:
                found[pid] = _parse_io(_read_once(f"/proc/{pid}/io", 512))
            except (FileNotFoundError, ProcessLookupError):
                continue  # waited for since the walk: its figures are ours now
            except (OSError, ValueError, IndexError):
                return None
        return found

    def close(self) -> None:
        files, self._files = self._files, {}
        self._room_known = False
        for fd in files.values():
            _close(fd)

    def _read(self, path: str, size: int) -> bytes:
        """Read a file from its start, by its kept descriptor if there is one or room for one."""
        fd = self._files.get(path)
        if fd is None:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if len(self._files) >= self._limit():
                try:
                    return os.read(fd, size)
                finally:
                    os.close(fd)
            self._files[path] = fd
        try:
            return os.pread(fd, size, 0)
        except OSError:
            # The process behind it ended. Another may have its number by now: only a fresh look can tell.
            del self._files[path]
            _close(fd)
            return _read_once(path, size)

    def _limit(self) -> int:
        if not self._room_known:
            import resource

            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            self._room = min(soft // _KEEP_SHARE, 1024) if soft >= 0 else 1024
            self._room_known = True
        return self._room

    def _scan(self) -> dict[int, Living]:
        found: dict[int, Living] = {}
        queue = self._children(self._root, 2)
        while queue:
            pid = int(queue.pop())
            if pid in found:
                continue
            root = f"/proc/{pid}"
            try:
                # The name may hold blanks and brackets: the fields are what follows the last bracket.
                stat = self._read(f"{root}/stat", 1024)
                field = stat[stat.rindex(b")") + 2 :].split(None, 21)
                cpu = (int(field[11]) + int(field[12]) + int(field[13]) + int(field[14])) / _TICKS
                started = int(field[19]) / _TICKS
                last = self.known.get(pid)
                if last is not None and last.started != started:
                    self._forget(pid)  # the number was given to another process
                dead = field[0] == b"Z"
                rss = 0 if dead else int(self._read(f"{root}/statm", 64).split(None, 2)[1]) * _PAGE
            except (OSError, ValueError, IndexError):
                self._forget(pid)  # ended and waited for between the list and now
                continue
            found[pid] = Living(cpu, started, rss)
            if not dead:
                queue += self._children(root, int(field[17]))
        return found

    def _children(self, root: str, threads: int) -> list[bytes]:
        """Return the pids that a process's threads started and that live."""
        leader = root[6:]
        tids = [leader]
        try:
            if threads > 1:
                tids = os.listdir(f"{root}/task")
        except OSError:
            return []
        pids: list[bytes] = []
        for tid in tids:
            path = f"{root}/task/{tid}/children"
            try:
                part = self._read(path, 4096) if tid == leader else _read_once(path, 4096)
                pids += part.split()
                if len(part) >= _FULL_PAGE:
                    pids += _read_rest(path, len(part)).split()
            except OSError:
                continue  # the thread ended: its children went to another one
        return pids

    def _let_go(self, found: Mapping[int, Living]) -> None:
        for pid in self.known:
            if pid not in found:
                self._forget(pid)

    def _forget(self, pid: int) -> None:
        """Close what belonged to a process that is gone."""
        for name in ("stat", "statm", f"task/{pid}/children"):
            fd = self._files.pop(f"/proc/{pid}/{name}", None)
            if fd is not None:
                _close(fd)

    def _left_alive(self, pid: int, last: Living) -> bool:
        try:
            stat = _read_once(f"/proc/{pid}/stat", 1024)
            field = stat[stat.rindex(b")") + 2 :].split(None, 20)
            return int(field[19]) / _TICKS == last.started
        except (OSError, ValueError, IndexError):
            return False


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # somebody closed every descriptor of the process: nothing is left to give back


def _read_once(path: str, size: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def _read_rest(path: str, offset: int) -> bytes:
    """Read on from an offset to the end, for lists of hundreds of children."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.pread(fd, 4096, offset):
            parts.append(part)
            offset += len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _parse_io(data: bytes) -> tuple[int, int]:
    words = data.split()
    if words[8] != b"read_bytes:" or words[10] != b"write_bytes:":
        raise ValueError(data)
    return int(words[9]), int(words[11])

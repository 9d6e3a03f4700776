"""What the kernel says about this process and its descendants, read cheaply.

`open_tree()` picks the reader. On Linux the tree is found by `/proc/PID/task/*/children` and every process
read by descriptors that stay open, so a look costs microseconds a process and never depends on how many
others the machine runs. Anywhere else, and when `OTEL_STAGE_PORTABLE=1` is set, psutil does the same for
more.

Definitions:
    - Memory is resident memory. A sum over processes counts a page as often as processes share it.
    - CPU of descendants that were waited for is in the kernel's own accounting (`own_usage`); CPU of the
      others is read from each. A descendant that leaves the tree alive, because its parent ended before it,
      keeps the figure that was seen last.
    - Bytes read and written are those that reached the storage layer (`read_bytes`, `write_bytes` of
      `/proc/PID/io`): reads served from the page cache and files on tmpfs do not count, and written pages
      count when they are dirtied, even if the file is deleted before they reach the disk. Linux adds the
      figures of a child to its parent when it is waited for. Other systems count something else, so there
      they are absent.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from otel_stage.semconv import ENV_PORTABLE

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # a module or None: mypy has no type for that

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class OwnUsage(NamedTuple):
    """The kernel's accounting of this process and of the children it waited for."""

    cpu: float
    """User and system seconds of both."""
    peak: int
    """Largest resident memory of this process so far, in bytes; 0 if unknown."""
    children_peak: int
    """Largest resident memory of any one descendant that was waited for, in bytes; 0 if unknown."""
    reaped: object
    """Compares unequal once another child was waited for."""


class Living(NamedTuple):
    """One living descendant."""

    cpu: float
    """User and system seconds, those of its own waited-for children included."""
    started: float
    """When it started, on the clock of `ProcessTree.clock`."""
    rss: int | None
    """Resident bytes."""


class Reading(NamedTuple):
    """One look at the tree."""

    rss: int | None
    """Resident bytes of this process and its descendants."""
    own_rss: int | None
    """Resident bytes of this process alone."""
    cpu: float
    """Seconds of descendants that `OwnUsage.cpu` does not have."""
    living: Mapping[int, Living]
    """The descendants by pid."""


def own_usage() -> OwnUsage:
    """Return the kernel's accounting of this process and its waited-for children; costs about 2 µs."""
    if resource is None:
        t = os.times()
        return OwnUsage(t.user + t.system + t.children_user + t.children_system, 0, 0, None)
    own = resource.getrusage(resource.RUSAGE_SELF)
    kids = resource.getrusage(resource.RUSAGE_CHILDREN)
    return OwnUsage(
        own[0] + own[1] + kids[0] + kids[1],
        own[2] * _MAXRSS_UNIT,
        kids[2] * _MAXRSS_UNIT,
        (kids[0], kids[1], kids[6]),  # minor faults: no process lives without some
    )


def child_peak(rusage: Any) -> int | None:
    """Return the peak memory of a child ended by `os.wait4`, in bytes, or None if it cannot be known.

    A child inherits the peak of the process that started it until it has a higher one of its own, so a figure
    that does not exceed ours says nothing about the child.

    Args:
        rusage: What `os.wait4` returned.
    """
    peak = int(rusage.ru_maxrss) * _MAXRSS_UNIT
    return peak if peak > image_peak() else None


def image_peak() -> int:
    """Return the peak memory of this process since it began to run its program, in bytes.

    What a child inherits is this mark. `ru_maxrss` is no measure of it: it goes back to before our own exec,
    to the process that started us.
    """
    try:
        with open("/proc/self/status", "rb") as f:
            return int(f.read().partition(b"VmHWM:")[2].split(None, 1)[0]) * 1024
    except (OSError, ValueError, IndexError):
        return own_usage().peak


class ProcessTree:
    """Reads this process and its descendants; subclasses know how, this one sees nothing."""

    tick = 0.0
    """Resolution of `Living.started`, in seconds."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.known: Mapping[int, Living] = {}
        self.known_as_of: object = None
        """`OwnUsage.reaped` of that moment: while it is the same, none of them has joined our accounting."""
        self._departed: dict[tuple[int, float], float] = {}

    def clock(self) -> float:
        """Return the time on the clock of `Living.started`, in seconds."""
        return time.time()

    def has_children(self) -> bool | None:
        """Tell whether this process has children, zombies included; None if only a walk could tell."""
        waitid = getattr(os, "waitid", None)
        if waitid is None:
            return None
        try:
            waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        except OSError:
            return None
        return True

    def rss(self) -> int | None:
        """Return the resident bytes of this process alone."""
        return None

    def io(self) -> tuple[int, int] | None:
        """Return bytes read and written by this process and its waited-for children, or None."""
        return None

    def io_living(self) -> dict[int, tuple[int, int]] | None:
        """Return the same for every descendant of the last walk, or None if one may not be asked."""
        return None

    def close(self) -> None:
        """Give back every descriptor; the tree can be used again."""

    def _scan(self) -> dict[int, Living]:
        """Return every descendant."""
        return {}

    def _left_alive(self, _pid: int, _last: Living) -> bool:
        """Tell whether a process that the walk no longer found will never join our accounting."""
        return False

    def departed_cpu(self) -> float:
        """Return the CPU seconds, as last seen, of descendants that left the tree."""
        return sum(self._departed.values())

    def walk(self, own: OwnUsage, *, children: bool | None = None) -> Reading:
        """Look at the whole tree.

        Args:
            own: The accounting just read.
            children: What `has_children` said, if it was asked already; False saves the search.
        """
        rss = self.rss()
        if children is None:
            children = self.has_children()
        found = {} if children is False else self._scan()
        for pid, last in self.known.items():
            now = found.get(pid)
            if (now is None or now.started != last.started) and self._left_alive(pid, last):
                self._departed[pid, last.started] = last.cpu
        if self._departed:
            # A list of children is no snapshot: one that was missed by the last walk may be back.
            for pid, one in found.items():
                self._departed.pop((pid, one.started), None)
        if len(found) != len(self.known) or found.keys() != self.known.keys():
            self._let_go(found)
        self.known, self.known_as_of = found, own.reaped
        if not found:
            return Reading(rss, rss, self.departed_cpu(), found)
        total = None if rss is None else rss + sum(one.rss or 0 for one in found.values())
        return Reading(total, rss, sum(one.cpu for one in found.values()) + self.departed_cpu(), found)

    def _let_go(self, found: Mapping[int, Living]) -> None:
        """Give back what belonged to known descendants that are no longer found."""


class PortableTree(ProcessTree):
    """The tree by psutil, for every system it knows."""

    def __init__(self) -> None:
        super().__init__()
        import psutil

        self._psutil = psutil
        self._own = psutil.Process()

    def rss(self) -> int | None:
        try:
            return int(self._own.memory_info().rss)
        except self._psutil.Error:
            return None

    def io(self) -> tuple[int, int] | None:
        return self._io_of(self._own)

    def io_living(self) -> dict[int, tuple[int, int]] | None:
        found = {}
        for pid in self.known:
            try:
                one = self._io_of(self._psutil.Process(pid))
            except self._psutil.NoSuchProcess:
                continue
            if one is None:
                return None
            found[pid] = one
        return found

    def _io_of(self, process: Any) -> tuple[int, int] | None:
        if not sys.platform.startswith("linux"):
            return None
        try:
            counters = process.io_counters()
        except (self._psutil.AccessDenied, AttributeError, OSError, RuntimeError):
            return None
        return counters.read_bytes, counters.write_bytes

    def _scan(self) -> dict[int, Living]:
        found: dict[int, Living] = {}
        for process in self._own.children(recursive=True):
            try:
                with process.oneshot():
                    t = process.cpu_times()
                    waited = getattr(t, "children_user", 0.0) + getattr(t, "children_system", 0.0)
                    cpu = t.user + t.system + waited
                    started = process.create_time()
                    try:
                        rss = process.memory_info().rss
                    except self._psutil.AccessDenied:
                        rss = None
            except self._psutil.Error:
                continue
            found[process.pid] = Living(cpu, started, rss)
        return found

    def _left_alive(self, pid: int, last: Living) -> bool:
        if os.name == "nt":
            return True  # what ended there is in no accounting but this one
        try:
            return bool(self._psutil.Process(pid).create_time() == last.started)
        except self._psutil.Error:
            return False


def open_tree() -> ProcessTree:
    """Return the fastest reader that works here."""
    if sys.platform.startswith("linux") and os.environ.get(ENV_PORTABLE, "") not in {"1", "true"}:
        from otel_stage._proctree_linux import LinuxTree, works_here

        if works_here():
            return LinuxTree()
    try:
        return PortableTree()
    except Exception:  # psutil cannot live here either, in a chroot without /proc for instance
        return ProcessTree()

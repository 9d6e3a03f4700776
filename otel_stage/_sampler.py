"""The one thread of a process that looks at resources and calls housekeepers.

It runs while a meter or a housekeeper wants it, sleeps until the next of them is due, and holds itself to
half a per cent of a core: the longer a look takes, the later the next one.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from otel_stage import _gpu
from otel_stage._proctree import OwnUsage, ProcessTree, Reading, open_tree, own_usage

THREAD_NAME = "otel-stage-sampler"

Housekeeper = Callable[[], float | None]

_SHARE = 0.005  # of a core, for looking at resources
_LONGEST_PAUSE = 10.0
_LINGER = 0.25  # a row of short stages must not start a thread each
_KEEPER_DELAY = 0.5
_KEEPER_SHORTEST = 0.25
_GPU_SHORTEST = 0.25
_FOREVER = 60.0
_COALESCE = 0.005  # a thread that wakes this soon anyway is not woken


class Look(NamedTuple):
    """One look at the resources of the process tree."""

    at: float
    """`time.monotonic()`."""
    own: OwnUsage
    tree: Reading
    io: dict[int, tuple[int, int]] | None
    """Bytes read and written by living descendants; None if it was not asked or may not be known."""
    gpus: tuple[_gpu.GpuReading, ...] | None
    """None if no GPU was asked."""


class Watcher(Protocol):
    """What the thread wants of a meter."""

    due: float
    settled: bool

    def take(self, look: Look) -> bool:
        """Take a look into account, set `due` anew and tell whether it belongs into the series."""
        ...

    def record(self) -> None:
        """Write the series' next point."""
        ...


class _Keeper:
    def __init__(self, now: float) -> None:
        self.last = now
        self.due = now + _KEEPER_SHORTEST


class Sampler:
    """The thread, who wants it, and what it reads; one per process, a forked child gets a new one."""

    def __init__(self) -> None:
        # Re-entrant, like `tree_lock`: a signal handler may end a stage while its thread is in here.
        self._cond = threading.Condition(threading.RLock())
        self.tree_lock = threading.RLock()
        self._tree: ProcessTree | None = None
        self._watchers: list[Watcher] = []
        self._keepers: dict[Housekeeper, _Keeper] = {}
        self._thread: threading.Thread | None = None
        self._sleeps_until = -math.inf
        self._not_before = -math.inf
        self._idle_since: float | None = None
        self._gpu_not_before = -math.inf

    @property
    def tree(self) -> ProcessTree:
        """The reader of the process tree; hold `tree_lock` while using it."""
        if self._tree is None:
            self._tree = open_tree()
        return self._tree

    def join(self, watcher: Watcher, greet: Callable[[list[Watcher]], None]) -> None:
        """Add a meter; `greet` gets those that are open already, before any of them can leave."""
        with self._cond:
            greet(self._watchers)
            self._watchers.append(watcher)
            self._rouse(watcher.due)

    def leave(self, watcher: Watcher) -> None:
        """Take a meter out: no look reaches it any more."""
        with self._cond, contextlib.suppress(ValueError):
            self._watchers.remove(watcher)

    def add_housekeeper(self, fn: Housekeeper) -> None:
        """Have a function called regularly."""
        with self._cond:
            keeper = self._keepers.setdefault(fn, _Keeper(time.monotonic()))
            self._rouse(keeper.due)

    def remove_housekeeper(self, fn: Housekeeper) -> None:
        """Have it called no more; a call under way may still end."""
        with self._cond:
            self._keepers.pop(fn, None)

    def wake(self) -> None:
        """Call every housekeeper as soon as its shortest delay allows."""
        with self._cond:
            now = time.monotonic()
            for keeper in self._keepers.values():
                keeper.due = min(keeper.due, max(now, keeper.last + _KEEPER_SHORTEST))
            if self._keepers:
                self._rouse(min(keeper.due for keeper in self._keepers.values()))

    def abandon(self) -> None:
        """Give back the descriptors of a sampler that a fork left without its thread."""
        if self._tree is not None:
            self._tree.close()

    def _rouse(self, due: float) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter ends: figures without samples, then
                return
            self._thread = thread
        elif due < self._sleeps_until - _COALESCE:
            self._cond.notify()

    def _run(self) -> None:
        while True:
            try:
                if not self._round():
                    return
            except BaseException:  # nobody could see it; the next round may work
                with self._cond:
                    self._cond.wait(_KEEPER_DELAY)

    def _round(self) -> bool:
        with self._cond:
            now = time.monotonic()
            until = self._next(now)
            if until > now:
                if math.isinf(until):
                    return True
                self._sleeps_until = until
                try:
                    self._cond.wait(min(until - now, _FOREVER))
                finally:
                    self._sleeps_until = -math.inf
                return True
            if self._idle_since is not None:
                self._thread = None
                with self.tree_lock:
                    if self._tree is not None:
                        self._tree.close()
                return False
            keepers = [(fn, keeper) for fn, keeper in self._keepers.items() if keeper.due <= now]
            look = bool(self._watchers) and max(self._not_before, min(w.due for w in self._watchers)) <= now
        for fn, keeper in keepers:
            self._keep(fn, keeper)
        if look:
            self._look()
        return True

    def _next(self, now: float) -> float:
        """Return when there is something to do; the end of lingering is something."""
        if not self._watchers and not self._keepers:
            if self._idle_since is None:
                self._idle_since = now
            return self._idle_since + _LINGER
        self._idle_since = None
        until = min((keeper.due for keeper in self._keepers.values()), default=math.inf)
        if self._watchers:
            until = min(until, max(self._not_before, min(w.due for w in self._watchers)))
        return min(until, now + _FOREVER)

    def _keep(self, fn: Housekeeper, keeper: _Keeper) -> None:
        with self._cond:
            if self._keepers.get(fn) is not keeper:
                return  # removed since it fell due
            keeper.last = time.monotonic()
            keeper.due = math.inf  # until the call returns only `wake` can ask for another
        try:
            delay = fn()
            wanted = _KEEPER_DELAY if delay is None else max(_KEEPER_SHORTEST, float(delay))
        except BaseException:  # a housekeeper that fails is called again, and the others are served
            wanted = _KEEPER_DELAY
        if math.isnan(wanted):
            wanted = _KEEPER_DELAY
        with self._cond:
            keeper.due = min(keeper.due, keeper.last + wanted)

    def _look(self) -> None:
        began = time.thread_time()
        with self._cond:
            watchers = list(self._watchers)  # one that joins from here on is not meant by this look
            unsettled = any(not watcher.settled for watcher in watchers)
        with self.tree_lock:
            tree = self.tree
            own = own_usage()
            reading = tree.walk(own)
            io = tree.io_living() if unsettled else None
        now = time.monotonic()
        gpus = None
        cost = time.thread_time() - began
        if now >= self._gpu_not_before:
            self._gpu_not_before = now + _GPU_SHORTEST
            opened = _gpu.is_open()
            began = time.thread_time()
            gpus = _gpu.read({tree.pid, *reading.living})
            if opened:  # opening the driver is paid once
                cost += time.thread_time() - began
        self._not_before = now + min(cost / _SHARE, _LONGEST_PAUSE)
        look = Look(now, own, reading, io, gpus)
        with self._cond:
            present = set(map(id, self._watchers))
            recording = [watcher for watcher in watchers if id(watcher) in present and watcher.take(look)]
        for watcher in recording:
            watcher.record()

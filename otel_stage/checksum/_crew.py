"""Threads that hash in the background, and are gone when there is nothing to do."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from otel_stage.checksum._content import ReadBuffer

if TYPE_CHECKING:
    from collections.abc import Callable

    Job: TypeAlias = Callable[[ReadBuffer], None]

# Long enough to serve a burst with one start, short enough that a later fork finds one thread only.
_LINGER_SECONDS = 0.5


def core_count() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


class Crew:
    """Daemon threads around one queue; at most one per core, none at all before the first job.

    Daemons, and no ``concurrent.futures``, because that one joins its threads when the interpreter
    exits: a large file being hashed must not hold up the end of a program. In a forked child the
    threads do not exist, so there the crew begins anew.

    Args:
        size: Most threads at a time; the cores of this process if not given.
    """

    __slots__ = ("__weakref__", "_idle", "_jobs", "_size", "_turn", "_workers")

    def __init__(self, size: int | None = None) -> None:
        """Start nothing yet."""
        self._size = size
        self._reset()
        _crews.add(self)

    def _reset(self) -> None:
        self._jobs: deque[Job] = deque()
        # The lock inside is reentrant, so a signal handler may hand over a job while one is handed over.
        self._turn = threading.Condition()
        self._workers = 0
        self._idle = 0

    @property
    def size(self) -> int:
        """The most threads that will work at a time."""
        return self._size or core_count()

    def put(self, job: Job, times: int = 1) -> None:
        """Queue a job, and see to it that somebody does it.

        Args:
            job: Called with the thread's own buffer. What it raises is lost.
            times: How many threads shall call it, each once.
        """
        with self._turn:
            for _ in range(times):
                self._jobs.append(job)
                if self._idle >= len(self._jobs):
                    self._turn.notify()
                elif self._workers < self.size and not self._hire():
                    return

    def _hire(self) -> bool:
        thread = threading.Thread(target=self._work, name="otel-stage-hash", daemon=True)
        self._workers += 1
        try:
            thread.start()
        except RuntimeError:
            # No more threads allowed, or the interpreter is ending: whoever waits does the job itself.
            self._workers -= 1
            return False
        return True

    def _work(self) -> None:
        buffer = ReadBuffer()
        while True:
            with self._turn:
                while not self._jobs:
                    self._idle += 1
                    called = self._turn.wait(_LINGER_SECONDS)
                    self._idle -= 1
                    if not called and not self._jobs:
                        self._workers -= 1
                        return
                job = self._jobs.popleft()
            try:
                job(buffer)
            except BaseException:
                # A job answers for itself; the thread goes on.
                pass
            # Else the last job, and all it holds, would live until the next one comes.
            del job


class _Epoch:
    """Counts the forks between the first process and this one."""

    number = 0


epoch = _Epoch()
_crews: weakref.WeakSet[Crew] = weakref.WeakSet()


def _after_fork() -> None:
    epoch.number += 1
    for crew in list(_crews):
        crew._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

crew = Crew()

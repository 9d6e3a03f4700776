"""The bounded side file that keeps what was sampled while a stage ran, for pictures."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from typing import Any

LIMIT = 2_000
"""Points that a file holds at most."""


class SeriesWriter:
    """Appends points to a JSON-lines file and thins it out when it is full.

    A full file keeps every second line, and from then on only every second point is written, and so on: a
    stage of any length ends with between half the limit and the limit. Each point is in the kernel before
    `append` returns. The first error of the file system is said once, by a warning on logger `otel_stage`;
    nothing is written after.

    Args:
        path: The file. It is made by the first point; one that is there already is replaced then.
        limit: Points that it may hold.
    """

    def __init__(self, path: str, limit: int = LIMIT) -> None:
        self._path = path
        self._limit = max(2, limit)
        self._lock = threading.RLock()
        self._offered = 0
        self._every = 1
        self._lines = 0
        self._closed = False

    @property
    def started(self) -> bool:
        """Tell whether the file was made."""
        return self._lines > 0

    def append(self, point: Mapping[str, Any], *, last: bool = False) -> None:
        """Write a point, unless the file's present resolution leaves it out.

        Args:
            point: What to write.
            last: This one is written whatever the resolution, and none after it.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = last
            wanted = last or self._offered % self._every == 0
            self._offered += 1
            if not wanted:
                return
            try:
                if self._lines >= self._limit:
                    self._thin()
                self._write(point)
            except (OSError, ValueError) as error:
                self._closed = True
                self._complain(error)

    def _write(self, point: Mapping[str, Any]) -> None:
        start = os.O_TRUNC if self._lines == 0 else 0
        # Opened for each point: at one a second that is cheap, and no descriptor outlives a fork or a crash.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | start | getattr(os, "O_CLOEXEC", 0)
        fd = os.open(self._path, flags, 0o666)
        try:
            os.write(fd, json.dumps(point, separators=(",", ":")).encode() + b"\n")
        finally:
            os.close(fd)
        self._lines += 1

    def _thin(self) -> None:
        with open(self._path, "rb") as file:
            kept = file.readlines()[::2]
        temporary = f"{self._path}.tmp"
        with open(temporary, "wb") as file:
            file.writelines(kept)
        os.replace(temporary, self._path)
        self._lines = len(kept)
        self._every *= 2
        self._offered = 1  # the point at hand is written now and counts as the first of the new spacing

    def _complain(self, error: Exception) -> None:
        import logging

        logger = logging.getLogger("otel_stage")
        logger.warning("resource samples are no longer kept in %s: %s", self._path, error)

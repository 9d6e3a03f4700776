"""Hash now, hash many at once, or hash in the background."""

from __future__ import annotations

import os
import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

from otel_stage.checksum._content import (
    DEFAULT_ALGORITHM,
    SMALL_BYTES,
    Digest,
    NotRegularFile,
    ReadBuffer,
    digest_file,
    digest_small,
)
from otel_stage.checksum._crew import Crew, crew, epoch
from otel_stage.checksum._facts import AnyPath, Facts, Signature, describe, look
from otel_stage.checksum._tree import join, listing, surveyed, tree_checksum

if TYPE_CHECKING:
    from collections.abc import Iterable


def hash_directory(path: AnyPath, algorithm: str = DEFAULT_ALGORITHM) -> tuple[str, int, int]:
    r"""Return the checksum of all files below a directory, large ones hashed on every core.

    The rule, for ``sha256``; the shell comes to the same value with GNU tools, whatever the names::

        cd DIR && find . -type d -name .otel-stage -prune -o -type f -print0 |
          LC_ALL=C sort -z | xargs -0r sha256sum -z | sha256sum

    That is: of every regular file at any depth the line ``<hex>  ./<path>\0``, ordered by the bytes of the
    paths, all of it hashed again. Folders named ``.otel-stage`` are left out. Symbolic links inside are
    neither followed nor counted, nor are FIFOs, sockets, devices and empty folders: they change nothing.
    Modes, owners and dates do not either. A directory without files has the checksum of no bytes.
    Other algorithms: ``sha512sum``, ``sha1sum``, ``md5sum``, ``b2sum`` (for ``blake2b``) in both places.

    Args:
        path: The directory, or a symbolic link to one.
        algorithm: One of ``ALGORITHMS``.

    Returns:
        ``"<algorithm>:<hex>"``, the total size in bytes, the number of files.

    Raises:
        OSError: It is no directory, or something in it cannot be read or vanished meanwhile.
        ValueError: The algorithm is unknown.
    """
    return _hash_listing(path, listing(path), algorithm)


def hash_many(files: Iterable[tuple[AnyPath, Facts]], algorithm: str = DEFAULT_ALGORITHM) -> list[Digest]:
    """Hash many files at once and return when all are done; for the end of a stage.

    Small files are hashed by the caller one after the other, which no thread could do faster. Large ones
    are shared by all cores, the caller's included.

    Args:
        files: Paths, each with what ``look`` or ``survey`` said about it. Directories are welcome.
        algorithm: One of ``ALGORITHMS``.

    Returns:
        A digest for each, in the same order. Nothing is raised for what a path is.
    """
    return _digest_all(list(files), algorithm)


class Pending:
    """A checksum that is being made.

    Attributes of the file are in the ``Digest`` that ``result`` returns.
    """

    __slots__ = ("_algorithm", "_crew", "_digest", "_epoch", "_facts", "_locks", "_path")

    def __init__(self, path: AnyPath, facts: Facts, algorithm: str, workers: Crew) -> None:
        """Queue the work."""
        self._path = path
        self._facts = facts
        self._algorithm = algorithm
        self._crew = workers
        self._digest: Digest | None = None
        self._start()

    def _start(self) -> None:
        self._epoch = epoch.number
        # Plain locks, one to claim the work and one that is held until it is done: a signal handler may
        # ask for the result in the middle of a wait for it.
        claim, done = threading.Lock(), threading.Lock()
        done.acquire()
        self._locks = (claim, done)
        self._crew.put(self._run)

    @property
    def done(self) -> bool:
        """Whether ``result`` would return at once."""
        return self._digest is not None

    def result(self, timeout: float | None = None) -> Digest | None:
        """Wait for the digest.

        Args:
            timeout: Seconds to wait. Without one the caller does the work itself if no thread has
                begun it, so the answer comes even where no thread can be started.

        Returns:
            The digest, or ``None`` when the time is over. Never raises for what the file is.
        """
        if self._digest is not None:
            return self._digest
        if self._epoch != epoch.number:
            # The thread that had it in hand stayed behind in the parent of this process.
            self._start()
        if timeout is None:
            self._run(None)
        done = self._locks[1]
        if self._digest is None and done.acquire(timeout=_lock_seconds(timeout)):
            done.release()
        return self._digest

    def _run(self, buffer: ReadBuffer | None) -> None:
        claim, done = self._locks
        if not claim.acquire(blocking=False):
            return
        try:
            self._digest = _digest(self._path, self._facts, self._algorithm, buffer)
        except BaseException as exc:
            self._digest = Digest(None, error=describe(exc))
            raise
        finally:
            done.release()


class _Finished(Pending):
    """A checksum that was made on the spot: small, and without locks."""

    __slots__ = ()

    def __init__(self, digest: Digest) -> None:
        self._digest = digest


class Hasher:
    """Hashes files in the background while the caller goes on.

    Example:
        >>> Hasher().submit("/nowhere", look("/nowhere")).result().error
        'FileNotFoundError: nothing is there'

    Args:
        threads: Most threads at a time. By default all hashers of the process share one thread per core.
    """

    __slots__ = ("_crew",)

    def __init__(self, threads: int | None = None) -> None:
        """Start nothing yet."""
        self._crew = crew if threads is None else Crew(threads)

    def submit(self, path: AnyPath, facts: Facts, algorithm: str = DEFAULT_ALGORITHM) -> Pending:
        """Hash a small file at once, leave a large one or a directory to the background.

        Args:
            path: The file. A relative one must keep its meaning until it is hashed.
            facts: What ``look`` said about it just now; the digest is measured against its signature.
            algorithm: One of ``ALGORITHMS``.

        Returns:
            A handle at once; nothing is raised for what the path is.
        """
        if facts.kind == "file" and facts.signature[2] < SMALL_BYTES:
            return _Finished(digest_small(path, facts[3], algorithm))
        if _is_large(facts):
            return Pending(path, facts, algorithm, self._crew)
        return _Finished(_digest(path, facts, algorithm, None))


def _lock_seconds(timeout: float | None) -> float:
    return -1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX)


def _is_large(facts: Facts) -> bool:
    return facts.kind == "directory" or (facts.kind == "file" and facts.signature[2] >= SMALL_BYTES)


def _digest(path: AnyPath, facts: Facts, algorithm: str, buffer: ReadBuffer | None) -> Digest:
    if facts.kind == "file":
        if facts.signature[2] < SMALL_BYTES:
            return digest_small(path, facts.signature, algorithm)
        return digest_file(path, facts.signature, algorithm, buffer)
    if facts.kind == "directory":
        return _digest_directory(path, facts, algorithm)
    if not facts.exists:
        return Digest(None, error=facts.error or "FileNotFoundError: nothing is there")
    error = f"{NotRegularFile.__name__}: a {facts.kind} has no content to hash"
    return Digest(None, None, facts.signature, facts.signature, None, error)


def _digest_directory(path: AnyPath, facts: Facts, algorithm: str) -> Digest:
    before: Signature = ()
    try:
        files = listing(path)
        before = facts.signature if facts.file_count is not None else surveyed(look(path), files).signature
        checksum, size, count = _hash_listing(path, files, algorithm)
        after = surveyed(look(path), listing(path)).signature
    except Exception as exc:
        return Digest(None, None, before, (), None, describe(exc))
    return Digest(checksum, size, before, after, count)


def _hash_listing(
    path: AnyPath, files: list[tuple[bytes, Signature]], algorithm: str
) -> tuple[str, int, int]:
    names = [name for name, _ in files]
    facts = [Facts(True, "file", signature[2], signature) for _, signature in files]
    paths: list[AnyPath] = [*join(path, names)]
    checksums: list[str] = []
    total = 0
    for name, digest in zip(names, _digest_all(list(zip(paths, facts, strict=True)), algorithm), strict=True):
        if digest.checksum is None or digest.size is None:
            raise OSError(f"{digest.error} - at {os.fsdecode(name)!r}")
        checksums.append(digest.checksum)
        total += digest.size
    return tree_checksum(names, checksums, algorithm), total, len(names)


def _digest_all(files: list[tuple[AnyPath, Facts]], algorithm: str) -> list[Digest]:
    large = sorted(
        (index for index, (_, facts) in enumerate(files) if _is_large(facts)),
        key=lambda index: -(files[index][1].size or 0),
    )
    digests: list[Digest | None] = [None] * len(files)
    todo = deque(large)
    finished: SimpleQueue[None] = SimpleQueue()

    def help_out(buffer: ReadBuffer) -> None:
        # Only what a running thread has taken is ever waited for, so threads of the crew that hash
        # directories can share files among each other and never wait in a circle.
        while True:
            try:
                index = todo.popleft()
            except IndexError:
                return
            try:
                digests[index] = _digest(*files[index], algorithm, buffer)
            finally:
                finished.put(None)

    # The caller has its hands full with the small ones first, if there are any.
    helpers = min(len(large) - (len(large) == len(files)), crew.size - 1)
    if helpers > 0:
        crew.put(help_out, helpers)
    try:
        for index, (path, facts) in enumerate(files):
            if facts.kind == "file":
                if facts.signature[2] < SMALL_BYTES:
                    digests[index] = digest_small(path, facts.signature, algorithm)
            elif facts.kind != "directory":
                digests[index] = _digest(path, facts, algorithm, None)
        help_out(ReadBuffer())
        for _ in large:
            finished.get()
    finally:
        todo.clear()
    return [digest or Digest(None, error="interrupted") for digest in digests]

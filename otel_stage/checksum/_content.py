"""From the bytes of one regular file to its checksum."""

from __future__ import annotations

import io
import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from otel_stage.checksum._facts import AnyPath, Facts, Signature, describe

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_ALGORITHM = "sha256"
ALGORITHMS = (
    "sha256",
    "sha512",
    "sha384",
    "sha224",
    "sha1",
    "md5",
    "blake2b",
    "blake2s",
    "sha3_256",
    "sha3_512",
)
# Below this a hand-over to a thread costs more than the hashing.
SMALL_BYTES = 256 * 1024

# Without O_NONBLOCK a FIFO that takes the file's place would hold us for ever; O_NOCTTY for terminals.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_FIRST_BUFFER_BYTES = 1 << 20
_LAST_BUFFER_BYTES = 1 << 23
# A FIPS build refuses these unless told that no security hangs on them.
_WEAK = ("md5", "sha1")


_TYPE_BITS = 0o170000
_REGULAR = stat.S_IFREG
# Looked up once: an attribute of a module costs what half a system call does.
_open, _read, _fstat, _close, _new_tuple = os.open, os.read, os.fstat, os.close, tuple.__new__


class NotRegularFile(OSError):  # noqa: N818 - reads like its siblings IsADirectoryError and NotADirectoryError
    """The path is a directory, FIFO, socket or device: there is no content to hash."""


class Hash(Protocol):
    """The part of a ``hashlib`` object that is used here."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class Digest(NamedTuple):
    """The outcome of hashing one file or directory.

    Attributes:
        checksum: ``"<algorithm>:<hex>"``, or ``None`` with an ``error``.
        size: Bytes that went into the checksum; ``None`` with an ``error``.
        signature_before: The signature (see ``Facts``) when the file was looked at.
        signature_after: The same after its last byte had been read.
        file_count: Files that went into the checksum of a directory.
        error: What went wrong, in one line.
    """

    checksum: str | None
    size: int | None = None
    signature_before: Signature = ()
    signature_after: Signature = ()
    file_count: int | None = None
    error: str | None = None

    @property
    def stable(self) -> bool:
        """Whether there is a checksum and the file was the same from the first look to the last byte."""
        return self.checksum is not None and self.signature_before == self.signature_after


class ReadBuffer:
    """A buffer that one thread reads large files into, again and again.

    Every read and every update gives up the GIL, and beside a thread that computes in Python getting it
    back takes a whole switch interval (5 ms). So the buffer grows while waiting outweighs working.
    """

    __slots__ = ("_view",)

    def __init__(self) -> None:
        """Take no memory before the first file comes."""
        self._view: memoryview | None = None

    def feed(self, digest: Hash, fd: int) -> int:
        """Read a descriptor to its end into a hash; return the number of bytes."""
        view = self._view or self._grow(_FIRST_BUFFER_BYTES)
        total = 0
        with io.FileIO(fd, closefd=False) as file:
            while True:
                wall, work = time.perf_counter(), time.thread_time()
                count = file.readinto(view)
                # None is "nothing yet": only what is no regular file says so to a non-blocking reader.
                if count is None:
                    raise NotRegularFile("the path turned into something that is no regular file")
                if not count:
                    return total
                digest.update(view[:count])
                total += count
                waited = time.perf_counter() - wall > 2 * (time.thread_time() - work)
                if waited and count == len(view) < _LAST_BUFFER_BYTES:
                    view = self._grow(2 * count)

    def _grow(self, size: int) -> memoryview:
        self._view = view = memoryview(bytearray(size))
        return view


_constructors: dict[str, Callable[..., Hash]] = {}


def check_algorithm(name: str) -> str:
    """Return the name of a checksum algorithm as it is written in records.

    Args:
        name: A name such as ``"sha256"``, in any case.

    Raises:
        ValueError: The algorithm is not in ``ALGORITHMS``.

    Example:
        >>> check_algorithm("SHA256")
        'sha256'
    """
    known = name.strip().lower() if isinstance(name, str) else None
    if known not in ALGORITHMS:
        raise ValueError(f"unknown checksum algorithm {name!r}; allowed are {', '.join(ALGORITHMS)}")
    return known


def constructor(algorithm: str) -> Callable[..., Hash]:
    """Return the ``hashlib`` constructor of an algorithm, and load ``hashlib`` for the first one."""
    import hashlib
    from functools import partial

    if check_algorithm(algorithm) != algorithm:
        raise ValueError(f"checksum algorithm {algorithm!r} must be written {check_algorithm(algorithm)!r}")
    make: Callable[..., Hash] = getattr(hashlib, algorithm)
    if algorithm in _WEAK:
        make = partial(make, usedforsecurity=False)
    _constructors[algorithm] = make
    return make


def hash_file(path: AnyPath, algorithm: str = DEFAULT_ALGORITHM, facts: Facts | None = None) -> str:
    """Return the checksum of a regular file's content; a symbolic link is followed.

    Args:
        path: The file. It may be empty, huge, or a file of ``/proc`` that claims to be empty.
        algorithm: One of ``ALGORITHMS``.
        facts: What ``look`` said about the path just now; saves asking the system again.

    Returns:
        ``"<algorithm>:<hex>"``, what ``sha256sum`` and its siblings print.

    Raises:
        NotRegularFile: The path is a directory, FIFO, socket or device. It is not opened: opening a FIFO
            would release its writer, opening a device can do anything.
        OSError: The file is missing or cannot be read.
        ValueError: The algorithm is unknown, or no system can have such a path.
    """
    if facts is None:
        st = os.stat(path)
        if not stat.S_ISREG(st.st_mode):
            raise NotRegularFile(f"not a regular file: {path!r}")
        size = st.st_size
    elif facts.kind == "file":
        size = facts.signature[2]
    else:
        raise NotRegularFile(f"not a regular file but {facts.kind}: {path!r}")
    return read_checksum(path, size, algorithm, None, False)[0]


def digest_file(path: AnyPath, before: Signature, algorithm: str, buffer: ReadBuffer | None = None) -> Digest:
    """Hash a path that was seen to be a regular file; what goes wrong is in the result.

    Args:
        path: The file.
        before: Its signature when it was seen.
        algorithm: One of ``ALGORITHMS``.
        buffer: The calling thread's buffer, for files that are not small.
    """
    try:
        checksum, size, st = read_checksum(path, before[2], algorithm, buffer, True)
    except Exception as exc:
        return Digest(None, None, before, (), None, describe(exc))
    assert st is not None  # noqa: S101 - for type checkers: `verify` always gives one
    after = (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
    # Keeping one of two equal tuples halves the memory of a hundred thousand digests.
    return _new_tuple(Digest, (checksum, size, before, before if after == before else after, None, None))


def digest_small(path: AnyPath, before: Signature, algorithm: str) -> Digest:
    """Do what `digest_file` does, for a file of at most `SMALL_BYTES`: four system calls and little else."""
    size = before[2]
    try:
        make = _constructors.get(algorithm) or constructor(algorithm)
        fd = _open(path, _FLAGS)
        try:
            data = _read(fd, size + 1)
            st = _fstat(fd)
        finally:
            _close(fd)
        if (
            len(data) == size == st.st_size
            and st.st_mtime_ns == before[3]
            and st.st_ctime_ns == before[4]
            and st.st_ino == before[1]
        ):
            return _new_tuple(Digest, (f"{algorithm}:{make(data).hexdigest()}", size, before, before, None, None))
    except Exception as exc:
        return Digest(None, None, before, (), None, describe(exc))
    # Not what was seen: the careful way says what it is now.
    return digest_file(path, before, algorithm)


def read_checksum(
    path: AnyPath, size: int, algorithm: str, buffer: ReadBuffer | None, verify: bool
) -> tuple[str, int, os.stat_result | None]:
    """Read a file once: checksum, bytes read, and the descriptor's ``stat`` after the last of them.

    Every checksum of a file in this package, label and value, is made by the last lines of this function.
    Without ``verify`` the ``stat`` is spared where just the expected number of bytes was there.
    """
    make = _constructors.get(algorithm) or constructor(algorithm)
    fd = _open(path, _FLAGS)
    try:
        # One byte more than expected: an answer of just `size` bytes has seen the end of the file.
        data = _read(fd, size + 1) if size <= SMALL_BYTES else b""
        total = len(data)
        st = _fstat(fd) if verify or total != size or not total else None
        digest = make(data)
        if st is not None and (st.st_mode & _TYPE_BITS != _REGULAR or total != st.st_size):
            if st.st_mode & _TYPE_BITS != _REGULAR:
                raise NotRegularFile(f"not a regular file any more: {path!r}")
            total += (buffer or ReadBuffer()).feed(digest, fd)
            st = _fstat(fd)
    finally:
        _close(fd)
    return f"{algorithm}:{digest.hexdigest()}", total, st

"""What is at a path: one look, which never raises."""

from __future__ import annotations

import os
import stat
from typing import Literal, NamedTuple, TypeAlias

AnyPath: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"
Kind: TypeAlias = Literal["file", "directory", "symlink-dangling", "fifo", "socket", "device", "missing"]
Signature: TypeAlias = tuple[int, ...]

_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class Facts(NamedTuple):
    """What is known about a path without reading its content.

    Attributes:
        exists: Whether something is there. A dangling link does not count.
        kind: What it is; a symbolic link is followed and named by its target.
        size: Bytes of a regular file; of a directory only after ``survey``; ``None`` for what has no size.
        signature: Two equal signatures mean the same, unchanged file: ``(st_dev, st_ino, size in bytes,
            mtime_ns, ctime_ns)``. After ``survey`` of a directory the third is the total size, the fourth
            the newest mtime of its files and the fifth a number made from its whole listing. Empty when
            nothing is there. A change within the file system's time stamp (some milliseconds) that keeps
            the size cannot be seen.
        file_count: Regular files below a directory, after ``survey``; otherwise ``None``.
        link_target: What the path itself points to, if it is a symbolic link.
        error: Why nothing could be learnt, unless the path simply does not exist.
    """

    exists: bool
    kind: Kind
    size: int | None = None
    signature: Signature = ()
    file_count: int | None = None
    link_target: str | None = None
    error: str | None = None


_new_tuple = tuple.__new__


def look(path: AnyPath) -> Facts:
    """Say what is at a path: one ``lstat``, and one ``stat`` more if it is a symbolic link.

    Args:
        path: Any path. One that the system refuses (too long, a NUL in it) is reported as missing, with
            the ``error``.

    Returns:
        The facts; nothing is ever raised for what the path is.

    Example:
        >>> look("/nowhere/at/all").kind
        'missing'
    """
    target: str | None = None
    kind: Kind = "missing"
    try:
        st = os.lstat(path)
        if stat.S_ISLNK(st.st_mode):
            kind = "symlink-dangling"
            target = os.fsdecode(os.readlink(os.fsencode(path)))
            st = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Facts(exists=False, kind=kind, link_target=target)
    except (OSError, ValueError) as exc:
        return Facts(exists=False, kind=kind, link_target=target, error=describe(exc))
    kind = _KINDS.get(stat.S_IFMT(st.st_mode), "device")
    size = st.st_size if kind == "file" else None
    # A hundred thousand times a stage: the constructor of a named tuple costs more than the rest of it.
    return _new_tuple(Facts, (True, kind, size, signature_of(st), None, target, None))


def signature_of(st: os.stat_result) -> Signature:
    """Take from a ``stat`` what changes when a file changes."""
    return (st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)


def describe(exc: BaseException) -> str:
    """Put an exception into one line, without the path that the record names anyway."""
    text = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__

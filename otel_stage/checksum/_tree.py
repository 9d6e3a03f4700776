"""Directories as artifacts: what is in them, and the checksum of it all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from otel_stage.checksum._content import DEFAULT_ALGORITHM, constructor
from otel_stage.checksum._facts import AnyPath, Facts, Signature, describe, look, signature_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Working files of a job; never part of what a stage made.
_LEFT_OUT = b".otel-stage"


def survey(path: AnyPath) -> Facts:
    """Do what ``look`` does, and walk through a directory for its total size and number of files.

    Counted are regular files at any depth, as ``find DIR -type f`` finds them; folders named
    ``.otel-stage`` are passed over. Links inside are neither counted nor followed, nor are FIFOs,
    sockets and devices. A file with two names counts twice.

    Args:
        path: Any path.

    Returns:
        The facts. If part of the directory cannot be read, size and count are absent and ``error`` says why.
    """
    facts = look(path)
    if facts.kind != "directory":
        return facts
    try:
        return surveyed(facts, listing(path))
    except (OSError, ValueError) as exc:
        return facts._replace(error=describe(exc))


def listing(path: AnyPath) -> list[tuple[bytes, Signature]]:
    """List the files below a directory by name relative to it, in the order of their bytes.

    Raises:
        OSError: A folder cannot be read. One that vanishes meanwhile is no error: it is not there.
    """
    root = os.fsencode(path)
    return sorted(_walk(root))


def surveyed(facts: Facts, files: list[tuple[bytes, Signature]]) -> Facts:
    """Complete the facts of a directory by its listing."""
    total = sum(signature[2] for _, signature in files)
    newest = max((signature[3] for _, signature in files), default=0)
    fingerprint = constructor(DEFAULT_ALGORITHM)()
    for name, signature in files:
        fingerprint.update(b"%b\0%b\n" % (name, repr(signature[1:]).encode()))
    number = int(fingerprint.hexdigest()[:15], 16)
    return facts._replace(
        size=total,
        file_count=len(files),
        signature=(*facts.signature[:2], total, newest, number),
    )


def join(path: AnyPath, names: Iterable[bytes]) -> list[bytes]:
    """Put the names of a listing behind their directory."""
    root = os.fsencode(path)
    return [os.path.join(root, name) for name in names]


def tree_checksum(names: Iterable[bytes], checksums: Iterable[str], algorithm: str) -> str:
    """Make one checksum of many by the rule that ``hash_directory`` documents."""
    total = constructor(algorithm)()
    for name, checksum in zip(names, checksums, strict=True):
        total.update(b"%b  ./%b\0" % (checksum.partition(":")[2].encode(), name))
    return f"{algorithm}:{total.hexdigest()}"


def _walk(root: bytes) -> Iterator[tuple[bytes, Signature]]:
    # A stack and no recursion: folders may be nested deeper than Python calls.
    folders = [b""]
    while folders:
        folder = folders.pop()
        try:
            entries = os.scandir(os.path.join(root, folder) if folder else root)
        except FileNotFoundError:
            if not folder:
                raise
            continue
        with entries:
            for entry in entries:
                name = folder + entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name != _LEFT_OUT:
                            folders.append(name + b"/")
                    elif entry.is_file(follow_symlinks=False):
                        yield name, signature_of(entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue

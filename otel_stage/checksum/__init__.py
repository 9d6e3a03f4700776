"""What a file is, and the checksum of what is in it.

Content decides, never name, size or date. The pieces, from the bottom up:

* ``look`` says what is at a path with one system call, ``survey`` walks a directory as well.
* ``hash_file`` and ``hash_directory`` give a checksum at once and raise ``OSError`` to their caller.
* ``hash_many`` and ``Hasher`` never raise: what went wrong is in the ``Digest``. ``Hasher`` works in the
  background, ``hash_many`` uses every core and returns when all is done.

Nothing here imports OpenTelemetry, and ``hashlib`` is loaded with the first checksum.
"""

from __future__ import annotations

from otel_stage.checksum._content import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    SMALL_BYTES,
    Digest,
    NotRegularFile,
    check_algorithm,
    hash_file,
)
from otel_stage.checksum._crew import core_count
from otel_stage.checksum._facts import AnyPath, Facts, Kind, Signature, look
from otel_stage.checksum._hasher import Hasher, Pending, hash_directory, hash_many
from otel_stage.checksum._tree import survey

__all__ = [
    "ALGORITHMS",
    "DEFAULT_ALGORITHM",
    "SMALL_BYTES",
    "AnyPath",
    "Digest",
    "Facts",
    "Hasher",
    "Kind",
    "NotRegularFile",
    "Pending",
    "Signature",
    "check_algorithm",
    "core_count",
    "hash_directory",
    "hash_file",
    "hash_many",
    "look",
    "survey",
]

"""What a job directory is to hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from otel_stage.jobdir import check_key, check_name
from otel_stage.semconv import STATUSES


@dataclass(frozen=True, kw_only=True)
class FileSpec:
    """An artifact.

    Attributes:
        path: An input's is relative to the job directory, an output's or intermediate's to the stage's own
            folder; absolute paths stay. An input that an earlier stage wrote has that output's size and checksum.
        type: What it is to the stage.
        content: The file is really written with it, and its checksum is true. None: only the manifest knows it.
        size: Bytes, where there is no content; default: some number that follows from the path.
        checksum: `sha256:…`; default: that of the content, else one that follows from path and size.
        exists: False: recorded as missing.
        metadata: Further fields of the artifact.
    """

    path: str
    type: str = "file"
    content: bytes | None = None
    size: int | None = None
    checksum: str | None = None
    exists: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def facts(self, recorded: str) -> dict[str, Any]:
        """Size and checksum, as the artifact under the path `recorded` has them."""
        if not self.exists:
            return {}
        if self.content is not None:
            size, digest = len(self.content), hashlib.sha256(self.content).hexdigest()
        else:
            some = int.from_bytes(hashlib.sha256(recorded.encode()).digest()[:3], "big")
            size = some if self.size is None else self.size
            digest = hashlib.sha256(f"{recorded}:{size}".encode()).hexdigest()
        return {"size_bytes": size, "checksum": self.checksum or f"sha256:{digest}"}


@dataclass(frozen=True)
class StageSpec:
    """A stage of a job.

    Attributes:
        name: Its name; the same name again without a key gets the key `2`, `3`, … as in a real run.
        key: Tells stages of one name apart.
        number: Its number; default: the next one.
        status: As in manifests. `running` stays open; `crashed` is what `recover` has written down.
        seconds: How long it takes.
        inputs: Files that it reads; a string is a path.
        outputs: Files that it writes.
        intermediates: Caches and temporary files; `retained` and `reason` go into their metadata.
        config: Its configuration.
        log: Lines that its logger says: (level, text).
        warnings: Its warnings.
        errors: Errors that do not end it.
        reason: Why it ended so: `RuntimeError: out of memory`, `no input files`, …; default: one that fits.
        resources: What it used; default: figures that follow from `seconds`.
        samples: Number of resource samples in its side file.
    """

    name: str
    _: KW_ONLY
    key: str | None = None
    number: int | None = None
    status: str = "success"
    seconds: float = 1.0
    inputs: Sequence[FileSpec | str] = ()
    outputs: Sequence[FileSpec | str] = ()
    intermediates: Sequence[FileSpec | str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    log: Sequence[tuple[str, str]] = ()
    warnings: Sequence[str] = ()
    errors: Sequence[str] = ()
    reason: str | None = None
    resources: Mapping[str, Any] | None = None
    samples: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.key is not None:
            check_key(self.key)
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is none of {', '.join(STATUSES)}")

    @property
    def why(self) -> str | None:
        """The reason that is written down."""
        default = {
            "failed": "RuntimeError: out of memory",
            "skipped": "no input files",
            "cancelled": "KeyboardInterrupt",
            "crashed": "SIGKILL",
        }
        return self.reason if self.reason is not None else default.get(self.status)

    @property
    def used(self) -> dict[str, Any]:
        """The resources that are written down."""
        if self.resources is not None:
            return dict(self.resources)
        return {
            "cpu_percent": 80.0,
            "cpu_seconds": round(self.seconds * 0.8, 6),
            "memory_mb": 512.5,
            "memory_mean_mb": 400.3,
            "read_bytes": 1_048_576,
            "write_bytes": 65_536,
            "gpu_used": False,
        }


def as_file(spec: FileSpec | str) -> FileSpec:
    """A path as the specification of a file."""
    return FileSpec(path=spec) if isinstance(spec, str) else spec

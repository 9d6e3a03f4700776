"""The files that make up a job directory, and what is said when they cannot be had."""

from __future__ import annotations

import os
import time

from otel_stage.errors import PipelineError
from otel_stage.manifest import JOB_MANIFEST, JOB_MANIFEST_BESIDE_FOREIGN, is_ours


def make_folders(path: str, state: str) -> None:
    """Make the folders of a job directory.

    Raises:
        PipelineError: They cannot be made, and why.
    """
    try:
        for folder in (f"{state}/stages", f"{path}/logs"):
            os.makedirs(folder, exist_ok=True)
    except FileExistsError:
        raise PipelineError(
            f"job directory {path} cannot be used: a file stands in the way; give a directory as job_dir"
        ) from None
    except NotADirectoryError:
        raise PipelineError(
            f"job directory {path} cannot be used: part of the path is a file; give a directory as job_dir"
        ) from None
    except OSError as err:
        raise PipelineError(f"job directory {path} cannot be created: {why(err)}") from None


def why(err: OSError) -> str:
    """An error of the system in a few words: what, and at which path."""
    reason = (err.strerror or type(err).__name__).lower()
    return f"{reason} ({err.filename})" if err.filename else reason


def open_journal(path: str) -> int:
    """A descriptor that reads, and appends whole lines."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)


def read_at(fd: int, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`, wherever others read or append."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    os.lseek(fd, offset, os.SEEK_SET)  # pragma: no cover (Windows: appends do not use the position)
    return os.read(fd, size)  # pragma: no cover


def create_log(path: str) -> str:
    """Make a fresh pipeline log, and give its path relative to the job directory."""
    stamp = time.strftime("%Y%m%d_%H%M%S")
    n = 1
    while True:
        name = f"logs/99_pipeline_{stamp}.log" if n == 1 else f"logs/99_pipeline_{stamp}_{n}.log"
        try:
            os.close(os.open(f"{path}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            n += 1
        else:
            return name


def job_manifest_path(path: str) -> str:
    """Where a job's manifest is written: a `manifest.json` of somebody else is left alone."""
    ours = f"{path}/{JOB_MANIFEST}"
    beside = f"{path}/{JOB_MANIFEST_BESIDE_FOREIGN}"
    try:
        with open(ours, "rb") as f:
            return ours if is_ours(f.read()) else beside
    except FileNotFoundError:
        return beside if os.path.exists(beside) else ours
    except OSError:
        return beside

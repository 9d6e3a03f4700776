"""Names that may become folders, and processes that can be recognised again."""

from __future__ import annotations

import os
import re
import socket
import sys
from functools import cache
from typing import Any

from otel_stage.errors import StageNameError

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LONGEST = 120


def check_name(name: object, what: str = "stage name") -> str:
    """`name` if it can be the name of a pipeline or stage: letters, digits, `_` and `-`.

    Raises:
        StageNameError: What is wrong with it and what is allowed.
    """
    if not isinstance(name, str):
        raise StageNameError(f"{what} must be a string, not {type(name).__name__}")
    if not name or not name.isascii() or not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise StageNameError(
            f"{what} {_shown(name)} cannot be a folder name: use 1 to {_LONGEST} ASCII letters, digits, '_' and '-'"
        )
    return name


def check_key(key: object) -> str:
    """`key` as the second half of a stage's id; numbers are taken as their text.

    Raises:
        StageNameError: What is wrong with it and what is allowed.
    """
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str):
        raise StageNameError(f"stage key must be a string or an integer, not {type(key).__name__}")
    if not _KEY.fullmatch(key) or ".." in key or key.endswith(".") or len(key) > _LONGEST:
        raise StageNameError(
            f"stage key {_shown(key)} cannot be part of a folder name: use 1 to {_LONGEST} ASCII letters, digits, "
            "'_', '-' and single dots inside"
        )
    return key


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def stage_id(name: str, key: str | None) -> str:
    """A stage's id: its name, or `name.key`."""
    return name if key is None else f"{name}.{key}"


def folder_name(number: int, ident: str) -> str:
    """A stage's folder: `06_asr`."""
    return f"{number:02d}_{ident}"


@cache
def host_name() -> str:
    """This machine's name."""
    return socket.gethostname()


@cache
def boot_id() -> str | None:
    """What changes when the machine starts anew; None where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as f:
            return f.read().strip()
    except OSError:
        return None


def start_ticks(pid: int) -> int | None:
    """When a process started, in the kernel's own measure; None if there is no such process or no telling."""
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/stat", "rb") as f:
                return int(f.read().rpartition(b")")[2].split()[19])
        except (OSError, ValueError, IndexError):
            return None
    try:
        import psutil

        return int(psutil.Process(pid).create_time() * 1000)
    except Exception:  # psutil raises its own kinds
        return None


_self: dict[str, Any] = {}


def this_process() -> dict[str, Any]:
    """Pid, start, boot and host: enough for others to prove later that this process is dead."""
    pid = os.getpid()
    if _self.get("pid") != pid:
        fresh = {"pid": pid, "host": host_name(), "start_ticks": start_ticks(pid), "boot_id": boot_id()}
        _self.update(fresh)
    return dict(_self)

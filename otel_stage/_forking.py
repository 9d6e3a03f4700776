"""Forks of a process whose other threads are in the midst of something of ours."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

# What is imported late, to keep opening a pipeline cheap.
_LATER = (
    "_artifacts",
    "_bare",
    "_decorate",
    "_elsewhere",
    "_lifecycle",
    "_process",
    "_resources",
    "_run_events",
    "_stage",
    "_streams",
    "redact._keyed",
    "redact._shapes",
)


def before_forks(renew: Callable[[], None]) -> None:
    """Make forks safe.

    A thread in the midst of one of our late imports would leave the child waiting for that module for ever:
    so the forking thread imports them all first, which waits for the other one.

    Args:
        renew: Called in the child, to renew locks that another thread of the parent may have held.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_import_all, after_in_child=renew)


def _import_all() -> None:
    for name in _LATER:
        try:
            importlib.import_module(f"otel_stage.{name}")
        except ImportError:
            continue

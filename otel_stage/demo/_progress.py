"""One line on a terminal that says how far a long loop is."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
_EVERY_SECONDS = 10.0
_WIDTH = 24
_SHOWN = True


def progress(items: Sequence[T], what: str, log: logging.Logger) -> Iterator[T]:
    """Go through items and show how many are done.

    On a terminal that is one line, redrawn and gone at the end. Elsewhere, and in the log, it is an INFO
    record every ten seconds. A console that is switched off stays silent.

    Args:
        items: What to go through.
        what: What the items are, in the plural.
        log: Logger for the records.
    """
    drawn = sys.stderr.isatty() and _SHOWN
    said = time.monotonic()
    try:
        for done, item in enumerate(items):
            if drawn:
                filled = "█" * (done * _WIDTH // len(items))
                print(
                    f"\r\033[K  {filled:░<{_WIDTH}} {done}/{len(items)} {what}",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
            elif time.monotonic() - said >= _EVERY_SECONDS:
                said = time.monotonic()
                log.info("%d of %d %s", done, len(items), what)
            yield item
    finally:
        if drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def show(on: bool) -> None:
    """Let progress lines be drawn on the terminal, or not."""
    global _SHOWN
    _SHOWN = on

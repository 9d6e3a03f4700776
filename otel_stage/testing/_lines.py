"""Lines of logs, in UTC, as the file exporter writes them."""

from __future__ import annotations

from collections.abc import Mapping

from otel_stage.manifest import event_time
from otel_stage.semconv import CANCELLED, FAILED, REUSED, SKIPPED, SUCCESS

_SIGNS = {SUCCESS: "✓", SKIPPED: "⊘", REUSED: "↻"}


def line(ns: int, source: str, level: str, text: str) -> str:
    """One record; continuation lines are indented."""
    when = event_time(ns)[:19].replace("T", " ")
    shown = text.replace("\n", "\n    ")
    return f"[{when}] [{source}] [{level}] {shown}\n"


def start_line(ident: str, number: int, total: int | None, attempt: int) -> str:
    """`▶ Stage 6/12: asr`."""
    of = f"{number}/{total}" if total and number <= total else f"{number}"
    return f"▶ Stage {of}: {ident}" + (f" (attempt {attempt})" if attempt > 1 else "")


def end_line(status: str, ident: str, seconds: float, reason: str | None) -> str:
    """`✓ Stage asr: SUCCESS (44.8s)`, and the other ends."""
    text = f"{_SIGNS.get(status, '✗')} Stage {ident}: {status.upper()}"
    if status in (SUCCESS, FAILED, CANCELLED):
        text += f" ({seconds:.1f}s)"
    return f"{text}: {reason}" if reason and status != SUCCESS else text


def summary(name: str, status: str, seconds: float, reason: str | None, counts: Mapping[str, int]) -> str:
    """The last line of a pipeline log."""
    stages = sum(counts.values())
    told = ", ".join(f"{n} {status}" for status, n in counts.items())
    why = f": {reason}" if reason else ""
    text = f"Pipeline {name}: {status.upper()} ({seconds:.1f}s){why}, {stages} stage{'' if stages == 1 else 's'}"
    return f"{text}: {told}" if told else text

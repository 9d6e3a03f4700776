"""What is known of one trace, and the lines that wait to be told where they belong."""

from __future__ import annotations

from otel_stage_exporters._ended._jobs import Run
from otel_stage_exporters._ended._lines import Line
from otel_stage_exporters._ended._stages import Written

_MOST_SPANS = 100_000


class Trace:
    """One trace.

    Attributes:
        id: Its id.
        runs: The runs that it is written into, by job directory; the first is for what names no directory.
        refused: Job directories that could not be had; empty for one that nobody named.
        stages: Stages that are written, by their span.
        held: Lines whose stage, if they have one, is not written yet.
        lost: How many lines were too many to hold.
    """

    __slots__ = ("_parents", "held", "id", "lost", "refused", "runs", "stages")

    def __init__(self, trace_id: int) -> None:
        self.id = trace_id
        self.runs: dict[str, Run] = {}
        self.refused: set[str] = set()
        self.stages: dict[int, Written] = {}
        self.held: list[Line] = []
        self.lost = 0
        self._parents: dict[int, int] = {}

    @property
    def run(self) -> Run | None:
        """The run for what names no directory, once there is one."""
        return next(iter(self.runs.values()), None)

    def release(self) -> None:
        """Close the pipeline logs until they are needed again."""
        for run in self.runs.values():
            run.release()

    def ended(self, span_id: int, parent_id: int) -> None:
        """Take in an ended span; its parent is 0 where it has none in this process."""
        if len(self._parents) < _MOST_SPANS:
            self._parents[span_id] = parent_id

    def take(self, coming: set[int]) -> dict[int, list[Line]]:
        """Take out the held lines whose place is known, in order of time.

        Args:
            coming: Stage spans that are about to be written.

        Returns:
            Lines by the span of their stage; under 0 those that belong to none.
        """
        found: dict[int, list[Line]] = {}
        kept: list[Line] = []
        known: dict[int, int | None] = {}
        for line in self.held:
            if line.span_id not in known:
                known[line.span_id] = self._stage_of(line.span_id, coming)
            stage = known[line.span_id]
            if stage is None:
                kept.append(line)
            else:
                found.setdefault(stage, []).append(line)
        self.held = kept
        for lines in found.values():
            lines.sort(key=lambda line: line.ns)
        return found

    def _stage_of(self, span_id: int, coming: set[int]) -> int | None:
        """The nearest stage at or above a span: 0 for none, None while a span on the way is still open."""
        seen: set[int] = set()
        while span_id and span_id not in seen:
            if span_id in coming or span_id in self.stages:
                return span_id
            seen.add(span_id)
            parent = self._parents.get(span_id)
            if parent is None:
                return None
            span_id = parent
        return 0

"""From timed words to subtitles that people can read in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

LINE_CHARACTERS = 42
LINES = 2
CUE_SECONDS = 6.0
SHORTEST_CUE_SECONDS = 1.0


@dataclass(frozen=True)
class Word:
    """A word and when it is said, in seconds from the start."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Cue:
    """What stands on the screen from one second to another."""

    lines: tuple[str, ...]
    start: float
    end: float


def make_cues(transcript: Iterable[Mapping[str, Any]]) -> list[Cue]:
    """Cut spoken segments into cues.

    No cue has more than two lines of 42 characters or stands longer than 6 s; none runs into the next one.
    Cuts fall into the longest pauses.

    Args:
        transcript: Segments with `words`, each word with `word`, `start` and `end` (seconds).
    """
    cues: list[Cue] = []
    for segment in transcript:
        said = [Word(_written(word["word"]), float(word["start"]), float(word["end"])) for word in segment["words"]]
        words = [piece for word in said if word.text for piece in _fitting(word)]
        if words:
            first = words[0]
            words[0] = replace(first, text=first.text[:1].upper() + first.text[1:])
            cues.extend(_cut(words))
    return [_readable(cue, following) for cue, following in zip(cues, [*cues[1:], None], strict=False)]


def wrap(words: Sequence[str]) -> tuple[str, ...] | None:
    """Lay words out on one line, or on two of about equal length; None when they do not fit.

    Example:
        >>> wrap(["He", "was", "not"])
        ('He was not',)
    """
    text = " ".join(words)
    if len(text) <= LINE_CHARACTERS:
        return (text,)
    pairs = ((" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words)))
    fitting = [pair for pair in pairs if max(map(len, pair)) <= LINE_CHARACTERS]
    return min(fitting, key=lambda pair: abs(len(pair[0]) - len(pair[1])), default=None)


def format_srt(cues: Iterable[Cue]) -> str:
    """Write cues in SubRip's format."""
    blocks = (
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n" + "\n".join(cue.lines) + "\n"
        for number, cue in enumerate(cues, 1)
    )
    return "\n".join(blocks)


def format_vtt(cues: Iterable[Cue]) -> str:
    """Write cues in WebVTT's format, which browsers read."""
    blocks = (
        f"\n{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n" + "\n".join(map(_escaped, cue.lines)) + "\n"
        for cue in cues
    )
    return "WEBVTT\n" + "".join(blocks)


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(max(seconds, 0.0) * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


def _escaped(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _written(word: str) -> str:
    # The recogniser's dictionary is in lower case; the one pronoun that English capitalises is put right.
    text = " ".join(word.split())
    return "I" + text[1:] if text == "i" or text.startswith("i'") else text


def _fitting(word: Word) -> Iterator[Word]:
    # A word longer than a line is cut, each piece with its share of the time.
    pieces = [word.text[at : at + LINE_CHARACTERS] for at in range(0, len(word.text), LINE_CHARACTERS)]
    share = (word.end - word.start) / len(pieces)
    for index, piece in enumerate(pieces):
        yield Word(piece, word.start + index * share, word.start + (index + 1) * share)


def _cut(words: list[Word]) -> Iterator[Cue]:
    start, end = words[0].start, words[-1].end
    lines = wrap([word.text for word in words])
    if lines and (end - start <= CUE_SECONDS or len(words) == 1):
        yield Cue(lines, start, min(end, start + CUE_SECONDS))
        return

    def worth(at: int) -> float:
        # A long pause is the best place; among equal pauses, the middle, so that no word stands alone.
        pause = max(words[at].start - words[at - 1].end, 0.0)
        return min(pause, 1.0) + 1.5 * min(at, len(words) - at) / len(words)

    at = max(range(1, len(words)), key=worth)
    yield from _cut(words[:at])
    yield from _cut(words[at:])


def _readable(cue: Cue, following: Cue | None) -> Cue:
    end = max(cue.end, cue.start + SHORTEST_CUE_SECONDS)
    if following is not None:
        end = min(end, following.start)
    return replace(cue, end=max(end, cue.start))

"""Where somebody speaks, and what is said: voice activity detection and recognition with pocketsphinx."""

from __future__ import annotations

import re
import wave
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

LONGEST_SEGMENT_SECONDS = 15.0
_PADDING_SECONDS = 0.1
_SHORTEST_SEGMENT_SECONDS = 0.1
# The decoder's entries for silence, breath and noise, and its suffix for a word's other pronunciations.
_NO_WORD = re.compile(r"^(?:<.*>|\[.*\]|\+\+.*\+\+)$")
_VARIANT = re.compile(r"\(\d+\)$")
# The decoder keeps Python's lock while it works: in pieces, Ctrl-C and the sampling of resources get a turn.
_PIECE_SECONDS = 0.2


def find_speech(audio: Path, *, aggressiveness: int = 0) -> list[dict[str, float]]:
    """Find where somebody speaks.

    Long speech is cut at its quietest places, so that no segment is longer than 15 s.

    Args:
        audio: 16-bit mono wav.
        aggressiveness: 0 keeps whatever may be speech, 3 only what surely is.

    Returns:
        Segments in order, each with `start` and `end` in seconds.
    """
    from pocketsphinx import Endpointer

    with wave.open(str(audio), "rb") as wav:
        endpointer = Endpointer(vad_mode=aggressiveness, sample_rate=wav.getframerate())
        found: list[tuple[float, float]] = []
        for frame, last in _frames(wav, endpointer.frame_bytes // wav.getsampwidth()):
            spoke = endpointer.in_speech
            if last:
                endpointer.end_stream(frame)
            else:
                endpointer.process(frame)
            if spoke and not endpointer.in_speech:
                found.append((endpointer.speech_start, endpointer.speech_end))
        length = wav.getnframes() / wav.getframerate()
        pieces = [piece for start, end in found for piece in _split(wav, start, min(end, length))]
    return [{"start": round(start, 2), "end": round(end, 2)} for start, end in pieces]


def model_folder() -> Path:
    """Name the folder of the US English model that comes with pocketsphinx."""
    from pocketsphinx import get_model_path

    return Path(get_model_path("en-us"))


class Recogniser:
    """Turns speech into words; loading it takes some tenths of a second."""

    def __init__(self, sample_rate: int) -> None:
        """Load the model.

        Args:
            sample_rate: Samples per second of the audio to come.
        """
        from pocketsphinx import Decoder

        # FATAL: what the decoder has to say about a segment without words would go to our stderr.
        self._decoder: Any = Decoder(samprate=sample_rate, loglevel="FATAL")
        config = self._decoder.config
        self._frame_rate: int = config["frate"]
        self._piece = int(sample_rate * _PIECE_SECONDS) * 2
        self.settings = {"language_weight": config["lw"], "beam": config["beam"]}
        """What decides how it searches, as far as people tune it."""

    def recognise(self, wav: wave.Wave_read, segment: Mapping[str, float]) -> dict[str, Any]:
        """Recognise one segment.

        Args:
            wav: The open audio file that the segment is a part of.
            segment: `start` and `end` in seconds.

        Returns:
            The segment with `text`, `confidence` (mean over its words, 0 to 1; absent without words) and
            `words`, each with `word`, `start`, `end` (seconds) and `confidence`.
        """
        offset = max(segment["start"] - _PADDING_SECONDS, 0.0)
        samples = _read(wav, offset, segment["end"] + _PADDING_SECONDS)
        words = list(self._words(samples, offset)) if samples else []
        heard: dict[str, Any] = {**segment, "text": " ".join(word["word"] for word in words)}
        if words:
            heard["confidence"] = round(sum(word["confidence"] for word in words) / len(words), 3)
        return {**heard, "words": words}

    def _words(self, samples: bytes, offset: float) -> Iterator[dict[str, Any]]:
        decoder = self._decoder
        decoder.start_utt()
        for at in range(0, len(samples), self._piece):
            decoder.process_raw(samples[at : at + self._piece])
        decoder.end_utt()
        for part in decoder.seg() or ():
            if not _NO_WORD.match(part.word):
                yield {
                    "word": _VARIANT.sub("", part.word),
                    "start": round(offset + part.start_frame / self._frame_rate, 2),
                    "end": round(offset + (part.end_frame + 1) / self._frame_rate, 2),
                    "confidence": round(min(part.prob, 1.0), 3),
                }


def _frames(wav: wave.Wave_read, size: int) -> Iterator[tuple[bytes, bool]]:
    """Read whole frames, and say which is the last: the endpointer must be told to finish what it began."""
    frame = wav.readframes(size)
    while frame:
        following = wav.readframes(size)
        yield frame, not following
        frame = following


def _read(wav: wave.Wave_read, start: float, end: float) -> bytes:
    rate, length = wav.getframerate(), wav.getnframes()
    first, behind = round(max(start, 0.0) * rate), min(round(end * rate), length)
    if behind - first < _SHORTEST_SEGMENT_SECONDS * rate:
        return b""
    wav.setpos(first)
    return wav.readframes(behind - first)


def _split(wav: wave.Wave_read, start: float, end: float) -> Iterator[tuple[float, float]]:
    while end - start > LONGEST_SEGMENT_SECONDS:
        at = _quietest(wav, start + LONGEST_SEGMENT_SECONDS / 2, start + LONGEST_SEGMENT_SECONDS)
        yield start, at
        start = at
    yield start, end


def _quietest(wav: wave.Wave_read, start: float, end: float, window: float = 0.05) -> float:
    """Find the middle of the quietest twentieth of a second."""
    samples = array("h", _read(wav, start, end))
    size = int(wav.getframerate() * window)
    starts = range(0, len(samples) - size + 1, size)
    at = min(starts, key=lambda first: sum(map(abs, samples[first : first + size])), default=0)
    return start + (at + size / 2) / wav.getframerate()

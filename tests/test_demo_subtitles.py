"""Subtitles can be read in time, whatever is said."""

from __future__ import annotations

import random
import re

import pytest

from otel_stage.demo import _subtitles


def segment(*words: tuple[str, float, float]) -> dict:
    """A segment of the transcript."""
    return {"words": [{"word": word, "start": start, "end": end} for word, start, end in words]}


def even_segment(texts: list[str], start: float = 0.0, each: float = 0.3) -> dict:
    """A segment of words of equal length without pauses."""
    return segment(*((text, start + i * each, start + (i + 1) * each) for i, text in enumerate(texts)))


def test_srt_is_written_to_the_letter():
    """Numbers, commas in times, blank lines between cues: as players expect it."""
    cues = [
        _subtitles.Cue(("Had he married a more", "amiable woman"), 4.5, 7.25),
        _subtitles.Cue(("Yes",), 3661.0, 3662.5),
    ]
    assert _subtitles.format_srt(cues) == (
        "1\n00:00:04,500 --> 00:00:07,250\nHad he married a more\namiable woman\n"
        "\n2\n01:01:01,000 --> 01:01:02,500\nYes\n"
    )


def test_vtt_is_written_to_the_letter():
    """WebVTT has a header, points in times, and escapes what would be markup."""
    assert _subtitles.format_vtt([_subtitles.Cue(("a < b & c",), 0.0, 1.0)]) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\na &lt; b &amp; c\n"
    )


def test_nothing_said_is_no_cue():
    """Without words the srt is empty and the vtt is its header."""
    assert _subtitles.make_cues([]) == []
    assert _subtitles.make_cues([segment(), segment((" ", 0.0, 1.0))]) == []
    assert _subtitles.format_srt([]) == ""
    assert _subtitles.format_vtt([]) == "WEBVTT\n"


@pytest.mark.parametrize("seconds", [0.0004, 0.9996, 59.9999, 3599.9996, 360_000.0, -1.0])
def test_times_are_rounded_without_overflow(seconds):
    """Rounding never gives a sixtieth second or a thousandth millisecond."""
    text = _subtitles.format_srt([_subtitles.Cue(("x",), seconds, seconds + 1)])
    found = re.search(r"(\d+):(\d\d):(\d\d),(\d{3}) -->", text)
    assert found
    hours, minutes, rest, milliseconds = map(int, found.groups())
    assert minutes < 60
    assert rest < 60
    assert (hours * 3600 + minutes * 60 + rest) * 1000 + milliseconds == round(max(seconds, 0) * 1000)


@pytest.mark.parametrize("seed", range(25))
def test_every_cue_can_be_read(seed):
    """Whatever is said: at most two lines of 42 characters, at most 6 s, in order, no overlap, no word lost."""
    dice = random.Random(seed)
    transcript, at = [], 0.0
    for _ in range(dice.randint(1, 6)):
        words = []
        for _ in range(dice.randint(0, 60)):
            at += dice.choice([0.0, 0.0, 0.0, 0.2, 0.9])
            length = dice.choice([0.05, 0.3, 0.6, 8.0 if seed % 5 == 0 else 0.4])
            words.append(("x" * dice.choice([1, 3, 5, 9, 14, 100 if seed % 3 == 0 else 7]), at, at + length))
            at += length
        transcript.append(segment(*words))
    cues = _subtitles.make_cues(transcript)
    for cue in cues:
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < len(line) <= 42 for line in cue.lines)
        assert cue.end - cue.start <= 6.0 + 1e-9
        assert cue.start <= cue.end
    assert all(cue.end <= following.start + 1e-9 for cue, following in zip(cues, cues[1:]))
    said = "".join(word["word"] for part in transcript for word in part["words"])
    assert "".join("".join(cue.lines) for cue in cues).replace(" ", "").lower() == said


def test_cuts_fall_into_pauses():
    """Text that is too long for one cue is cut where the speaker pauses."""
    first, second = ["alpha"] * 9, ["omega"] * 8
    words = [(text, i * 0.2, (i + 1) * 0.2) for i, text in enumerate(first)]
    words += [(text, 3.0 + i * 0.2, 3.0 + (i + 1) * 0.2) for i, text in enumerate(second)]
    cues = _subtitles.make_cues([segment(*words)])
    assert ["alpha" in " ".join(cue.lines).lower() for cue in cues] == [True, False]


def test_two_lines_are_of_about_equal_length():
    """A cue of two lines has no lonely last word."""
    assert _subtitles.wrap("had he married a more amiable woman he might".split()) == (
        "had he married a more",
        "amiable woman he might",
    )


def test_a_line_of_42_characters_stays_one_line():
    """The limit itself fits; one more character breaks; what cannot be broken does not fit."""
    assert _subtitles.wrap(["x" * 20, "y" * 21]) == ("x" * 20 + " " + "y" * 21,)
    assert _subtitles.wrap(["x" * 20, "y" * 22]) == ("x" * 20, "y" * 22)
    assert _subtitles.wrap(["x" * 43]) is None


def test_a_short_cue_stays_long_enough_to_be_read():
    """A cue stands for a second when nothing follows, and never into the next one."""
    alone = _subtitles.make_cues([segment(("yes", 1.0, 1.1))])
    assert alone[0].end == 2.0
    pair = _subtitles.make_cues([segment(("yes", 1.0, 1.1)), segment(("no", 1.5, 3.0))])
    assert pair[0].end == 1.5


def test_english_is_written_as_english_is():
    """A sentence begins with a capital, and so does the pronoun."""
    cues = _subtitles.make_cues([even_segment(["and", "i", "i'm", "in", "it"])])
    assert cues[0].lines == ("And I I'm in it",)

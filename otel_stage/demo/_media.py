"""Video and audio files by way of ffmpeg: what to call it with, and how to read what it says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from otel_stage.errors import DemoError

SAMPLE_RATE = 16_000
"""Samples per second that the recogniser's model was trained on."""

# What the mp4 container takes as it is and players show; everything else goes into Matroska.
_MP4_VIDEO = frozenset({"h264", "hevc", "av1", "mpeg4", "vp9"})
_MP4_AUDIO = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"})

_STREAM = re.compile(r"^\s*Stream #0:\d+[^:]*: (?P<kind>Video|Audio): (?P<codec>\w+)(?P<rest>.*)$")
_DURATION = re.compile(r"^\s*Duration: ([\d:.]+)")
_WRITTEN = re.compile(r"^size=.* time=([\d:.]+)")
_QUIET_START = ("-hide_banner", "-nostdin", "-nostats", "-y")


@dataclass(frozen=True)
class Streams:
    """What a media file holds, as far as subtitling it goes.

    Attributes:
        video: Codec of its moving picture; None without one (a cover image is none).
        audio: Codec of its sound; None without any.
        layout: Channel layout of the sound as ffmpeg names it: `mono`, `stereo`, `5.1(side)`, ….
        duration_seconds: Length in seconds; None where it cannot be known.
    """

    video: str | None
    audio: str | None
    layout: str | None
    duration_seconds: float | None


def ffmpeg_exe() -> str:
    """Find the ffmpeg that comes with imageio-ffmpeg.

    Raises:
        DemoError: When there is none for this platform.
    """
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise DemoError(str(error)) from error


def read_streams(said: str) -> Streams:
    """Read from ffmpeg's own words what its first input holds.

    Args:
        said: What ffmpeg wrote to stderr; lines after the input's description are ignored.

    Example:
        >>> read_streams("  Stream #0:0: Audio: aac (LC), 16000 Hz, mono, fltp").layout
        'mono'
    """
    video = audio = layout = None
    duration = None
    described = True
    for line in said.splitlines():
        described = described and not line.startswith("Output #")
        # What a file says of its length counts first, then how much of it was written.
        if duration is None and (match := (_DURATION if described else _WRITTEN).match(line)):
            duration = _seconds(match[1])
        elif described and (match := _STREAM.match(line)):
            if match["kind"] == "Audio" and audio is None:
                audio = match["codec"]
                hertz = re.search(r"\d+ Hz, ([^,]+)", match["rest"])
                layout = hertz.group(1).strip() if hertz else None
            elif match["kind"] == "Video" and video is None and "(attached pic)" not in match["rest"]:
                video = match["codec"]
    return Streams(video, audio, layout, duration)


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def demux_command(media: Path, audio: Path) -> list[str | Path]:
    """Compose the command that writes a file's sound as 16 kHz mono 16-bit wav."""
    sound = ("-map", "0:a:0", "-ac", "1", "-ar", str(SAMPLE_RATE), "-c:a", "pcm_s16le")
    return [ffmpeg_exe(), *_QUIET_START, "-i", media, *sound, "-f", "wav", audio]


def film_suffix(streams: Streams) -> str:
    """Choose the container that takes these streams as they are: `.mp4` or `.mkv`."""
    fits = streams.video is None or (streams.video in _MP4_VIDEO and streams.audio in _MP4_AUDIO)
    return ".mp4" if fits else ".mkv"


def mux_command(media: Path, subtitles: Path, film: Path, streams: Streams) -> list[str | Path]:
    """Compose the command that adds a subtitle track which viewers can switch on.

    Picture and sound are copied as they are. Sound without a picture gets a plain one, since few players
    show subtitles without.
    """
    track = ("-c:s", "mov_text" if film.suffix == ".mp4" else "srt", "-metadata:s:s:0", "language=eng")
    start = [ffmpeg_exe(), *_QUIET_START]
    if streams.video:
        copied = ("-map", "0:V:0", "-map", "0:a:0", "-map", "1:s:0", "-c:v", "copy", "-c:a", "copy")
        return [*start, "-i", media, "-i", subtitles, *copied, *track, film]
    plain = ("-f", "lavfi", "-i", "color=color=0x203040:size=640x360:rate=5")
    made = ("-map", "2:v:0", "-map", "0:a:0", "-map", "1:s:0", "-c:v", "libx264", "-preset", "veryfast")
    # Not -shortest: that would end the film with its last subtitle.
    even = ("-pix_fmt", "yuv420p", "-c:a", "aac", "-t", str(streams.duration_seconds or 0))
    return [*start, "-i", media, "-i", subtitles, *plain, *made, *even, *track, film]


def explain(media: Path, said: str, log: Path) -> str:
    """Say why ffmpeg could not use a file, in one sentence and its own last lines.

    Args:
        media: The file that it was given.
        said: What it wrote to stderr.
        log: Where all of that can be read.
    """
    streams = read_streams(said)
    if streams.video and not streams.audio:
        trouble = "has no audio stream, so there is no speech to find"
    elif not streams.audio:
        trouble = "is not a video or audio file that ffmpeg can read"
    else:
        trouble = "could not be processed by ffmpeg"
    lines = [line for line in said.splitlines() if line.strip()][-3:]
    own_words = [f"  ffmpeg: {line.strip()}" for line in lines]
    return "\n".join([f"{media} {trouble}", *own_words, f"  more in {log}"])

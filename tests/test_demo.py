"""The work that the demo's stages do, each on real speech and without any telemetry."""

from __future__ import annotations

import difflib
import io
import json
import random
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from otel_stage.demo import CLIP, DemoError, _media, _speech, _subtitles, _tour, run_demo

needs_speech = pytest.mark.usefixtures("_speech_extra")


@pytest.fixture(scope="module")
def _speech_extra():
    pytest.importorskip("pocketsphinx")
    pytest.importorskip("imageio_ffmpeg")


def ffmpeg(*argv: object) -> str:
    """Run ffmpeg and give what it said."""
    ended = subprocess.run([_media.ffmpeg_exe(), *map(str, argv)], capture_output=True, text=True, check=False)
    return ended.stderr


@pytest.fixture(scope="module")
def clip_wav(_speech_extra, tmp_path_factory) -> Path:
    """The clip's sound, demuxed."""
    wav = tmp_path_factory.mktemp("clip") / "audio.wav"
    subprocess.run(_media.demux_command(CLIP, wav), check=True, capture_output=True)
    return wav


def write_wav(path: Path, samples: bytes, rate: int = 16_000) -> Path:
    """Write 16-bit mono samples."""
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(samples)
    return path


def samples_of(path: Path) -> bytes:
    """Read all samples."""
    with wave.open(str(path), "rb") as wav:
        return wav.readframes(wav.getnframes())


# media


def test_streams_of_the_clip_are_read_from_ffmpegs_words(_speech_extra):
    """Codecs, channel layout and length come out of what ffmpeg prints."""
    assert _media.read_streams(ffmpeg("-i", CLIP)) == _media.Streams("h264", "aac", "mono", 15.5)


def test_a_cover_image_is_no_picture():
    """An mp3 with a cover is sound alone."""
    said = (
        "  Duration: 00:01:02.50, start\n  Stream #0:0: Audio: mp3, 44100 Hz, stereo, fltp, 128 kb/s\n"
        "  Stream #0:1: Video: mjpeg, yuvj420p, 500x500, 90k tbr (attached pic)\n"
    )
    assert _media.read_streams(said) == _media.Streams(None, "mp3", "stereo", 62.5)


def test_streams_of_the_output_are_not_the_inputs():
    """What ffmpeg says of its output is not taken for the input; the length written stands in for an unknown one."""
    said = (
        "  Duration: N/A, start\n  Stream #0:0: Video: png, rgb\nOutput #0, wav\n  Stream #0:0: Audio: pcm_s16le, "
        "16000 Hz, mono\nsize=     482KiB time=00:00:15.40 bitrate= 256.1kbits/s\n"
    )
    assert _media.read_streams(said) == _media.Streams("png", None, None, 15.4)


@pytest.mark.parametrize(
    ("video", "audio", "suffix"),
    [
        ("h264", "aac", ".mp4"),
        (None, "vorbis", ".mp4"),
        ("vp8", "vorbis", ".mkv"),
        ("h264", "pcm_s16le", ".mkv"),
    ],
)
def test_the_container_takes_the_streams_as_they_are(video, audio, suffix):
    """Codecs that mp4 does not hold go into Matroska."""
    assert _media.film_suffix(_media.Streams(video, audio, "mono", 1.0)) == suffix


def test_demuxed_audio_is_what_the_recogniser_needs(clip_wav):
    """The wav is 16 kHz, mono, 16 bit, as long as the clip."""
    with wave.open(str(clip_wav), "rb") as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (16_000, 1, 2)
        assert wav.getnframes() / 16_000 == pytest.approx(15.4, abs=0.2)


@pytest.mark.parametrize("kind", ["video", "audio", "odd codecs"])
def test_a_film_has_picture_sound_and_subtitles(kind, clip_wav, tmp_path):
    """Each kind of input becomes a whole film with one track of each kind."""
    media = {"video": CLIP, "audio": clip_wav, "odd codecs": tmp_path / "odd.avi"}[kind]
    if kind == "odd codecs":
        ffmpeg("-i", CLIP, "-c:v", "mjpeg", "-c:a", "pcm_s16le", media)
    srt = tmp_path / "subtitles.srt"
    srt.write_text(_subtitles.format_srt([_subtitles.Cue(("He was not",), 0.7, 3.2)]), "utf-8")
    streams = _media.read_streams(ffmpeg("-i", media))
    film = tmp_path / f"film{_media.film_suffix(streams)}"
    subprocess.run(_media.mux_command(media, srt, film, streams), check=True, capture_output=True)
    said = ffmpeg("-i", film)
    made = _media.read_streams(said)
    assert made.video
    assert made.audio
    assert said.count(": Subtitle: ") == 1
    assert made.duration_seconds == pytest.approx(15.5, abs=0.3)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path.write_bytes(random.Random(1).randbytes(3000)), "is not a video or audio file"),
        (lambda path: path.write_bytes(b""), "is not a video or audio file"),
        (
            lambda path: ffmpeg("-f", "lavfi", "-i", "color=size=64x64:duration=1", "-f", "mp4", path),
            "has no audio",
        ),
    ],
    ids=["noise", "empty", "silent film"],
)
def test_a_useless_file_is_explained(make, expected, _speech_extra, tmp_path):
    """The message says what is wrong with the file, quotes ffmpeg, and names the log."""
    media = tmp_path / "media.bin"
    make(media)
    ended = subprocess.run(_media.demux_command(media, tmp_path / "a.wav"), capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    message = _media.explain(media, ended.stderr, tmp_path / "stage.log")
    assert expected in message
    assert "ffmpeg: " in message
    assert "stage.log" in message


# speech


def test_speech_is_found_in_the_clip(clip_wav):
    """Three sentences are three segments, in order, inside the clip."""
    segments = _speech.find_speech(clip_wav)
    assert len(segments) == 3
    flat = [at for found in segments for at in (found["start"], found["end"])]
    assert flat == sorted(flat)
    assert 0 <= flat[0] < flat[-1] <= 15.5


@needs_speech
@pytest.mark.parametrize("length", [0, 1, 479, 480, 960, 16_000 * 5 + 7])
def test_no_speech_is_found_in_silence(length, tmp_path):
    """Silence of any length, an empty file included, has no segments."""
    assert _speech.find_speech(write_wav(tmp_path / "silence.wav", b"\0\0" * length)) == []


def test_speech_up_to_the_last_sample_is_kept(clip_wav, tmp_path):
    """A file that ends in the middle of a word still has that segment, ending where the file ends."""
    cut = 16_000 * 2
    for extra in (0, 100, -80):  # whole frames or not
        found = _speech.find_speech(write_wav(tmp_path / "cut.wav", samples_of(clip_wav)[: 2 * (cut + extra)]))
        assert len(found) == 1
        assert found[0]["end"] == pytest.approx((cut + extra) / 16_000, abs=0.05)


def test_long_speech_is_cut_into_segments_without_gaps(clip_wav, tmp_path):
    """Speech without a pause is cut into pieces of at most 15 s that follow each other."""
    spoken = samples_of(clip_wav)[2 * int(4.6 * 16_000) : 2 * int(10.1 * 16_000)]
    segments = _speech.find_speech(write_wav(tmp_path / "long.wav", spoken * 8))
    assert len(segments) >= 3
    assert all(0 < found["end"] - found["start"] <= _speech.LONGEST_SEGMENT_SECONDS + 0.01 for found in segments)
    assert segments[-1]["end"] - segments[0]["start"] == pytest.approx(44, abs=1.5)


def test_a_segment_too_short_for_words_has_none(clip_wav):
    """Scraps of audio, and places behind the end, are no error: they have no words."""
    recogniser = _speech.Recogniser(16_000)
    with wave.open(str(clip_wav), "rb") as wav:
        for start, end in ((0.0, 0.0), (15.39, 15.4), (99.0, 100.0)):
            assert recogniser.recognise(wav, {"start": start, "end": end})["words"] == []


@pytest.mark.slow
def test_the_transcript_is_close_to_what_is_said(clip_wav):
    """At least 70 % of the reference's words are recognised, in order, with times and confidence."""
    recogniser = _speech.Recogniser(16_000)
    with wave.open(str(clip_wav), "rb") as wav:
        heard = [recogniser.recognise(wav, found) for found in _speech.find_speech(clip_wav)]
    words = [word for part in heard for word in part["words"]]
    reference = CLIP.with_suffix(".txt").read_text("utf-8").split()
    matcher = difflib.SequenceMatcher(None, reference, [word["word"] for word in words], autojunk=False)
    assert sum(block.size for block in matcher.get_matching_blocks()) / len(reference) >= 0.7
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    assert all(0 <= word["confidence"] <= 1 and word["start"] < word["end"] <= 15.6 for word in words)
    assert all(0 < part["confidence"] <= 1 for part in heard)


# errors and the tour


@pytest.mark.parametrize("name", ["none.mp4", "."])
def test_an_input_that_is_no_file_is_refused_at_once(name, _speech_extra, tmp_path):
    """A missing file, or a folder, is named in the error, and nothing is written."""
    with pytest.raises(DemoError, match="does not exist|is not a file"):
        run_demo(tmp_path / name, tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_a_job_directory_without_files_is_no_error(tmp_path):
    """The tour of an empty folder has no stages to show, and says what to type all the same."""
    lines = list(_tour.tour(tmp_path, _tour.Paint(io.StringIO())))
    assert any("what it wrote" in line for line in lines)
    assert _tour.summary(tmp_path)["stages"] == {}


def test_there_are_no_colours_in_a_file():
    """Colours are for terminals, and not for who asked for none."""
    assert _tour.Paint(io.StringIO())("text", "1") == "text"


def test_colours_respect_no_color(monkeypatch):
    """A terminal gets colours unless `NO_COLOR` is set."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert _tour.Paint(Terminal())("text", "1") == "\033[1mtext\033[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert _tour.Paint(Terminal())("text", "1") == "text"


def test_the_tour_reads_a_foreign_folders_job_manifest(tmp_path):
    """Where `manifest.json` belongs to someone else, ours is `job.manifest.json`."""
    (tmp_path / "manifest.json").write_text('{"apiVersion": "v1"}')
    (tmp_path / "job.manifest.json").write_text(json.dumps({"pipeline": {"status": "success"}, "stages": {}}))
    assert _tour.summary(tmp_path)["status"] == "success"
    assert all("job.manifest.json" in command for _why, command in _tour.next_commands(tmp_path, None))


@pytest.mark.parametrize(
    ("module", "package"), [("pocketsphinx", "pocketsphinx"), ("imageio_ffmpeg", "imageio-ffmpeg")]
)
def test_a_missing_extra_says_how_to_get_it(module, package, monkeypatch, tmp_path):
    """Without the extra there is one line that says what to install, and nothing is written."""
    for name in ("pocketsphinx", "imageio_ffmpeg"):
        monkeypatch.setitem(sys.modules, name, None if name == module else json)
    with pytest.raises(DemoError) as caught:
        run_demo(None, tmp_path / "job")
    assert str(caught.value) == f"the demo needs {package}: pip install 'otel-stage[demo]'"
    assert not (tmp_path / "job").exists()

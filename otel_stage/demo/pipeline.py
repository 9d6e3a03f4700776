"""Subtitles for a video or audio file: a real pipeline, written on the public API alone.

Some stages are blocks, some are decorated functions; both write the same files.
"""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

from otel_stage import current_stage, pipeline, stage
from otel_stage.demo import _media, _speech, _subtitles
from otel_stage.demo._progress import progress
from otel_stage.errors import DemoError

STAGES = ["demux", "vad", "asr", "subtitles", "mux"]


def subtitle(media: Path, *, job_dir: Path | None = None, root: Path | str = "out", **settings: Any) -> Path:
    """Give a video or audio file subtitles of what is said in it (US English).

    Args:
        media: The file.
        job_dir: Folder to write to; without it a fresh one under `root`.
        root: Where fresh job directories are made.
        **settings: Settings of the library for this pipeline, such as `console="off"`.

    Returns:
        The job directory.

    Raises:
        DemoError: When the file has no sound, or ffmpeg cannot read it.
    """
    config = {"media": str(media), "language": "en-US"}
    with pipeline("subtitles", job_dir=job_dir, root=root, stages=STAGES, config=config, **settings) as job:
        with stage("demux") as st:
            media = st.track_input(media, type="media")
            st.set_config(sample_rate=_media.SAMPLE_RATE, channels=1, codec="pcm_s16le")
            audio = st.track_output(st.dir / "audio.wav", type="audio", sample_rate=_media.SAMPLE_RATE)
            ffmpeg = st.run(_media.demux_command(media, audio), check=False, capture=True)
            if ffmpeg.returncode:
                raise DemoError(_media.explain(media, ffmpeg.stderr, st.dir / "stage.log"))
            streams = _media.read_streams(ffmpeg.stderr)
            st.log.info("found %s sound and %s picture", streams.audio, streams.video or "no")
            if streams.layout == "mono":
                st.add_warning("the sound is mono: speakers cannot be told apart by direction")

        speech = vad(audio)
        transcript = asr(audio, speech)
        srt, _vtt = subtitles(transcript)

        with stage("mux") as st:
            st.track_input(media, type="media")
            st.track_input(srt, type="subtitles")
            st.set_config(picture=streams.video or "plain", sound=streams.audio)
            if srt.stat().st_size:
                film = st.dir / f"subtitled{_media.film_suffix(streams)}"
                st.run(_media.mux_command(media, srt, film, streams))
                st.track_output(film, type="video", duration_seconds=streams.duration_seconds)
            else:
                st.skip("nothing is said, so there are no subtitles to add")
    return job.dir


@stage
def vad(audio: Path, *, aggressiveness: int = 0) -> Path:
    """Find where somebody speaks."""
    st = current_stage()
    with wave.open(str(audio), "rb") as wav:
        seconds = wav.getnframes() / wav.getframerate()
    segments = _speech.find_speech(audio, aggressiveness=aggressiveness)
    for segment in segments:
        st.log.debug("speech from %.2f s to %.2f s", segment["start"], segment["end"])
    spoken = sum(segment["end"] - segment["start"] for segment in segments)
    st.log.info("speech in %.1f s of %.1f s, %d segments", spoken, seconds, len(segments))
    if not segments:
        st.add_warning("no speech found")
    return st.track_output(
        _write_json(st.dir / "segments.json", {"segments": segments}),
        type="segments",
        segment_count=len(segments),
        duration_seconds=round(seconds, 2),
        speech_seconds=round(spoken, 2),
    )


@stage
def asr(audio: Path, speech: Path, *, model: str = "en-us", unsure_below: float = 0.2) -> Path:
    """Recognise what is said."""
    st = current_stage()
    segments = json.loads(speech.read_text("utf-8"))["segments"]
    st.track_intermediate(
        _speech.model_folder(), type="model", name=model, retained=True, reason="comes with pocketsphinx"
    )
    heard: list[dict[str, Any]] = []
    if segments:
        st.log.debug("loading model %s from %s", model, _speech.model_folder())
        with wave.open(str(audio), "rb") as wav:
            recogniser = _speech.Recogniser(wav.getframerate())
            st.set_config(recogniser.settings)
            for segment in progress(segments, "segments recognised", st.log):
                heard.append(recogniser.recognise(wav, segment))
                st.log.debug("%.2f s: %s", segment["start"], heard[-1]["text"] or "(no words)")
    words = [word for segment in heard for word in segment["words"]]
    st.log.info("%d words in %d segments", len(words), len(segments))
    if unsure := [word["word"] for word in words if word["confidence"] < unsure_below]:
        st.add_warning(f"{len(unsure)} of {len(words)} words are unsure: {', '.join(unsure[:10])}")
    return st.track_output(
        _write_json(st.dir / "transcript.json", {"language": "en-US", "segments": heard}),
        type="transcript",
        segment_count=len(heard),
        word_count=len(words),
    )


@stage
def subtitles(transcript: Path) -> tuple[Path, Path]:
    """Cut the transcript into subtitles that can be read in time."""
    st = current_stage()
    cues = _subtitles.make_cues(json.loads(transcript.read_text("utf-8"))["segments"])
    for cue in cues:
        st.log.debug("%.2f-%.2f s: %s", cue.start, cue.end, " / ".join(cue.lines))
    srt, vtt = st.dir / "subtitles.srt", st.dir / "subtitles.vtt"
    srt.write_text(_subtitles.format_srt(cues), "utf-8", newline="\n")
    vtt.write_text(_subtitles.format_vtt(cues), "utf-8", newline="\n")
    st.log.info("%d cues", len(cues))
    return (
        st.track_output(srt, type="subtitles", cue_count=len(cues), language="en-US"),
        st.track_output(vtt, type="subtitles", cue_count=len(cues), language="en-US"),
    )


def _write_json(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8", newline="\n")
    return path

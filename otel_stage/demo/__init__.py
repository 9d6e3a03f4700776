"""The demo: `otel-stage demo` gives a video subtitles, and leaves files that say how.

`pipeline.py` is the pipeline, on the public API alone; the other modules do the work of its stages.
"""

from __future__ import annotations

from pathlib import Path

from otel_stage.errors import DemoError

__all__ = ["CLIP", "DemoError", "run_demo"]

CLIP = Path(__file__).with_name("speech_clip.mp4")
"""The video that is subtitled when no other is named: 15 s of three public-domain sentences."""


def run_demo(
    input: Path | None = None,
    job_dir: Path | None = None,
    root: Path | str = "out",
    *,
    quiet: bool = False,
) -> Path:
    """Give a video or audio file subtitles, as a pipeline whose every stage leaves a record.

    Args:
        input: The file; without it the clip that comes with the package.
        job_dir: Folder to write to; without it a fresh one under `root`.
        root: Where fresh job directories are made.
        quiet: Print nothing while it runs.

    Returns:
        The job directory.

    Raises:
        DemoError: When the extra `demo` is not installed, or the file does not exist, is not media or has no
            sound. What was begun is in the job directory, with status `failed`.
    """
    from importlib.util import find_spec

    for module, package in (("pocketsphinx", "pocketsphinx"), ("imageio_ffmpeg", "imageio-ffmpeg")):
        if find_spec(module) is None:
            raise DemoError(f"the demo needs {package}: pip install 'otel-stage[demo]'")
    media = CLIP if input is None else Path(input)
    if not media.exists():
        raise DemoError(f"{media} does not exist")
    if not media.is_file():
        raise DemoError(f"{media} is not a file")

    from otel_stage.demo import _progress
    from otel_stage.demo.pipeline import subtitle

    _progress.show(not quiet)
    settings = {"console": "off"} if quiet else {}
    return subtitle(media.absolute(), job_dir=job_dir, root=root, **settings)

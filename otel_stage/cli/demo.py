"""`otel-stage demo`: a real pipeline on real speech, and a tour of what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="demo")
@click.argument("input", required=False, type=click.Path(path_type=Path))
@click.option(
    "--out",
    "root",
    metavar="DIR",
    default=None,
    help="Write to a fresh job directory under DIR (default: out).",
)
@click.option(
    "--job-dir",
    metavar="DIR",
    default=None,
    type=click.Path(path_type=Path),
    help="Write to exactly this directory.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a summary for programs instead of the tour.")
@click.option("--quiet", is_flag=True, help="Show no progress; print the job directory alone.")
def command(input: Path | None, root: str | None, job_dir: Path | None, as_json: bool, quiet: bool) -> None:
    """Give a video subtitles, and see what a run leaves behind.

    Five stages: demux, vad, asr, subtitles, mux. INPUT is any video or audio file with English speech;
    without it a 15 s clip that comes with the package is used. Progress goes to stderr; the run ends with
    the tree of what was written, excerpts of it, and what to type next.

    \b
    Examples:
      otel-stage demo
      otel-stage demo holiday.mp4 --out runs
      otel-stage demo talk.mp3 --job-dir runs/talk
      otel-stage demo --json | jq -r .job_dir

    Exit code: 0 done, 2 when INPUT cannot be used or the extra is missing (pip install 'otel-stage[demo]').
    """  # noqa: D301 - \b is click's mark for a block that stays as it is
    if root is not None and job_dir is not None:
        raise click.UsageError("--out and --job-dir exclude each other: name one of them.")
    from otel_stage.demo import run_demo
    from otel_stage.errors import OtelStageError

    try:
        written = run_demo(input, job_dir, root or "out", quiet=quiet)
    except OtelStageError as error:
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(2) from None

    shown = _as_typed(written)
    if as_json:
        import json

        from otel_stage.demo._tour import summary

        click.echo(json.dumps(summary(shown), indent=2, ensure_ascii=False))
    elif quiet:
        click.echo(shown)
    else:
        import io
        import sys

        from otel_stage.demo._tour import Paint, tour

        # A console without line-drawing characters gets question marks, not a traceback.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        for line in tour(shown, Paint(sys.stdout)):
            click.echo(line)


def _as_typed(folder: Path) -> Path:
    """Shorten a folder under the current one to what a person would type."""
    try:
        return folder.relative_to(Path.cwd())
    except ValueError:
        return folder

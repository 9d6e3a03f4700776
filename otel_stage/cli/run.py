"""`otel-stage run`: any program as a stage; bytes and exit code pass through."""

from __future__ import annotations

import sys

import click


@click.command(name="run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--stage", "name", required=True, metavar="NAME", help="Name of the stage.")
@click.option("--key", metavar="KEY", help="Tells stages of one name apart: a sample, a file.")
@click.option("--number", type=int, metavar="N", help="Number of the stage; default: the next one.")
@click.option("--input", "inputs", multiple=True, type=click.Path(), metavar="PATH", help="It reads this file.")
@click.option("--output", "outputs", multiple=True, type=click.Path(), metavar="PATH", help="It writes this file.")
@click.option("--config", multiple=True, metavar="KEY=VALUE", help="A setting of it, kept as text; repeatable.")
@click.option(
    "--job-dir",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="The job directory; default: OTEL_STAGE_JOB_DIR, else a fresh one under out/.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 10**9, min_open=True),
    metavar="SECONDS",
    help="End it after so long; exit code 124.",
)
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- PROGRAM [ARGUMENTS]...")
def command(
    name: str, key: str | None, number: int | None, inputs: tuple[str, ...], outputs: tuple[str, ...],
    config: tuple[str, ...], job_dir: str | None, timeout: float | None, argv: tuple[str, ...],
) -> None:
    """Run a program as a stage of the job that the environment names, or of a fresh one.

    stdin, stdout, stderr and the exit code pass through byte for byte; a copy of its output lines goes to
    stage.log.

    \b
    Examples:
      otel-stage run --stage demux --input movie.mp4 --output audio.wav -- ffmpeg -i movie.mp4 audio.wav
      otel-stage run --stage sort --key a --job-dir out/job -- sort -o a.sorted a.txt
      export OTEL_STAGE_JOB_DIR=out/job; for s in a b; do otel-stage run --stage qc --key $s -- qc $s; done

    \b
    Exit code: the program's own (128 + n for signal n), 124 on --timeout, 2 for wrong usage.
    """  # noqa: D301 - \b is click's mark for a block that stays as it is
    pairs = {}
    for item in config:
        k, equals, value = item.partition("=")
        if not equals or not k:
            raise click.UsageError(f"--config takes KEY=VALUE, not {item!r}.")
        pairs[k] = value
    if timeout is not None and timeout != timeout:  # noqa: PLR0124 - only "not a number" differs from itself
        raise click.UsageError("--timeout takes seconds, not nan.")
    import os

    from otel_stage.errors import OtelStageError

    if job_dir:
        os.environ["OTEL_STAGE_JOB_DIR"] = job_dir
    try:
        from otel_stage._passthrough import run_as_stage
        from otel_stage._settings import configure

        # stderr belongs to the program.
        configure(console="off")

        code = run_as_stage(
            name, list(argv), key=key, number=number, inputs=inputs, outputs=outputs, config=pairs, timeout=timeout
        )
    except OtelStageError as err:
        click.echo(f"Error: {err}", err=True)
        raise click.exceptions.Exit(2) from None
    sys.exit(code)

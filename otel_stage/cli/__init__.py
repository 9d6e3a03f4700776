"""The command line: one file per command, loaded when it is called."""

from __future__ import annotations

import importlib
import importlib.util

import click

from otel_stage._version import __version__

# One line each: what `otel-stage --help` shows without loading the command.
_COMMANDS = {
    "demo": "Give a video subtitles, and see what a run leaves behind.",
    "run": "Run any program as a stage.",
    "schema": "Print the JSON Schema of a manifest or journal.",
    "settings": "Show every setting, its value here and where it comes from.",
}


class _LazyGroup(click.Group):
    """Commands are modules of this package; only the one that is called is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names of all commands."""
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of that name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"otel_stage.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The list in `--help`, without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="otel-stage")
def main() -> None:
    """Stage observability for batch pipelines: stages become spans, spans become files.

    \b
    Examples:
      otel-stage demo
      otel-stage run --stage demux --input movie.mp4 -- ffmpeg -i movie.mp4 audio.wav
      otel-stage schema stage
      otel-stage settings

    \b
    Exit codes: 0 done, 2 wrong usage or an error; `run` gives its program's own.
    Completion:  eval "$(_OTEL_STAGE_COMPLETE=bash_source otel-stage)"   (or zsh_source, fish_source)
    """  # noqa: D301 - \b is click's mark for a block that stays as it is

"""`otel-stage settings`: what holds here, and why."""

from __future__ import annotations

import json

import click


@click.command(name="settings")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(as_json: bool) -> None:
    """Show every setting, its value in this folder and environment, and where the value comes from.

    \b
    Examples:
      otel-stage settings
      OTEL_STAGE_CONSOLE=off otel-stage settings
      otel-stage settings --json | jq '.checksum'
    """  # noqa: D301 - \b is click's mark for a block that stays as it is
    from otel_stage._settings import ROWS, resolve
    from otel_stage.errors import SettingError

    try:
        found = resolve()
    except SettingError as err:
        click.echo(f"Error: {err}", err=True)
        raise click.exceptions.Exit(2) from None
    if as_json:
        shown = {
            row.name: {"value": getattr(found, row.name), "origin": found.origins[row.name], "doc": row.doc}
            for row in ROWS
        }
        click.echo(json.dumps(shown, indent=2))
        return
    width = max(len(row.name) for row in ROWS)
    for row in ROWS:
        value = getattr(found, row.name)
        text = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        click.echo(f"{row.name:<{width}}  {text:<12}  {found.origins[row.name]:<15}  {row.doc}")

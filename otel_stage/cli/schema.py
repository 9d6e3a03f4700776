"""`otel-stage schema`: the published JSON Schema."""

from __future__ import annotations

import json
from typing import Literal

import click


@click.command(name="schema")
@click.argument("kind", type=click.Choice(["stage", "job", "journal"]))
def command(kind: Literal["stage", "job", "journal"]) -> None:
    """Print the JSON Schema (2020-12) of a stage manifest, a job manifest or a journal line.

    \b
    Examples:
      otel-stage schema stage > stage.schema.json
      otel-stage schema job | jq '.properties | keys'
    """  # noqa: D301 - \b is click's mark for a block that stays as it is
    from otel_stage.manifest import json_schema

    click.echo(json.dumps(json_schema(kind), indent=2, ensure_ascii=False))

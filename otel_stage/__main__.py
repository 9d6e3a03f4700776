"""`python -m otel_stage` is `otel-stage`."""

from otel_stage.cli import main

main(prog_name="otel-stage")

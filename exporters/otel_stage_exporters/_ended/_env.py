"""Settings as the environment gives them: what OpenTelemetry builds without arguments has nothing else."""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import NamedTuple

from otel_stage.semconv import ENV_JOB_DIR, ENV_RUN_ID

_log = logging.getLogger("otel_stage")
_OFF = ("0", "false", "no", "off")
_ON = ("1", "true", "yes", "on")


class Env(NamedTuple):
    """The settings that matter here; see the reference of settings for what they mean.

    The last two are no settings: lines that come seconds late would confuse on a console, and the threads in which
    exporters run have no need to hurry.
    """

    root: str
    job_dir: str
    run_id: str
    checksum: str
    utc: bool
    milliseconds: bool
    fsync: bool
    facts: bool
    console: str = "off"
    hold_gil: bool = False


def read_env() -> Env:
    """The settings as they are now; a value that is not understood counts as not given."""
    return Env(
        root=os.environ.get("OTEL_STAGE_ROOT") or "out",
        job_dir=os.environ.get(ENV_JOB_DIR, ""),
        run_id=os.environ.get(ENV_RUN_ID, ""),
        checksum=_algorithm(os.environ.get("OTEL_STAGE_CHECKSUM", "")),
        utc=_flag("OTEL_STAGE_UTC"),
        milliseconds=_flag("OTEL_STAGE_MILLISECONDS"),
        fsync=_flag("OTEL_STAGE_FSYNC"),
        facts=_flag("OTEL_STAGE_FACTS", default=True),
    )


def _flag(variable: str, *, default: bool = False) -> bool:
    word = os.environ.get(variable, "").strip().lower()
    return word not in _OFF if default else word in _ON


@cache
def _algorithm(word: str) -> str:
    from otel_stage.checksum import DEFAULT_ALGORITHM, check_algorithm

    word = word.strip().lower()
    if word in ("", "off"):
        return word or DEFAULT_ALGORITHM
    try:
        check_algorithm(word)
    except ValueError as err:
        _log.warning("OTEL_STAGE_CHECKSUM cannot be %a: it takes %s; %s is taken", word, err, DEFAULT_ALGORITHM)
        return DEFAULT_ALGORITHM
    return word

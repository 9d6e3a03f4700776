"""Fixtures that the specification tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from support import QUICK, JobFiles, run_python, steers


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and an environment that says nothing about telemetry."""
    for name in list(os.environ):
        if steers(name):
            monkeypatch.delenv(name)
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def job(fresh: Path) -> JobFiles:
    """A job directory that does not exist yet, in a clean environment."""
    return JobFiles(fresh / "job")


@pytest.fixture
def python(fresh: Path) -> Callable[..., CompletedProcess[str]]:
    """`run_python` in a clean environment and an empty current directory."""

    def run(code: str, *args: object, **options: Any) -> CompletedProcess[str]:
        return run_python(code, *args, **{"cwd": fresh, **options})

    return run

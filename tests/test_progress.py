"""`console="live"`: a line of progress on a terminal, and only there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support import clean_env

pty = pytest.importorskip("pty")

CODE = """
import sys, time
from otel_stage import pipeline, stage
with pipeline("p", job_dir=sys.argv[1], stages=["slow"], console="live"):
    with stage("slow") as st:
        time.sleep(0.8)
        st.log.info("in between")
"""


def run_on_terminal(job: Path) -> bytes:
    """What a terminal gets as stderr of the script."""
    import subprocess

    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(job)], stderr=child, stdout=subprocess.DEVNULL, env=clean_env()
    )
    os.close(child)
    seen = b""
    while True:
        try:
            block = os.read(parent, 4096)
        except OSError:
            break
        if not block:
            break
        seen += block
    os.close(parent)
    assert process.wait(30) == 0
    return seen


def test_a_terminal_shows_what_runs_and_log_lines_stand_alone(tmp_path: Path) -> None:
    """The line names stage and seconds, makes way for log lines, and is gone at the end."""
    seen = run_on_terminal(tmp_path / "job").decode()
    assert "1/1 slow 0." in seen
    shown = [line.rpartition("\x1b[2K")[2] for line in seen.replace("\r\n", "\n").split("\n")]
    assert [line for line in shown if line.endswith("in between")][0].startswith("[")
    assert shown[-1] == ""


def test_no_terminal_no_line(tmp_path: Path) -> None:
    """Into a file go the plain lines alone."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "job")], capture_output=True, text=True, env=clean_env(), check=True
    )
    assert "\x1b" not in done.stderr
    assert "✓ Stage slow" in done.stderr

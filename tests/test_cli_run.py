"""`otel-stage run`: any program as a stage, black box."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import clean_env

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and /dev/full")


def command(job: Path, *argv: str, stage: str = "s", options: tuple[str, ...] = ()) -> list[str]:
    """The command line of one stage."""
    return [sys.executable, "-m", "otel_stage", "run", "--stage", stage, "--job-dir", str(job), *options, "--", *argv]


def manifest(job: Path, folder: str = "01_s") -> dict:
    """The stage's manifest."""
    return json.loads((job / folder / "manifest.json").read_text())


def test_bytes_and_exit_code_pass_through(tmp_path: Path) -> None:
    """stdin, stdout, stderr come out byte for byte, and nothing of ours among them."""
    data = bytes(range(256)) * 50
    done = subprocess.run(
        command(tmp_path / "job", "sh", "-c", "cat; echo oops >&2; exit 7"), input=data, capture_output=True, env=clean_env()
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, data, b"oops\n")
    m = manifest(tmp_path / "job")
    assert (m["status"], m["errors"][0]["message"]) == ("failed", "sh ended with exit code 7: oops")
    assert "oops" in (tmp_path / "job/01_s/stage.log").read_text()


def test_inputs_outputs_and_config_are_recorded(tmp_path: Path) -> None:
    """Files named on the command line are artifacts with checksums; the program and its arguments are named."""
    (tmp_path / "in.txt").write_text("b\na\n")
    options = ("--input", str(tmp_path / "in.txt"), "--output", str(tmp_path / "out.txt"), "--config", "order=up")
    argv = ("sort", "-o", str(tmp_path / "out.txt"), str(tmp_path / "in.txt"))
    subprocess.run(command(tmp_path / "job", *argv, options=options), check=True, env=clean_env())
    m = manifest(tmp_path / "job")
    assert m["status"] == "success"
    assert [a["size_bytes"] for a in m["inputs"] + m["outputs"]] == [4, 4]
    assert m["config"] == {"order": "up"}
    assert m["code"]["argv"][0] == "sort"


@posix
def test_output_that_cannot_be_passed_on_is_a_failure(tmp_path: Path) -> None:
    """A full disk behind stdout fails the stage, as it would have failed the program; the lines are in stage.log."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command(tmp_path / "job", "sh", "-c", "echo hi"), stdout=full, stderr=subprocess.PIPE, env=clean_env()
        )
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert manifest(tmp_path / "job")["status"] == "failed"
    assert "hi" in (tmp_path / "job/01_s/stage.log").read_text()


@posix
def test_nobody_reads(tmp_path: Path) -> None:
    """A program whose reader has gone ends by SIGPIPE, as without us."""
    pipe = " ".join(f"'{part}'" for part in command(tmp_path / "job", "sh", "-c", "seq 100000")) + " | head -1 >/dev/null"
    subprocess.run(["bash", "-c", pipe + "; test ${PIPESTATUS[0]} = 141"], check=True, env=clean_env())


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_signals_reach_the_program(tmp_path: Path, number: int, code: int) -> None:
    """A signal sent to us ends the program, and the stage is cancelled by it."""
    script = "trap 'exit 143' TERM; echo ready; sleep 30 & wait"
    argv = ("sh", "-c", script) if number == signal.SIGTERM else ("sh", "-c", "echo ready; exec sleep 30")
    process = subprocess.Popen(command(tmp_path / "job", *argv), stdout=subprocess.PIPE, env=clean_env())
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.kill(process.pid, number)
    assert process.wait(20) == code
    process.stdout.close()
    m = manifest(tmp_path / "job")
    assert (m["status"], m["reason"]) == ("cancelled", signal.Signals(number).name)


def test_a_timeout_is_124(tmp_path: Path) -> None:
    """A program that takes too long is ended; the stage failed of it."""
    argv = (sys.executable, "-c", "import time; time.sleep(60)")
    began = time.monotonic()
    done = subprocess.run(command(tmp_path / "job", *argv, options=("--timeout", "0.5")), env=clean_env())
    assert done.returncode == 124
    assert time.monotonic() - began < 50
    assert "took longer than 0.5 s" in manifest(tmp_path / "job")["errors"][0]["message"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["run", "--stage", "a/b", "--", "true"], "cannot be a folder name"),
        (["run", "--stage", "s", "--timeout", "nan", "--", "true"], "nan"),
        (["run", "--stage", "s", "--timeout", "-1", "--", "true"], "range"),
        (["run", "--stage", "s", "--config", "x", "--", "true"], "KEY=VALUE"),
        (["run", "--stage", "s"], "PROGRAM"),
        (["nosuch"], "No such command"),
    ],
)
def test_wrong_usage_is_one_clear_error(tmp_path: Path, argv: list[str], said: str) -> None:
    """Exit code 2, what is wrong, and no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_stage", *argv], capture_output=True, text=True, cwd=tmp_path, env=clean_env()
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_is_not_there_is_127(tmp_path: Path) -> None:
    """As a shell says it, with one line on stderr."""
    done = subprocess.run(command(tmp_path / "job", "no-such-program"), capture_output=True, text=True, env=clean_env())
    assert done.returncode == 127
    assert done.stderr == "otel-stage: no-such-program: No such file or directory\n"

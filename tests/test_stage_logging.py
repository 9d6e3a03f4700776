"""What stage logging promises, one line per promise.

`python tests/test_stage_logging.py` prints them as a list of ✓; under pytest each is a test.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

VERBS = {
    "track_input", "track_output", "track_intermediate", "add_config", "set_config", "add_warning", "add_error",
    "set_resources",
}  # fmt: skip
FIELDS = [
    "stage", "stage_number", "timestamp", "duration_seconds", "status", "inputs", "outputs", "intermediate_files",
    "config", "resources", "errors", "warnings",
]  # fmt: skip


def make_job(folder: Path) -> None:
    """A pipeline of one stage that uses everything that a stage can do; runs in a process of its own."""
    from otel_stage import pipeline, stage

    text = folder / "input.txt"
    text.write_bytes(b"hello\n")
    with pipeline("verification", job_dir=folder / "job", stages=["asr"]), stage("asr") as st:
        st.track_input(text, type="text", language="en")
        st.log.debug("a debug message")
        st.log.info("an info message")
        st.log.error("an error message")
        output = st.track_output(st.dir / "transcript.json", type="transcript", segment_count=2)
        output.write_text("{}")
        cache = st.track_intermediate(st.dir / "cache.bin", retained=True, reason="model cache")
        cache.write_bytes(b"0123456789")
        st.set_config({"model": "large-v2"}, batch_size=16)
        st.add_config("language", "hi")
        st.add_warning("low confidence")
        st.add_error("one segment was lost", ValueError("empty segment"))
        st.set_resources(gpu_hours=0.5)


class Made(NamedTuple):
    """What the job left: its directory, and what stood on the console."""

    job: Path
    console: str

    @property
    def manifest(self) -> dict[str, Any]:
        """The stage manifest."""
        found: dict[str, Any] = json.loads((self.job / "01_asr/manifest.json").read_bytes())
        return found

    @property
    def stage_log(self) -> str:
        """The stage's own log."""
        return (self.job / "01_asr/stage.log").read_text(encoding="utf-8")

    @property
    def pipeline_log(self) -> str:
        """The pipeline log."""
        (path,) = (self.job / "logs").glob("99_pipeline_*.log")
        return path.read_text(encoding="utf-8")


_folder = tempfile.TemporaryDirectory(prefix="stage-logging-")


@cache
def made() -> Made:
    """The job, made once."""
    folder = Path(_folder.name)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACE", "BAGGAGE"))}
    if "OTEL_STAGE_PORTABLE" in os.environ:
        env["OTEL_STAGE_PORTABLE"] = os.environ["OTEL_STAGE_PORTABLE"]
    done = subprocess.run(
        [sys.executable, __file__, "--make", folder], env={**env, "PYTHONUTF8": "1"}, cwd=folder, capture_output=True,
        encoding="utf-8", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return Made(folder / "job", done.stderr)


# --- Test 1: Module Imports


def all_imports_successful() -> None:
    """Every public name can be imported."""
    import otel_stage

    assert all(getattr(otel_stage, name) is not None for name in otel_stage.__all__)


def stage_class_available() -> None:
    """`Stage` has every verb of stage logging."""
    from otel_stage import Stage, current_stage, pipeline, stage

    assert {name for name in VERBS if callable(getattr(Stage, name))} == VERBS
    assert all(map(callable, (current_stage, pipeline, stage)))


def manifest_model_available() -> None:
    """Manifests can be folded, read, and described by a schema that has the twelve fixed fields."""
    from otel_stage.manifest import fold, json_schema, read_stage

    assert callable(fold) and callable(read_stage)
    assert set(FIELDS) <= set(json_schema("stage")["properties"])


def stage_logger_available() -> None:
    """A stage and a pipeline have a logger."""
    from otel_stage import Pipeline, Stage

    assert isinstance(Stage.log, property) and isinstance(Pipeline.log, property)


# --- Test 2: Comprehensive Functionality


def stage_initialization() -> None:
    """The stage has its number, its folder and its journal."""
    manifest = made().manifest
    assert (manifest["stage"], manifest["stage_number"]) == ("asr", 1)
    assert (made().job / ".otel-stage/stages/01_asr.jsonl").is_file()


def dual_logger_creation() -> None:
    """One logger wrote to stage.log under the stage's name and to the pipeline log under the pipeline's."""
    assert "[stage.asr] [INFO] an info message" in made().stage_log
    assert "[pipeline] [INFO] an info message" in made().pipeline_log


def input_tracking() -> None:
    """The input has type, path, size, checksum and metadata."""
    path = (made().job.parent / "input.txt").as_posix()
    assert made().manifest["inputs"] == [
        {
            "type": "text",
            "path": path,
            "size_bytes": 6,
            "checksum": "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "language": "en",
        }
    ]


def output_tracking() -> None:
    """The output, declared before it existed, has its size and checksum, and a path inside the job directory."""
    (output,) = made().manifest["outputs"]
    assert output == {
        "type": "transcript",
        "path": "01_asr/transcript.json",
        "size_bytes": 2,
        "checksum": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "segment_count": 2,
    }


def intermediate_file_tracking() -> None:
    """The intermediate file has size, `retained` and reason, and no checksum."""
    (cache_file,) = made().manifest["intermediate_files"]
    assert cache_file == {
        "type": "intermediate",
        "path": "01_asr/cache.bin",
        "size_bytes": 10,
        "retained": True,
        "reason": "model cache",
    }


def configuration_tracking() -> None:
    """Config that was set at once and one by one is together."""
    assert made().manifest["config"] == {"model": "large-v2", "batch_size": 16, "language": "hi"}


def warning_and_error_tracking() -> None:
    """Warning and error are recorded with their time; neither ended the stage."""
    manifest = made().manifest
    assert [warning["message"] for warning in manifest["warnings"]] == ["low confidence"]
    (error,) = manifest["errors"]
    assert (error["message"], error["type"]) == ("one segment was lost", "ValueError")
    assert all("timestamp" in issue for issue in (*manifest["warnings"], error))
    assert manifest["status"] == "success"


def resource_tracking() -> None:
    """Measured resources stand beside the given one."""
    resources = made().manifest["resources"]
    assert resources["gpu_hours"] == 0.5
    assert resources["cpu_seconds"] >= 0
    assert resources["memory_mb"] > 1
    assert isinstance(resources["gpu_used"], bool)


def finalization() -> None:
    """The stage ended, and the job knows it."""
    manifest = made().manifest
    job = json.loads((made().job / "manifest.json").read_bytes())
    assert manifest["duration_seconds"] > 0 and manifest["completed_at"] > manifest["timestamp"]
    assert job["pipeline"]["completed_stages"] == ["asr"]
    assert job["stages"]["asr"]["status"] == job["pipeline"]["status"] == "success"


def manifest_saving() -> None:
    """The manifest on disk is the fold of the journal on disk."""
    from otel_stage.manifest import fold, parse_lines

    journal = (made().job / ".otel-stage/stages/01_asr.jsonl").read_bytes()
    assert fold(parse_lines(journal)) == made().manifest


def stage_log_created() -> str:
    """stage.log is as long as the manifest says."""
    log = made().manifest["log"]
    assert log["path"] == "01_asr/stage.log"
    assert log["size_bytes"] == len(made().stage_log.encode()) > 0
    assert log["lines"] == made().stage_log.count("\n")
    return f"{log['size_bytes']} bytes"


def pipeline_log_created() -> str:
    """The pipeline log tells of the run from its beginning to its end."""
    first, *_, last = made().pipeline_log.splitlines()
    assert "Pipeline verification: started" in first
    assert "Pipeline verification: SUCCESS" in last
    assert "▶ Stage 1/1: asr" in made().pipeline_log
    assert "✓ Stage asr: SUCCESS" in made().pipeline_log
    return f"{len(made().pipeline_log.encode())} bytes"


def manifest_created_with_correct_structure() -> None:
    """The manifest is read without complaint, has the twelve fixed fields, and its seal fits."""
    import hashlib

    from otel_stage.manifest import read_job, read_stage

    manifest = read_stage(made().job / "01_asr/manifest.json")
    entry = read_job(made().job / "manifest.json")["stages"]["asr"]
    assert [name for name in FIELDS if name not in manifest] == []
    sealed = hashlib.sha256((made().job / entry["manifest"]).read_bytes()).hexdigest()
    assert entry["manifest_sha256"] == sealed


# --- Test 3: Log Separation


def debug_only_in_stage_log() -> None:
    """DEBUG is in stage.log and nowhere else."""
    assert "[DEBUG] a debug message" in made().stage_log
    assert "DEBUG" not in made().pipeline_log
    assert "DEBUG" not in made().console


def info_and_above_in_both() -> None:
    """INFO, WARNING and ERROR are in both logs."""
    for level, text in (("INFO", "an info message"), ("WARNING", "low confidence"), ("ERROR", "an error message")):
        for log in (made().stage_log, made().pipeline_log):
            assert re.search(rf"^\[[-0-9: ]+\] \[[a-z.]+\] \[{level}\] {text}$", log, re.MULTILINE), (level, log)


def console_shows_info_and_above() -> None:
    """The console shows exactly the lines of the pipeline log."""
    assert made().console == made().pipeline_log


class Part(NamedTuple):
    """A heading of the list, and its lines."""

    title: str
    checks: dict[str, Callable[[], str | None]]


PARTS = [
    Part("Test 1: Module Imports", {
        "All imports successful": all_imports_successful,
        "Stage class available": stage_class_available,
        "Manifest model available": manifest_model_available,
        "Stage logger available": stage_logger_available,
    }),
    Part("Test 2: Comprehensive Functionality", {
        "Stage initialization": stage_initialization,
        "Dual logger creation": dual_logger_creation,
        "Input tracking": input_tracking,
        "Output tracking": output_tracking,
        "Intermediate file tracking": intermediate_file_tracking,
        "Configuration tracking": configuration_tracking,
        "Warning/error tracking": warning_and_error_tracking,
        "Resource tracking": resource_tracking,
        "Finalization": finalization,
        "Manifest saving": manifest_saving,
        "Stage log created": stage_log_created,
        "Pipeline log created": pipeline_log_created,
        "Manifest created with correct structure": manifest_created_with_correct_structure,
    }),
    Part("Test 3: Log Separation", {
        "DEBUG messages only in stage.log": debug_only_in_stage_log,
        "INFO+ messages in both stage.log and pipeline log": info_and_above_in_both,
        "Console shows INFO+ messages": console_shows_info_and_above,
    }),
]  # fmt: skip


@pytest.mark.parametrize(
    "check", [pytest.param(check, id=title) for part in PARTS for title, check in part.checks.items()]
)
def test_stage_logging(check: Callable[[], str | None]) -> None:
    """What the line says holds."""
    check()


def main() -> int:
    """Print the list; 1 when a line does not hold."""
    failed = 0
    for part in PARTS:
        lines: list[str] = []
        bad = 0
        for title, check in part.checks.items():
            try:
                told = check()
                lines.append(f"✓ {title}" + (f" ({told})" if told else ""))
            except Exception as err:
                bad += 1
                lines.append(f"✗ {title}: {type(err).__name__}: {err}")
        failed += bad
        print(f"{part.title}: {f'{bad} FAILED' if bad else 'PASSED'}", *lines, "", sep="\n")
    print("Some lines do not hold." if failed else "All tests passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make_job(Path(sys.argv[2]))
    else:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", errors="replace")
        sys.exit(main())

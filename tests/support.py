"""What the specification tests share: readers of a job directory, and Python in a process of its own."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HEADER = re.compile(
    r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{3})?\] \[(?P<source>[^\]\n]+)\] \[(?P<level>[A-Z][A-Za-z0-9 ]*)\] (?P<text>.*)"
)
_STEERS = ("OTEL_", "TRACEPARENT", "TRACESTATE", "BAGGAGE")
# The whole suite may be run with the Linux paths switched off.
_KEPT = ("OTEL_STAGE_PORTABLE",)
# Facts and resource samples cost time and have tests of their own.
QUICK = {"OTEL_STAGE_FACTS": "0", "OTEL_STAGE_RESOURCES": "0"}


class Record(NamedTuple):
    """One record of a log: its header's parts and its text, continuation lines without their indent."""

    source: str
    level: str
    text: str


def parse_log(data: bytes) -> list[Record]:
    """The records of a log; fails where a line at column 0 is no record header or anything is torn."""
    found: list[Record] = []
    assert data == b"" or data.endswith(b"\n"), "the last line is torn"
    # Split at newlines alone: str.splitlines would also split where a terminal does not.
    for line in data.decode("utf-8").split("\n")[:-1]:
        if line.startswith("    "):
            assert found, f"a continuation line without a record: {line!r}"
            found[-1] = found[-1]._replace(text=f"{found[-1].text}\n{line[4:]}")
            continue
        match = HEADER.fullmatch(line)
        assert match is not None, f"no record header at column 0: {line!r}"
        found.append(Record(match["source"], match["level"], match["text"]))
    return found


class JobFiles:
    """A job directory as a person with `cat` and `jq` sees it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def manifest(self) -> dict[str, Any]:
        """The job manifest."""
        return json.loads((self.path / "manifest.json").read_bytes())

    @property
    def folders(self) -> list[str]:
        """Names of the stage folders, sorted."""
        return sorted(p.name for p in self.path.iterdir() if re.fullmatch(r"\d+_.+", p.name))

    def folder(self, ident: str) -> Path:
        """The folder of a stage, by its id."""
        found = [name for name in self.folders if name.partition("_")[2] == ident]
        assert len(found) == 1, f"{ident}: {self.folders}"
        return self.path / found[0]

    def stage(self, ident: str) -> dict[str, Any]:
        """A stage's manifest, by its id."""
        return json.loads((self.folder(ident) / "manifest.json").read_bytes())

    def stage_log(self, ident: str) -> list[Record]:
        """The records of a stage.log."""
        return parse_log((self.folder(ident) / "stage.log").read_bytes())

    @property
    def pipeline_logs(self) -> list[Path]:
        """All pipeline logs, oldest first."""
        return sorted((self.path / "logs").glob("99_pipeline_*.log"), key=lambda p: (len(p.name), p.name))

    @property
    def pipeline_log(self) -> list[Record]:
        """The records of the only pipeline log."""
        (log,) = self.pipeline_logs
        return parse_log(log.read_bytes())

    def journal(self, folder: str = "") -> list[dict[str, Any]]:
        """The events of the job's journal, or of a stage's by its folder."""
        state = self.path / ".otel-stage"
        path = state / "stages" / f"{folder}.jsonl" if folder else state / "journal.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    def everything(self) -> bytes:
        """All bytes of all files below, for looking that something is nowhere."""
        return b"\0".join(os.fsencode(p) + b"\0" + p.read_bytes() for p in sorted(self.path.rglob("*")) if p.is_file())


def sha256(data: bytes) -> str:
    """The checksum of `data` as manifests have it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def messages(manifest: dict[str, Any]) -> list[str]:
    """What the warnings of a stage say."""
    return [warning["message"] for warning in manifest["warnings"]]


def run_stages(job: JobFiles, *names: str, **options: Any) -> str:
    """Run a pipeline of empty stages, each by its id; gives the run's id."""
    from otel_stage import pipeline, stage

    with pipeline("p", job_dir=job.path, **options) as run:
        for name in names:
            head, _, key = name.partition(".")
            with stage(head, key=key or None):
                pass
        return run.run_id


def texts(records: list[Record]) -> list[str]:
    """The records' texts."""
    return [record.text for record in records]


@contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """The root logger without pytest's handlers, as in a program that configures no logging.

    A block and no fixture: pytest adds its handlers after the fixtures of a test are made.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        yield root
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def steers(name: str) -> bool:
    """Whether an environment variable would steer OpenTelemetry or us."""
    return name.startswith(_STEERS) and name not in _KEPT


def clean_env(env: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """This environment without what would steer OpenTelemetry or us, plus `env` (None takes a name away)."""
    base = {name: value for name, value in os.environ.items() if not steers(name)}
    base.update(QUICK)
    for name, value in (env or {}).items():
        if value is None:
            base.pop(name, None)
        else:
            base[name] = value
    return base


def script(code: str, folder: str | os.PathLike[str]) -> str:
    """A file that holds `code`: pools that spawn import the main module again."""
    text = textwrap.dedent(code)
    path = Path(folder) / f"script_{zlib.crc32(text.encode()):08x}.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def start_python(
    code: str, *args: object, cwd: str | os.PathLike[str], env: Mapping[str, str | None] | None = None
) -> subprocess.Popen[str]:
    """Start Python code in a process of its own, with pipes; `args` are its `sys.argv[1:]`."""
    return subprocess.Popen(
        [sys.executable, script(code, cwd), *map(str, args)],
        env=clean_env(env), cwd=cwd, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run_python(
    code: str,
    *args: object,
    cwd: str | os.PathLike[str],
    env: Mapping[str, str | None] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, to its end; it must end with 0 unless `check` is false."""
    process = start_python(code, *args, cwd=cwd, env=env)
    try:
        out, err = process.communicate("", timeout=60)
    finally:
        process.kill()
    if check:
        assert process.returncode == 0, f"exit code {process.returncode}\n{out}\n{err}"
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)

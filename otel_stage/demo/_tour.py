"""What a reader is shown after the run: what was written, the telling parts of it, and what to type next.

It knows nothing but the job directory: everything here is read from its files, as a stranger would.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

_ASR = "asr"
_LAST_LINES = 10
_WIDTH = 78


class Paint:
    """Colours for a terminal; none for a file, a pipe, or a reader who wants none (`NO_COLOR`)."""

    def __init__(self, stream: TextIO) -> None:
        """Look at where the text goes.

        Args:
            stream: Where it will be printed.
        """
        self._on = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def __call__(self, text: str, code: str) -> str:
        """Give text an SGR code, such as `1` for bold or `2` for dim."""
        return f"\033[{code}m{text}\033[0m" if self._on and text else text


def load_job(job_dir: Path) -> dict[str, Any]:
    """Read the job manifest; empty when there is none."""
    for name in ("job.manifest.json", "manifest.json"):
        job = _json(job_dir / name)
        if "pipeline" in job:
            return job
    return {}


def summary(job_dir: Path) -> dict[str, Any]:
    """Sum a run up for programs: `job_dir`, `status`, `stages` and the `outputs` of each."""
    job = load_job(job_dir)
    stages = job.get("stages", {})
    outputs = {
        name: [item["path"] for item in _json(job_dir / entry.get("manifest", "")).get("outputs", [])]
        for name, entry in stages.items()
    }
    return {
        "job_dir": str(job_dir),
        "status": job.get("pipeline", {}).get("status"),
        "total_seconds": job.get("timing", {}).get("total_seconds"),
        "stages": {name: entry.get("status") for name, entry in stages.items()},
        "outputs": outputs,
    }


def tour(job_dir: Path, paint: Paint) -> Iterator[str]:
    """Show a reader round a job directory, line by line.

    Args:
        job_dir: The folder, as it should stand in the commands.
        paint: Colours.
    """
    job = load_job(job_dir)
    stages = job.get("stages", {})
    yield from _heading("what it wrote", paint)
    yield paint(f"{job_dir}/", "1")
    # Only what is ours: the directory may have been full of other things before.
    ours = {"manifest.json", "job.manifest.json", "logs", *(_folder(entry) for entry in stages.values())}
    yield from _tree(job_dir, paint, ours)

    logs = sorted((job_dir / "logs").glob("*.log"), key=lambda log: log.stat().st_mtime_ns)
    for log in logs[-1:]:
        yield from _heading(f"{log.relative_to(job_dir).as_posix()}: the whole run, INFO and above", paint)
        yield from (_log_line(line, paint) for line in _lines(log))

    told = _ASR if _ASR in stages else next(reversed(stages), None)
    if told is not None:
        entry = stages[told]
        lines = _lines(job_dir / entry.get("log", ""))
        end = "" if len(lines) <= _LAST_LINES else f", the last {_LAST_LINES} of {len(lines)} lines"
        yield from _heading(f"{entry.get('log')}: one stage, DEBUG too{end}", paint)
        yield from (_log_line(line, paint) for line in lines[-_LAST_LINES:])
        yield from _heading(f"{entry.get('manifest')}: what it did, shortened", paint)
        yield json.dumps(_shortened(_json(job_dir / entry.get("manifest", ""))), indent=2, ensure_ascii=False)

    yield from _heading("what to type next", paint)
    for why, command in next_commands(job_dir, told):
        yield paint(f"# {why}", "2")
        yield paint(command, "36")


def next_commands(job_dir: Path, told: str | None = _ASR) -> Iterator[tuple[str, str]]:
    """Name commands that read the files, and need nothing but what every system has, and jq.

    Args:
        job_dir: The folder, as it should stand in the commands.
        told: Id of the stage that the tour told of; None when no stage ran.

    Returns:
        Pairs of what it answers and the command.
    """
    stages = load_job(job_dir).get("stages", {})
    folder = shlex.quote(str(job_dir))

    def path(name: str) -> str:
        return shlex.quote(str(job_dir / name))

    manifest = path("job.manifest.json" if (job_dir / "job.manifest.json").exists() else "manifest.json")
    if "subtitles" in stages:
        yield "the subtitles", f"cat {path(_folder(stages['subtitles']) + '/subtitles.srt')}"
    ran = "jq -c '.stages[] | [.stage_number, .status, .duration_seconds, .manifest]'"
    yield "which stages ran, and for how long", f"{ran} {manifest}"
    if told in stages:
        entry = stages[told]
        yield f"everything that {told} said", f"cat {path(entry['log'])}"
        yield (
            f"with which config, at what cost, with which warnings {told} ran",
            f"jq '{{config, resources, warnings}}' {path(entry['manifest'])}",
        )
        # Paths in manifests are relative to the job directory, so that is where it runs.
        checksums = (
            'jq -r \'.outputs[] | select(.checksum) | "\\(.checksum | ltrimstr("sha256:"))  \\(.path)"\' '
            "[0-9]*/manifest.json | sha256sum -c"
        )
        yield "are the outputs still what they were", f"(cd {folder} && {checksums})"


def _tree(folder: Path, paint: Paint, only: set[str] | None = None, indent: str = "") -> Iterator[str]:
    entries = sorted(os.scandir(folder), key=lambda entry: (entry.is_dir(), entry.name))
    shown = [entry for entry in entries if only is None or entry.name in only]
    for entry in shown:
        last = entry is shown[-1]
        lead = f"{indent}{'└── ' if last else '├── '}"
        if entry.is_dir(follow_symlinks=False):
            yield f"{lead}{paint(entry.name + '/', '1')}"
            yield from _tree(Path(entry.path), paint, None, indent + ("    " if last else "│   "))
        else:
            size = _size(entry.stat(follow_symlinks=False).st_size)
            yield f"{lead}{entry.name}{paint(size.rjust(max(1, 60 - len(lead) - len(entry.name))), '2')}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _heading(text: str, paint: Paint) -> Iterator[str]:
    yield ""
    yield paint(f"── {text} ".ljust(_WIDTH, "─"), "1;34")


def _log_line(line: str, paint: Paint) -> str:
    for level, code in (("[DEBUG]", "2"), ("[WARNING]", "33"), ("[ERROR]", "31"), ("[CRITICAL]", "31")):
        if level in line:
            return paint(line, code)
    return line


def _shortened(manifest: dict[str, Any]) -> dict[str, Any]:
    keys = ("stage", "status", "duration_seconds", "inputs", "outputs", "config", "resources", "warnings")
    kept = {key: manifest[key] for key in keys if manifest.get(key)}
    if "warnings" in kept:
        kept["warnings"] = [warning.get("message") for warning in kept["warnings"]]
    if "resources" in kept:
        wanted = ("cpu_percent", "cpu_seconds", "memory_mb", "gpu_used")
        kept["resources"] = {key: kept["resources"][key] for key in wanted if key in kept["resources"]}
    return kept


def _folder(entry: dict[str, Any]) -> str:
    return str(entry.get("manifest", "")).rpartition("/")[0]


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []

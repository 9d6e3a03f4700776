"""What an import brings along: readers need no OpenTelemetry, and the library nothing that it does not use yet."""

from __future__ import annotations

import functools
import importlib.util
import json
import tempfile
from pathlib import Path

import pytest
from support import run_python

ROOMS = [
    name
    for name in ("otel_stage", *(f"otel_stage.{room}" for room in (
        "manifest", "jobdir", "redact", "checksum", "semconv", "errors", "runs", "query", "lineage", "validate", "diff",
        "recover",
    )))
    if importlib.util.find_spec(name) is not None
]  # fmt: skip
# Each costs milliseconds; they come when a run needs them.
HEAVY = [
    "subprocess",
    "ctypes",
    "pynvml",
    "psutil",
    "tomllib",
    "shutil",
    "concurrent.futures",
    "multiprocessing",
    "asyncio",
    "numpy",
]

LOADED = "import json, sys\nbefore = set(sys.modules)\n{}\nprint(json.dumps(sorted(set(sys.modules) - before)))"


@functools.cache
def loaded_by(code: str) -> list[str]:
    """The modules that `code` loads in a fresh interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(run_python(LOADED.format(code), cwd=folder).stdout)


def below(modules: list[str], *names: str) -> list[str]:
    """Those of `modules` that are one of `names` or below it."""
    return [m for m in modules if m in names or m.startswith(tuple(f"{name}." for name in names))]


@pytest.mark.parametrize("room", ROOMS)
def test_reading_needs_no_opentelemetry(room: str) -> None:
    """The package itself and the rooms that readers stand on import no OpenTelemetry and no exporter."""
    assert below(loaded_by(f"import {room}"), "opentelemetry", "otel_stage_exporters") == []


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_load_nothing_heavy(room: str) -> None:
    """Modules that are costly to import are left for the moment of use."""
    assert below(loaded_by(f"import {room}"), *HEAVY) == []


def test_the_package_alone_loads_next_to_nothing() -> None:
    """`import otel_stage` loads the package and its version; every name comes when it is asked for."""
    ours = below(loaded_by("import otel_stage"), "otel_stage")
    assert ours == ["otel_stage", "otel_stage._version"]


def test_every_public_name_can_be_had(tmp_path: Path) -> None:
    """Each name in `__all__` is there, `dir()` knows it, and what is not there is an AttributeError."""
    done = run_python(
        "import otel_stage\n"
        "assert set(otel_stage.__all__) <= set(dir(otel_stage))\n"
        "assert all(getattr(otel_stage, name) is not None for name in otel_stage.__all__)\n"
        "from otel_stage import *\n"
        "assert stage is otel_stage.stage\n"
        "assert not hasattr(otel_stage, 'stages')\n"
        "import otel_stage.errors, otel_stage.manifest\n"
        "print(len(otel_stage.__all__))\n",
        cwd=tmp_path,
    )
    assert int(done.stdout) <= 15


def test_only_the_sdk_room_imports_the_sdk() -> None:
    """Of the SDK's network and metrics parts, an open pipeline without an endpoint loads none."""
    loaded = loaded_by(
        "from otel_stage import pipeline, stage\n"
        "with pipeline('p', job_dir='job', console='off'), stage('s') as st:\n    st.log.info('x')\n"
    )
    assert below(loaded, "opentelemetry.exporter", "opentelemetry.sdk.metrics", "grpc", "requests", "google") == []
    assert below(loaded, "opentelemetry.sdk.trace") != []


def test_the_library_never_imports_an_exporter_by_name() -> None:
    """No module of `otel_stage` mentions the package of our exporters in an import: entry points load it."""
    import otel_stage

    root = Path(otel_stage.__file__).parent
    lines = [
        f"{path.relative_to(root)}: {line}"
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.lstrip().startswith(("import otel_stage_exporters", "from otel_stage_exporters"))
    ]
    assert lines == []

"""OpenTelemetry limited, unsampled or misconfigured, and exporters that are broken or missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from sdk_support import WORK, is_whole
from support import JobFiles

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]


@pytest.mark.parametrize(
    "env",
    [
        {"TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "1"},
        {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_PROPAGATORS": "none"},
        {"TRACEPARENT": "garbage", "TRACESTATE": "=,", "BAGGAGE": "%%%"},
        {"OTEL_RESOURCE_ATTRIBUTES": "broken", "OTEL_SERVICE_NAME": ""},
    ],
    ids=lambda env: next(iter(env)),
)  # fmt: skip
def test_nothing_in_the_environment_cuts_the_files(job: JobFiles, python: Python, env: dict[str, str]) -> None:
    """Unsampled, limited to nothing, or misconfigured: manifests and logs are whole."""
    python(WORK + "work(sys.argv[1])", job.path, env=env)
    is_whole(job)
    if env.get("TRACEPARENT", "").endswith("-00"):
        assert job.stage("demux")["otel"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert job.manifest["otel"]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


def test_128_config_keys_are_all_there(job: JobFiles, python: Python) -> None:
    """The SDK's limit of 128 attributes drops the oldest; the manifest drops none."""
    python(
        "import sys\nfrom otel_stage import pipeline, stage\n"
        "with pipeline('p', job_dir=sys.argv[1]), stage('s') as st:\n"
        "    st.set_config({f'k{n}': 'v' * 3000 for n in range(1000)})\n",
        job.path,
    )
    assert job.stage("s")["config"] == {f"k{n}": "v" * 3000 for n in range(1000)}


PLUGIN = """
from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk.trace import SpanProcessor
def boom(*args, **kwargs):
    raise RuntimeError("the plug-in is broken")
class Spans(SpanProcessor):
    on_start = on_end = _on_ending = shutdown = force_flush = boom
class Logs(LogRecordProcessor):
    on_emit = shutdown = force_flush = boom
class Exporter:
    export = shutdown = force_flush = boom
def raiser(settings):
    return Spans(), Logs()
def unbuildable(settings):
    raise RuntimeError("no licence")
"""


@pytest.fixture
def plugin(fresh: Path) -> Path:
    """A folder for PYTHONPATH with exporters that raise, found by entry points as an installed one would be."""
    folder = fresh / "site"
    (folder / "broken-1.0.dist-info").mkdir(parents=True)
    (folder / "broken.py").write_text(PLUGIN)
    (folder / "broken-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (folder / "broken-1.0.dist-info/entry_points.txt").write_text(
        "[otel_stage_exporter]\nraiser = broken:raiser\nunbuildable = broken:unbuildable\n"
        "[opentelemetry_traces_exporter]\nraiser = broken:Exporter\n[opentelemetry_logs_exporter]\nraiser = broken:Exporter\n"
    )
    return folder


@pytest.mark.parametrize(
    "env",
    [
        {"OTEL_STAGE_EXPORTERS": "stage_files,raiser"},
        {"OTEL_STAGE_EXPORTERS": "raiser,stage_files"},
        {"OTEL_TRACES_EXPORTER": "raiser", "OTEL_LOGS_EXPORTER": "raiser", "OTEL_BSP_SCHEDULE_DELAY": "10"},
    ],
    ids=["last", "first", "batched"],
)
def test_an_exporter_that_raises_in_every_method(
    job: JobFiles, python: Python, plugin: Path, env: dict[str, str]
) -> None:
    """The pipeline's result, exit code and files are as without it."""
    done = python(
        WORK + "print(work(sys.argv[1]))\nsys.exit(5)", job.path, env={"PYTHONPATH": str(plugin), **env}, check=False
    )
    assert (done.stdout, done.returncode) == ("SOUND\n", 5)
    is_whole(job)
    assert "broken" in done.stderr


# What the environment asks for, and what the error says of it.
CANNOT_BE_HAD = [
    ({"OTEL_STAGE_EXPORTERS": "stage_files,unbuildable"}, ("'unbuildable'", "RuntimeError", "no licence")),
    ({"OTEL_STAGE_EXPORTERS": "stage_flies"}, ("'stage_flies'", "not installed", "stage_files")),
    ({"OTEL_TRACES_EXPORTER": "nowhere"}, ("'nowhere'", "traces", "not installed", "OTEL_TRACES_EXPORTER")),
    ({"OTEL_LOGS_EXPORTER": "nowhere"}, ("'nowhere'", "logs", "not installed")),
    ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "pigeon"}, ("pigeon", "http/protobuf")),
]


def test_an_exporter_that_cannot_be_had(job: JobFiles, python: Python, plugin: Path) -> None:
    """Opening raises one ExporterError that says what, where and how to mend, each time, before a file is touched."""
    done = python(
        """
        import json, os, sys
        from otel_stage import pipeline
        from otel_stage.errors import ExporterError
        for env in json.loads(sys.argv[2]) * 2:
            os.environ.update(env)
            try:
                with pipeline("p", job_dir=sys.argv[1]):
                    print("opened")
            except ExporterError as err:
                print(err)
            for name in env:
                del os.environ[name]
        """,
        job.path,
        json.dumps([env for env, _ in CANNOT_BE_HAD]),
        env={"PYTHONPATH": str(plugin)},
    )
    said = done.stdout.splitlines()
    assert len(said) == 2 * len(CANNOT_BE_HAD)
    assert said[: len(CANNOT_BE_HAD)] == said[len(CANNOT_BE_HAD) :]
    for text, (_, parts) in zip(said, CANNOT_BE_HAD, strict=False):
        for part in parts:
            assert part in text
    assert not job.path.exists()

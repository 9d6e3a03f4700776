"""Other doors: `OTEL_TRACES_EXPORTER=stage_files OTEL_LOGS_EXPORTER=stage_files opentelemetry-instrument …`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import JobFiles, clean_env, script, texts

pytest.importorskip("opentelemetry.distro")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator

from otel_stage.manifest import fold, json_schema, parse_job, parse_stage
from otel_stage_exporters import StageFilesSpanExporter

INSTRUMENT = Path(sys.executable).with_name("opentelemetry-instrument")
DOORS = {
    "OTEL_TRACES_EXPORTER": "stage_files",
    "OTEL_LOGS_EXPORTER": "stage_files",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true",
    "OTEL_STAGE_CONSOLE": "off",
}
SECRET = "hunter2-correct-horse"

PLAIN = f"""
    import logging
    from pathlib import Path
    from opentelemetry import trace

    logging.basicConfig(level="DEBUG", handlers=[logging.NullHandler()])
    logging.getLogger().setLevel("DEBUG")
    log = logging.getLogger("mylib")
    tracer = trace.get_tracer("their.tracer")
    Path("in.txt").write_text("hello")
    log.info("before any span")
    with tracer.start_as_current_span("all", attributes={{"cicd.pipeline.name": "subs", "stage.config.lang": "hi"}}):
        log.info("outside any stage")
        with tracer.start_as_current_span("x", attributes={{
            "stage.name": "demux", "stage.config.rate": 16000, "stage.config.password": "{SECRET}",
            "stage.input.files": ["in.txt"], "stage.resource.memory_mb": 12.5,
            "stage.intermediate.files": ['{{"path": "cache", "retained": true, "reason": "kept"}}'],
        }}) as span:
            log.debug("deep\\nin\\x1b[31m")
            log.info("login with password={SECRET}")
            with tracer.start_as_current_span("child"):
                log.warning("from a child span")
            Path("out.bin").write_bytes(b"123")
            span.set_attribute("stage.output.files", ['{{"path": "out.bin", "type": "audio", "rate": 16000}}', "gone"])
        try:
            with tracer.start_as_current_span("y", attributes={{"stage.name": "asr", "stage.key": "b", "stage.number": 7}}):
                raise RuntimeError("out of memory")
        except RuntimeError:
            pass
        with tracer.start_as_current_span("z", attributes={{"stage.name": "mux it", "stage.status": "done"}}):
            pass
"""

LIVE = """
    import logging, os
    from opentelemetry import trace
    from otel_stage import pipeline, stage

    log = logging.getLogger("mylib")
    logging.getLogger().setLevel("DEBUG")
    with pipeline("subs", job_dir="live", config={"lang": "hi"}) as job:
        log.info("outside any stage")
        with stage("demux") as st:
            st.set_config(rate=16000)
            st.track_input(__file__)
            st.track_output(st.dir / "out").write_text("x")
            st.track_intermediate("cache", retained=True, reason="kept")
            log.debug("deep")
            with trace.get_tracer("their").start_as_current_span("child"):
                log.warning("from a child span")
        try:
            with stage("asr", key="b", number=7):
                raise RuntimeError("out of memory")
        except RuntimeError:
            pass
"""


def start_instrumented(code: str, *args: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    """Start Python code under `opentelemetry-instrument`."""
    return subprocess.Popen(
        [str(INSTRUMENT), sys.executable, script(code, cwd), *args],
        cwd=cwd, env=clean_env({**DOORS, **env}), text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for its end; gives what it said on stderr."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, out + err
    return err


def instrumented(code: str, *args: str, cwd: Path, **env: str) -> str:
    """Run Python code under `opentelemetry-instrument` to its end."""
    return finish(start_instrumented(code, *args, cwd=cwd, **env))


VALIDATORS = {kind: jsonschema.Draft202012Validator(json_schema(kind)) for kind in ("stage", "job", "journal")}


def check_all(job: JobFiles) -> None:
    """Every manifest and every event is as the published schemas say, and every seal is right."""
    manifest = parse_job((job.path / "manifest.json").read_bytes())
    VALIDATORS["job"].validate(manifest)
    # What was folded piece by piece is what the whole journal amounts to.
    refolded = fold(job.journal())
    assert {k: v for k, v in refolded["stages"].items()} == manifest["stages"]
    assert refolded["pipeline"]["status"] == manifest["pipeline"]["status"]
    for event in job.journal():
        VALIDATORS["journal"].validate(event)
    for entry in manifest["stages"].values():
        data = (job.path / entry["manifest"]).read_bytes()
        stage = parse_stage(data)
        VALIDATORS["stage"].validate(stage)
        assert entry["manifest_sha256"] == hashlib.sha256(data).hexdigest()
        log = (job.path / stage["log"]["path"]).read_bytes()
        assert (stage["log"]["lines"], stage["log"]["size_bytes"]) == (log.count(b"\n"), len(log))
        for event in job.journal(entry["manifest"].partition("/")[0]):
            VALIDATORS["journal"].validate(event)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> JobFiles:
    """What a script with plain OTel spans leaves behind."""
    folder = tmp_path_factory.mktemp("plain")
    instrumented(PLAIN, cwd=folder)
    (job,) = (folder / "out").glob("*/*/*/subs/1")
    return JobFiles(job)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> JobFiles:
    """What a script with our own API leaves behind under the same exporters."""
    folder = tmp_path_factory.mktemp("live")
    instrumented(LIVE, cwd=folder)
    assert not (folder / "out").exists()
    return JobFiles(folder / "live")


def test_plain_spans_become_stages(plain: JobFiles) -> None:
    """Spans with `stage.name` have folders, manifests and a job manifest that keep to the schemas."""
    assert plain.folders == ["01_demux", "07_asr.b", "08_mux_it"]
    check_all(plain)
    m = plain.manifest
    assert m["name"] == "subs"
    assert m["pipeline"]["status"] == "success"
    assert m["pipeline"]["completed_stages"] == ["demux", "mux_it"]
    assert m["pipeline"]["failed_stages"] == ["asr.b"]
    assert m["config"] == {"lang": "hi"}
    assert "open_ended" not in m


def test_attributes_become_config_artifacts_and_resources(plain: JobFiles) -> None:
    """`stage.config.*`, `stage.<role>.files` and `stage.resource.*` are recorded; sizes and checksums are taken."""
    m = plain.stage("demux")
    cwd = plain.path.parents[5]
    assert m["config"] == {"rate": 16000, "password": "***"}
    assert m["resources"] == {"memory_mb": 12.5}
    hello = "sha256:" + hashlib.sha256(b"hello").hexdigest()
    assert m["inputs"] == [{"type": "file", "path": f"{cwd}/in.txt", "size_bytes": 5, "checksum": hello}]
    audio = "sha256:" + hashlib.sha256(b"123").hexdigest()
    assert m["outputs"] == [
        {"type": "audio", "path": f"{cwd}/out.bin", "size_bytes": 3, "checksum": audio, "rate": 16000},
        {"type": "file", "path": f"{cwd}/gone", "exists": False},
    ]
    assert m["intermediate_files"] == [
        {"type": "intermediate", "path": f"{cwd}/cache", "retained": True, "reason": "kept", "exists": False}
    ]
    assert [w["message"] for w in m["warnings"]] == [f"output {cwd}/gone does not exist"]


def test_records_go_where_their_span_belongs(plain: JobFiles) -> None:
    """All levels of a stage's spans in stage.log, INFO and above in the pipeline log, the traceless nowhere."""
    assert texts(plain.stage_log("demux"))[:3] == [
        "deep\nin\\x1b[31m",
        "login with password=***",
        "from a child span",
    ]
    told = texts(plain.pipeline_log)
    assert told[0].startswith("Pipeline subs: started in ")
    assert told[1:6] == [
        "outside any stage",
        "▶ Stage 1: demux",
        "login with password=***",
        "from a child span",
        plain.stage("demux")["warnings"][0]["message"],
    ]
    assert told[6].startswith("✓ Stage demux: SUCCESS (")
    assert told[-1].startswith("Pipeline subs: SUCCESS (")
    assert told[-1].endswith("3 stages: 2 success, 1 failed")
    assert b"before any span" not in plain.everything()
    assert SECRET.encode() not in plain.everything()


def test_a_failed_span_is_a_failed_stage(plain: JobFiles) -> None:
    """The exception event is the error, its traceback stands in stage.log, the ✗ line in the pipeline log."""
    m = plain.stage("asr.b")
    assert (m["stage"], m["key"], m["stage_number"]) == ("asr", "b", 7)
    assert (m["status"], m["reason"]) == ("failed", "RuntimeError: out of memory")
    (error,) = m["errors"]
    assert (error["type"], error["message"]) == ("RuntimeError", "out of memory")
    assert "raise RuntimeError" in error["traceback"]
    (record,) = plain.stage_log("asr.b")
    assert record.level == "ERROR"
    assert record.text == f"RuntimeError: out of memory\n{error['traceback']}"
    (line,) = [r for r in plain.pipeline_log if "asr.b: FAILED" in r.text]
    assert line.text.endswith("s): RuntimeError: out of memory")


def test_what_cannot_be_taken_as_it_is_becomes_a_warning(plain: JobFiles) -> None:
    """An unknown status gives way to the span's own, a hostile name to a possible one; both are said."""
    m = plain.stage("mux_it")
    assert m["status"] == "success"
    assert [w["message"] for w in m["warnings"]] == [
        "stage.name 'mux it' cannot be a folder name: 'mux_it' is taken",
        "stage.status 'done' is not known: success is what the span itself says",
    ]


def test_our_own_api_is_written_live_and_once(live: JobFiles) -> None:
    """Under the same exporters a script with our own API writes its files live, and nothing comes twice."""
    assert live.folders == ["01_demux", "07_asr.b"]
    check_all(live)
    told = texts(live.pipeline_log)
    assert len(told) == len(set(told)), told
    assert texts(live.stage_log("demux")) == ["deep", "from a child span"]
    assert [e["event"] for e in live.journal()].count("stage.start") == 2
    assert [e["event"] for e in live.journal()].count("job.end") == 1


def test_both_kinds_of_scripts_leave_the_same_kind_of_files(plain: JobFiles, live: JobFiles) -> None:
    """Manifests of ended spans have the very fields of live ones, in the same order."""
    assert list(plain.stage("demux")) == list(live.stage("demux"))
    assert list(plain.stage("asr.b")) == list(live.stage("asr.b"))
    assert list(plain.stage("demux")["otel"]) == list(live.stage("demux")["otel"])
    assert list(plain.stage("asr.b")["errors"][0]) == list(live.stage("asr.b")["errors"][0])
    assert list(plain.manifest) == list(live.manifest)
    assert list(plain.manifest["stages"]["demux"]) == list(live.manifest["stages"]["demux"])
    for old, new in zip(live.stage("demux")["outputs"], plain.stage("demux")["outputs"], strict=False):
        assert list(new)[: len(old)] == list(old)
    kinds = [[e["event"] for e in job.journal("07_asr.b")] for job in (plain, live)]
    assert kinds[0] == kinds[1]


def test_a_disabled_sdk_touches_no_file(tmp_path: Path) -> None:
    """`OTEL_SDK_DISABLED=true` builds the exporters all the same, and they leave nothing behind."""
    instrumented(PLAIN, cwd=tmp_path, OTEL_SDK_DISABLED="true")
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".py") == ["in.txt", "out.bin"]


def test_a_dead_endpoint_beside_it_changes_nothing(tmp_path: Path) -> None:
    """`OTEL_TRACES_EXPORTER=stage_files,otlp` with nobody listening still writes the files."""
    pytest.importorskip("opentelemetry.exporter.otlp")
    instrumented(
        PLAIN, cwd=tmp_path, OTEL_TRACES_EXPORTER="stage_files,otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1", OTEL_STAGE_JOB_DIR="job",
    )  # fmt: skip
    job = JobFiles(tmp_path / "job")
    assert job.manifest["pipeline"]["status"] == "success"
    check_all(job)


WAIT = """
    def wait_for(path, seconds=30):
        import os, time
        end = time.monotonic() + seconds
        while not os.path.exists(path):
            assert time.monotonic() < end, path
            time.sleep(0.005)
"""


def test_two_processes_share_one_folder(tmp_path: Path) -> None:
    """Two processes at the same time, each with spans of its own, end up in one run with whole files."""
    code = WAIT + """
    import logging, sys
    from opentelemetry import trace
    me, other = sys.argv[1:]
    logging.getLogger().setLevel("INFO")
    open(me + ".here", "w").close()
    wait_for(other + ".here")
    for n in range(20):
        with trace.get_tracer("t").start_as_current_span("x", attributes={"stage.name": me, "stage.key": f"k{n}"}):
            logging.info("%s says %d", me, n)
    """
    both = [
        start_instrumented(code, *names, cwd=tmp_path, OTEL_STAGE_JOB_DIR="job")
        for names in (("one", "two"), ("two", "one"))
    ]
    for process in both:
        finish(process)
    job = JobFiles(tmp_path / "job")
    assert len(job.folders) == 40
    assert sorted(job.manifest["pipeline"]["completed_stages"]) == sorted(
        f"{me}.k{n}" for me in ("one", "two") for n in range(20)
    )
    assert job.manifest["open_ended"] is True
    check_all(job)
    said = [t for t in texts(job.pipeline_log) if " says " in t]
    assert sorted(said) == sorted(f"{me} says {n}" for me in ("one", "two") for n in range(20))
    for me in ("one", "two"):
        assert texts(job.stage_log(f"{me}.k7")) == [f"{me} says 7"]


def test_a_child_of_the_same_trace_belongs_to_the_same_run(tmp_path: Path) -> None:
    """A child process that is done before its parent has written anything joins the run that the root ends."""
    code = f"""
    import os, subprocess, sys
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator as W3C
    tracer = trace.get_tracer("t")
    if sys.argv[1:]:
        context = W3C().extract({{"traceparent": os.environ["TRACEPARENT"]}})
        with tracer.start_as_current_span("c", context=context, attributes={{"stage.name": "kid"}}):
            pass
    else:
        with tracer.start_as_current_span("all", attributes={{"cicd.pipeline.name": "family"}}) as root:
            with tracer.start_as_current_span("x", attributes={{"stage.name": "parent"}}):
                carrier = {{}}
                W3C().inject(carrier)
                env = {{**os.environ, "TRACEPARENT": carrier["traceparent"]}}
                subprocess.run([{str(INSTRUMENT)!r}, sys.executable, __file__, "kid"], env=env, check=True)
            root.set_attribute("stage.status", "cancelled")
    """
    instrumented(code, cwd=tmp_path, OTEL_STAGE_JOB_DIR="job")
    job = JobFiles(tmp_path / "job")
    assert job.manifest["pipeline"]["status"] == "cancelled"
    assert job.manifest["pipeline"]["completed_stages"] == ["kid", "parent"]
    assert not (tmp_path / "job/.otel-stage/runs").exists()
    check_all(job)


def test_late_records_are_appended_and_counted(tmp_path: Path) -> None:
    """Records that come after their span's files are appended, and the manifest's counters made right."""
    code = WAIT + """
    import logging
    from opentelemetry import trace
    logging.getLogger().setLevel("DEBUG")
    with trace.get_tracer("t").start_as_current_span("x", attributes={"stage.name": "late"}):
        logging.debug("one\\ntwo")
        logging.info("three")
    wait_for("job/manifest.json")
    """
    instrumented(code, cwd=tmp_path, OTEL_STAGE_JOB_DIR="job", OTEL_BSP_SCHEDULE_DELAY="10", OTEL_BLRP_SCHEDULE_DELAY="60000")
    job = JobFiles(tmp_path / "job")
    assert texts(job.stage_log("late")) == ["one\ntwo", "three"]
    assert job.stage("late")["log"]["lines"] == 3
    assert "three" in texts(job.pipeline_log)
    # The end was said twice, and is one.
    assert [e["event"] for e in job.journal("01_late")].count("stage.end") == 2
    assert job.stage("late")["status"] == "success"
    check_all(job)


def test_early_records_wait_for_their_span(tmp_path: Path) -> None:
    """Records that come while their span is open are held; the pipeline's name is known before the root ends."""
    code = WAIT + """
    import logging, os, time
    from opentelemetry import trace
    from opentelemetry._logs import get_logger_provider
    logging.getLogger().setLevel("DEBUG")
    tracer = trace.get_tracer("t")
    with tracer.start_as_current_span("all", attributes={"cicd.pipeline.name": "subs", "stage.job.dir": "job"}):
        with tracer.start_as_current_span("x", attributes={"stage.name": "early"}):
            logging.debug("in time")
            get_logger_provider().force_flush()
            assert not os.path.exists("job")
        wait_for("job/manifest.json")
        os._exit(0)
    """
    instrumented(code, cwd=tmp_path, OTEL_BSP_SCHEDULE_DELAY="10")
    job = JobFiles(tmp_path / "job")
    assert texts(job.stage_log("early")) == ["in time"]
    assert job.manifest["name"] == "subs"
    # Nobody said how the run ended: the process died first.
    assert job.manifest["pipeline"]["status"] == "running"
    assert job.manifest["pipeline"]["completed_stages"] == ["early"]
    check_all(job)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_its_own_spans_only(tmp_path: Path) -> None:
    """A forked child that ends its parent's spans a second time adds its own stage, and no other, to the run."""
    code = """
    import os
    from opentelemetry import trace
    tracer = trace.get_tracer("t")
    with tracer.start_as_current_span("all", attributes={"cicd.pipeline.name": "forks"}):
        with tracer.start_as_current_span("x", attributes={"stage.name": "parent"}):
            pid = os.fork()
            if pid == 0:
                with tracer.start_as_current_span("y", attributes={"stage.name": "kid"}):
                    pass
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
    """
    instrumented(code, cwd=tmp_path)
    (path,) = (tmp_path / "out").glob("*/*/*/forks/*")
    job = JobFiles(path)
    assert job.folders == ["01_kid", "02_parent"]
    assert job.manifest["pipeline"]["status"] == "success"
    check_all(job)


# --- batches given by hand: what the process around them is does not matter


class FreshIds(IdGenerator):
    """Ids that do not repeat when Hypothesis sets `random` back."""

    def generate_trace_id(self) -> int:
        return int.from_bytes(os.urandom(16)) or 1

    def generate_span_id(self) -> int:
        return int.from_bytes(os.urandom(8)) or 1


@pytest.fixture
def batch(fresh: Path) -> Callable[[Callable[[Any], None]], tuple[ReadableSpan, ...]]:
    """Spans that a function with a tracer has ended, in the order in which they ended."""

    def collect(work: Callable[[Any], None]) -> tuple[ReadableSpan, ...]:
        memory = InMemorySpanExporter()
        provider = TracerProvider(id_generator=FreshIds(), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(memory))
        work(provider.get_tracer("their.tracer"))
        return memory.get_finished_spans()

    return collect


def export(*spans: ReadableSpan) -> None:
    """Give one batch to an exporter of its own, and shut it down."""
    exporter = StageFilesSpanExporter()
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    exporter.shutdown()


def test_two_runs_in_one_batch_stay_two(fresh: Path, batch: Any) -> None:
    """The second trace of a directory begins when the first has ended, and keeps what that has left."""

    def work(tracer: Any) -> None:
        for name in ("first", "second"):
            root = {"cicd.pipeline.name": "p", "stage.job.dir": "job", "stage.run.id": f"run-{name}"}
            with tracer.start_as_current_span("all", attributes=root):
                with tracer.start_as_current_span("x", attributes={"stage.name": name}):
                    pass

    export(*batch(work))
    job = JobFiles(fresh / "job")
    assert job.manifest["run_id"] == "run-second"
    assert job.manifest["pipeline"]["completed_stages"] == ["second"]
    kept = json.loads((fresh / "job/.otel-stage/runs/run-first/manifest.json").read_bytes())
    assert kept["pipeline"]["completed_stages"] == ["first"]
    assert kept["pipeline"]["status"] == "success"
    assert len(job.pipeline_logs) == 2


def test_one_trace_can_write_two_directories(fresh: Path, batch: Any) -> None:
    """A span's own `stage.job.dir` decides; the root ends every run of its trace."""

    def work(tracer: Any) -> None:
        with tracer.start_as_current_span("all", attributes={"cicd.pipeline.name": "p", "stage.job.dir": "a"}):
            for name, where in (("one", {}), ("two", {"stage.job.dir": "b"}), ("three", {"stage.job.dir": "./a"})):
                with tracer.start_as_current_span("x", attributes={"stage.name": name, **where}):
                    pass

    export(*batch(work))
    a, b = JobFiles(fresh / "a"), JobFiles(fresh / "b")
    assert (a.folders, b.folders) == (["01_one", "02_three"], ["01_two"])
    assert a.manifest["pipeline"]["status"] == b.manifest["pipeline"]["status"] == "success"
    check_all(a)
    check_all(b)


def test_a_root_that_nobody_saw_start_still_ends_its_run(fresh: Path, batch: Any) -> None:
    """With a provider that is not the global one stages come before their root is known, which then ends the run."""

    def work(tracer: Any) -> None:
        with tracer.start_as_current_span("all", attributes={"cicd.pipeline.name": "p", "stage.status": "failed"}):
            with tracer.start_as_current_span("x", attributes={"stage.name": "s", "stage.job.dir": "job"}):
                pass

    stage, root = batch(work)
    exporter = StageFilesSpanExporter()
    exporter.export([stage])
    job = JobFiles(fresh / "job")
    # Without a pipeline around it the run is as good as its stages.
    assert job.manifest["pipeline"]["status"] == "success"
    exporter.export([root])
    exporter.shutdown()
    assert job.manifest["pipeline"]["status"] == "failed"
    check_all(job)


def test_times_are_those_of_the_spans(fresh: Path, batch: Any) -> None:
    """Start, end and durations are the spans', however long ago they ended."""
    began = 1_600_000_000_000_000_000

    def work(tracer: Any) -> None:
        root = tracer.start_span("all", start_time=began, attributes={"cicd.pipeline.name": "p", "stage.job.dir": "job"})
        from opentelemetry.trace import set_span_in_context

        within = set_span_in_context(root)
        span = tracer.start_span("x", within, attributes={"stage.name": "s"}, start_time=began + 10**9)
        span.end(began + 3 * 10**9)
        root.end(began + 4 * 10**9)

    export(*batch(work))
    job = JobFiles(fresh / "job")
    assert job.stage("s")["timestamp"] == "2020-09-13T12:26:41.000Z"
    assert job.stage("s")["completed_at"] == "2020-09-13T12:26:43.000Z"
    assert job.stage("s")["duration_seconds"] == 2.0
    assert job.manifest["timing"] == {
        "started_at": "2020-09-13T12:26:40.000Z", "completed_at": "2020-09-13T12:26:44.000Z", "total_seconds": 4.0,
    }  # fmt: skip
    check_all(job)


def test_a_taken_number_is_no_loss(fresh: Path, batch: Any) -> None:
    """A number that belongs to another stage gives way to the next free one, with a warning."""

    def work(tracer: Any) -> None:
        for name in ("a", "b"):
            at = {"stage.name": name, "stage.number": 3, "stage.job.dir": "job"}
            tracer.start_span("x", attributes=at).end()

    export(*batch(work))
    job = JobFiles(fresh / "job")
    assert job.folders == ["03_a", "04_b"]
    assert "cannot take number 3" in job.stage("b")["warnings"][0]["message"]


def test_a_directory_that_cannot_be_used_is_one_warning(
    fresh: Path, batch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing raises where no job directory can be had; one warning says what and why."""
    (fresh / "job").write_text("a file")
    spans = batch(lambda tracer: tracer.start_span("x", attributes={"stage.name": "s", "stage.job.dir": "job"}).end())
    with caplog.at_level(logging.WARNING, "otel_stage"):
        export(*spans)
    (record,) = [r for r in caplog.records if r.name == "otel_stage"]
    assert "part of the path is a file" in record.getMessage()
    assert (fresh / "job").read_text() == "a file"


def test_given_facts_of_artifacts_are_kept(fresh: Path, batch: Any) -> None:
    """A checksum that the span gives is not taken again; a field of the wrong type is kept under another name."""
    (fresh / "there").write_text("x")
    files = [
        '{"path": "there", "checksum": "md5:0", "size_bytes": 9}',
        '{"path": "job/inside", "size_bytes": "many"}',
        "{no json",
    ]
    at = {"stage.name": "s", "stage.job.dir": "job", "stage.output.files": files}
    export(*batch(lambda tracer: tracer.start_span("x", attributes=at).end()))
    m = JobFiles(fresh / "job").stage("s")
    assert m["outputs"] == [
        {"type": "file", "path": str(fresh / "there"), "size_bytes": 9, "checksum": "md5:0"},
        {"type": "file", "path": "inside", "metadata.size_bytes": "many", "exists": False},
        {"type": "file", "path": str(fresh / "{no json"), "exists": False},
    ]


NAMES = st.sampled_from(
    ["stage.key", "stage.number", "stage.status", "stage.reason", "stage.input.files", "stage.output.files",
     "stage.intermediate.files", "stage.resource.cpu_percent", "stage.resource.read_bytes", "stage.resource.gpus",
     "stage.resource.gpu_used", "stage.resource.shared_with", "stage.resource.x", "stage.config.a", "stage.config.",
     "exception.message", "error.type", "cicd.pipeline.task.run.result"]
)  # fmt: skip
TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(
    ['{"path": "a", "size_bytes": -1}', '{"path": 1}', '{"index": 0}', '{"index": "0", "name": null}', "..", "crashed", "running"]
)
VALUES = TEXTS | st.integers() | st.floats() | st.booleans() | st.lists(TEXTS, max_size=3)


@given(name=TEXTS.filter(bool), attributes=st.dictionaries(NAMES, VALUES, max_size=8), failed=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_span_says_the_files_keep_to_the_schema(
    fresh: Path, batch: Any, name: str, attributes: Mapping[str, Any], failed: bool
) -> None:
    """No attributes make the exporter raise, lose the stage or write a manifest that cannot be read."""
    from opentelemetry.trace import Status, StatusCode

    path = fresh / f"job{time.time_ns()}"

    def work(tracer: Any) -> None:
        span = tracer.start_span("x", attributes={**attributes, "stage.name": name, "stage.job.dir": str(path)})
        if failed:
            span.set_status(Status(StatusCode.ERROR, "it\nfailed"))
        span.end()

    export(*batch(work))
    job = JobFiles(path)
    assert len(job.manifest["stages"]) == 1
    check_all(job)

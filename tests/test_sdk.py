"""OpenTelemetry around us: switched off, owned by the application, limited, unsampled, broken or unreachable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from sdk_support import OWNED, WORK, is_whole
from support import JobFiles

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]


def files_below(path: Path) -> set[str]:
    """Relative paths of all files in a folder."""
    return {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}


# --- switched off


def test_a_disabled_sdk_finds_the_same_folders(fresh: Path, python: Python) -> None:
    """Repeated names, keys, reserved and given numbers lead to the same folders, in a second run as well."""
    code = """
        import sys
        from otel_stage import pipeline, stage
        with pipeline("p", job_dir=sys.argv[1], stages=["a", "b"]) as job:
            for name, key, number in (("b", None, None), ("b", None, None), ("z", None, 0), ("c", "k", None), ("c", "k", None),
                                      ("d", None, 9), ("e", None, None), ("a", None, None)):
                with stage(name, key=key, number=number) as st:
                    print(st.dir.relative_to(job.dir), st.id, st.number)
                    (st.dir / "out").touch()
    """
    outputs = []
    for value in (None, "true"):
        for _ in range(2):
            done = python(code, fresh / f"job_{value}", env={"OTEL_SDK_DISABLED": value, "OTEL_STAGE_CONSOLE": "off"})
            outputs.append(done.stdout)
    assert outputs[2] == outputs[0]
    assert outputs[3] == outputs[1]


@pytest.mark.parametrize("value", ["true", "TRUE"])
def test_a_disabled_sdk_leaves_user_code_running(job: JobFiles, python: Python, value: str) -> None:
    """With `OTEL_SDK_DISABLED` the same code finds the same folders, and no file of ours is anywhere."""
    done = python(
        WORK + "print(work(sys.argv[1]))\nprint(work(sys.argv[1]))\nsys.exit(3)", job.path,
        env={"OTEL_SDK_DISABLED": value}, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("SOUND\nSOUND\n", 3)
    assert done.stderr == ""
    assert files_below(job.path) == {"01_demux/audio.wav", "02_asr/segments.json"}


def test_a_disabled_sdk_still_does_what_was_asked(job: JobFiles, python: Python) -> None:
    """Programs run, exceptions pass, loggers log, fresh job directories are made and environments given."""
    done = python(
        """
        import logging, sys
        from concurrent.futures import ThreadPoolExecutor
        from otel_stage import current_stage, pipeline, stage, wrap
        logging.basicConfig(level="INFO", format="%(name)s %(message)s")
        with pipeline("p", stages=["a", "b"]) as job:
            with stage("b", number=7) as st:
                assert current_stage() is st
                print(st.dir.relative_to(job.dir), st.track_input("x") == st.track_output("x"))
                print(st.run([sys.executable, "-c", "print(6 * 7)"], capture=True).stdout.strip())
                st.log.info("hello")
                st.skip("why")
                st.child_env(); job.child_env(); job.set_config(a=1)
                with ThreadPoolExecutor() as pool:
                    assert pool.submit(wrap(lambda: current_stage().id)).result() == "b"
            try:
                with stage("c"):
                    raise KeyError("mine")
            except KeyError as err:
                print(err)
        with stage("alone") as st:
            print(st.id)
        """,
        env={"OTEL_SDK_DISABLED": "true"},
    )
    assert done.stdout == "07_b True\n42\n'mine'\nalone\n"
    assert done.stderr == "stage.b hello\n"
    assert not list(Path.cwd().rglob("*.json*"))
    assert not list(Path.cwd().rglob("*.log"))


# --- owned by the application


@pytest.mark.parametrize("limited", [False, True])
def test_an_applications_providers_are_kept_and_used(job: JobFiles, python: Python, limited: bool) -> None:
    """Our processors are added to them, the files are whole whatever their limits, and they get spans and events."""
    done = python(
        f"LIMITED = {limited}\n" + OWNED + WORK
        + "assert work(sys.argv[1], console='off') == 'SOUND'\n"
        "assert trace.get_tracer_provider() is tracers and get_logger_provider() is loggers\n"
        "print(json.dumps(seen))",
        job.path,
    )  # fmt: skip
    is_whole(job)
    seen = json.loads(done.stdout)
    spans = {span["name"]: span for span in seen["spans"]}
    assert set(spans) == {"pipeline subtitles", "stage demux", "stage asr", "stage bad"}
    root = spans["pipeline subtitles"]
    assert {span["trace"] for span in spans.values()} == {root["trace"]}
    assert {span["parent"] for name, span in spans.items() if name != "pipeline subtitles"} == {root["id"]}
    assert job.stage("demux")["otel"]["span_id"] == f"{spans['stage demux']['id']:016x}"
    events = [log for log in seen["logs"] if log["event"]]
    for ident in ("demux", "asr", "bad"):
        said = [log["event"] for log in events if log["attributes"].get("stage.id") == ident]
        assert said[0] == "stage.start"
        assert said[-1] == "stage.end"
    if not limited:
        attributes = spans["stage demux"]["attributes"]
        assert attributes["stage.output.count"] == 1
        assert attributes["stage.output.bytes"] == 5
        assert json.loads(attributes["stage.output.files"][0])["path"] == "01_demux/audio.wav"
        assert attributes["stage.config.rate"] == 16000
        assert attributes["stage.job.dir"] == str(job.path)
        assert attributes["cicd.pipeline.task.name"] == "demux"


def test_the_events_that_leave_fold_to_the_same_manifest(job: JobFiles, python: Python) -> None:
    """Bodies of the log events are the journal's lines, and fold to the manifest on disk."""
    from otel_stage.manifest import fold

    done = python(
        "LIMITED = False\n" + OWNED + WORK + "work(sys.argv[1], console='off')\nprint(json.dumps(seen))", job.path
    )
    logs = json.loads(done.stdout)["logs"]
    bodies = [json.loads(log["body"]) for log in logs if log["event"] and log["attributes"].get("stage.id") == "demux"]
    assert fold(bodies) == job.stage("demux")
    start = next(log for log in logs if log["event"] == "stage.start")
    for name in ("stage.job.id", "stage.run.id", "stage.job.dir"):
        assert start["attributes"][name]
    artifact = next(log for log in logs if log["event"] == "stage.artifact")["attributes"]
    assert (artifact["stage.artifact.role"], artifact["stage.artifact.path"]) == ("output", "01_demux/audio.wav")
    line = next(log for log in logs if log["body"] == "demuxing")
    assert (line["scope"], line["severity"], line["event"]) == ("stage.demux", "INFO", None)
    assert f"{line['span']:016x}" == job.stage("demux")["otel"]["span_id"]


def test_ours_come_first_so_that_others_see_what_is_masked(job: JobFiles, python: Python) -> None:
    """A processor that the application added before us gets text and attributes without secrets."""
    done = python(
        "LIMITED = False\n"
        + OWNED
        + """
import sys
from otel_stage import pipeline, stage
with pipeline("p", job_dir=sys.argv[1], console="off"), stage("s") as st:
    st.log.info("password=hunter2hunter2")
    logging.getLogger("lib").warning("Authorization: Bearer hunter2hunter2")
    st.set_config(api_key="hunter2hunter2")
    st.add_warning("token=hunter2hunter2")
    with trace.get_tracer("app").start_as_current_span("call", attributes={"password": "hunter2hunter2", "kept": "x"}):
        pass
print(json.dumps(seen))
""",
        job.path,
    )
    assert "hunter2" not in done.stdout
    assert '"kept": "x"' in done.stdout
    assert b"hunter2" not in job.everything()


def test_many_artifacts_are_bounded_on_the_span_and_whole_in_the_manifest(job: JobFiles, python: Python) -> None:
    """Span attributes stay primitives of bounded size, with a count of what is left out; the manifest has all."""
    done = python(
        "LIMITED = False\n"
        + OWNED
        + """
import sys
from otel_stage import pipeline, stage
with pipeline("p", job_dir=sys.argv[1], console="off", checksum="off"), stage("s") as st:
    for n in range(500):
        st.track_output(st.dir / f"{n}.txt").touch()
    st.set_config({f"key_{n}": {"nested": [n]} for n in range(300)}, odd="caf\\udce9")
print(json.dumps([s for s in seen["spans"] if s["name"] == "stage s"][0]))
""",
        job.path,
    )
    m = job.stage("s")
    assert len(m["outputs"]) == 500
    assert len(m["config"]) == 301
    span = json.loads(done.stdout)
    attributes = span["attributes"]
    assert attributes["stage.output.count"] == 500
    assert attributes["stage.output.dropped"] == 500 - len(attributes["stage.output.files"]) > 0
    assert set(span["kind"]) <= {"str", "int", "float", "bool", "tuple"}
    json.dumps(attributes, ensure_ascii=False).encode("utf-8")

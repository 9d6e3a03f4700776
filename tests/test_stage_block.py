"""A stage as a block: what its verbs put into folder, logs and manifest."""

from __future__ import annotations

import json
import logging
import math
import re
from enum import Enum
from pathlib import Path

import pytest
from support import JobFiles, texts

from otel_stage import OtelStageError, Stage, current_stage, pipeline, stage

pytestmark = pytest.mark.usefixtures("fresh")


def test_the_folder_exists_and_is_named_by_number_and_id(job: JobFiles) -> None:
    """`st.dir` is an existing folder NN_id right in the job directory."""
    with pipeline("p", job_dir=job.path) as run, stage("demux") as st:
        assert st.dir == job.path / "01_demux"
        assert st.dir.is_dir()
        assert run.dir == job.path
    assert (st.name, st.key, st.id, st.number) == ("demux", None, "demux", 1)


def test_the_block_gives_a_stage_and_current_stage_finds_it(job: JobFiles) -> None:
    """Inside the block `current_stage()` is the stage; after it there is none, and it says so."""
    with pipeline("p", job_dir=job.path):
        with stage("demux") as st:
            assert isinstance(st, Stage)
            assert current_stage() is st
        with pytest.raises(OtelStageError, match="no stage is open"):
            current_stage()


def test_the_manifest_says_running_from_the_first_moment(job: JobFiles) -> None:
    """While the stage is open its manifest is valid JSON and says `running`."""
    with pipeline("p", job_dir=job.path), stage("demux"):
        manifest = job.stage("demux")
        assert manifest["status"] == "running"
        assert manifest["stage"] == "demux"
        assert manifest["completed_at"] is None


def test_the_manifest_has_the_fixed_names(job: JobFiles) -> None:
    """A stage that did nothing still has every field of the manifest, empty lists and all."""
    with pipeline("p", job_dir=job.path) as run, stage("demux"):
        pass
    m = job.stage("demux")
    for name in ("inputs", "outputs", "intermediate_files", "errors", "warnings"):
        assert m[name] == []
    assert m["config"] == {}
    assert isinstance(m["resources"], dict)
    assert (m["schema_version"], m["stage"], m["key"], m["stage_number"], m["attempt"]) == ("1.0", "demux", None, 1, 1)
    assert (m["status"], m["run_id"]) == ("success", run.run_id)
    assert m["duration_seconds"] >= 0
    for name in ("timestamp", "completed_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", m[name])
    assert m["timestamp"] <= m["completed_at"]


def test_the_manifest_carries_trace_and_span(job: JobFiles) -> None:
    """`otel` holds ids of the right length, the job's trace, and times that agree with the duration."""
    with pipeline("p", job_dir=job.path), stage("demux"):
        pass
    otel, parent = job.stage("demux")["otel"], job.manifest["otel"]
    assert re.fullmatch("[0-9a-f]{32}", otel["trace_id"])
    assert re.fullmatch("[0-9a-f]{16}", otel["span_id"])
    assert otel["trace_id"] == parent["trace_id"]
    assert otel["parent_span_id"] == parent["span_id"]
    assert int(otel["end_time_unix_nano"]) >= int(otel["start_time_unix_nano"])


def test_the_manifest_says_what_stage_log_holds(job: JobFiles) -> None:
    """`log` gives path, number of lines and size of stage.log as they are on disk."""
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        st.log.info("one")
        st.log.debug("two\nthree")
        st.add_warning("four")
    log, data = job.stage("demux")["log"], (job.path / "01_demux/stage.log").read_bytes()
    assert log["path"] == "01_demux/stage.log"
    assert log["size_bytes"] == len(data)
    assert log["lines"] == data.count(b"\n") == 4
    assert re.fullmatch(r"[+-]\d\d:\d\d", log["timezone"])


def test_config_from_mapping_and_keywords(job: JobFiles) -> None:
    """`set_config` takes a mapping, keywords or both; `add_config` one; what is said again wins."""
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        st.set_config({"model": "small", "beam": 5})
        st.set_config({"rate": 16_000}, device="cuda")
        st.add_config("model", "large")
        assert st.set_config() is None
    assert job.stage("demux")["config"] == {"model": "large", "beam": 5, "rate": 16_000, "device": "cuda"}


class Colour(Enum):
    RED = "red"


def test_config_values_without_a_json_form(job: JobFiles) -> None:
    """Paths, enums, sets, bytes, NaN, huge ints, objects and cycles are written by the documented rule."""
    cyclic: dict[str, object] = {"name": "loop"}
    cyclic["self"] = cyclic
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        st.set_config(
            path=Path("a/b"), colour=Colour.RED, tags={"b", "a"}, blob=b"\xff", nan=math.nan, inf=-math.inf,
            huge=2**70, precise=2**60, fn=len, thing=object(), cyclic=cyclic, nothing=None, yes=True,
        )  # fmt: skip
    config = job.stage("demux")["config"]
    assert config["cyclic"]["name"] == "loop"
    assert isinstance(config["cyclic"]["self"], str)
    assert {k: v for k, v in config.items() if k != "cyclic"} == {
        "path": "a/b", "colour": "red", "tags": ["a", "b"], "blob": "base64:/w==", "nan": "NaN", "inf": "-Infinity",
        "huge": str(2**70), "precise": 2**60, "fn": config["fn"], "thing": "<builtins.object>", "nothing": None,
        "yes": True,
    }  # fmt: skip
    json.loads((job.path / "01_demux/manifest.json").read_text(), parse_constant=pytest.fail)


def test_config_keys_of_any_type_never_raise(job: JobFiles) -> None:
    """Keys that are no strings, and strings that are no UTF-8, become text."""
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        st.set_config({1: "one", None: "none", ("a", 2): "pair", "caf\udce9": "odd", "größe": "kept"})
    config = job.stage("demux")["config"]
    assert set(config.values()) == {"one", "none", "pair", "odd", "kept"}
    assert config["1"] == "one"
    assert config["größe"] == "kept"


def test_a_config_that_is_no_mapping_is_a_warning_of_ours(job: JobFiles, caplog: pytest.LogCaptureFixture) -> None:
    """A verb called with nonsense raises nothing into user code and says so on logger `otel_stage`."""
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        st.set_config(42)  # type: ignore[arg-type]
        st.set_config(kept=1)
    assert job.stage("demux")["config"] == {"kept": 1}
    assert job.stage("demux")["status"] == "success"
    assert [r.levelname for r in caplog.records if r.name == "otel_stage"] == ["WARNING"]


def test_warnings_are_in_manifest_and_both_logs(job: JobFiles) -> None:
    """`add_warning` leaves a message with its time in the manifest and a WARNING line in both logs."""
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        st.add_warning("input is mono")
    (warning,) = job.stage("demux")["warnings"]
    assert warning["message"] == "input is mono"
    assert warning["timestamp"].endswith("Z")
    assert ("stage.demux", "WARNING", "input is mono") in job.stage_log("demux")
    assert ("pipeline", "WARNING", "input is mono") in job.pipeline_log


def test_an_error_that_does_not_end_the_stage(job: JobFiles) -> None:
    """`add_error` records message, type and traceback; the stage still succeeds."""
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        try:
            int("x")
        except ValueError as err:
            st.add_error("line 3 was left out", err)
        st.add_error("line 4 too")
    m = job.stage("demux")
    assert m["status"] == "success"
    first, second = m["errors"]
    assert (first["message"], first["type"]) == ("line 3 was left out", "ValueError")
    assert 'int("x")' in first["traceback"]
    assert second["message"] == "line 4 too"
    assert "timestamp" in second
    errors = [r for r in job.stage_log("demux") if r.level == "ERROR"]
    assert len(errors) == 2
    assert "Traceback" in errors[0].text
    shown = [r.text for r in job.pipeline_log if r.level == "ERROR"]
    assert len(shown) == 2
    assert not any("Traceback" in text for text in shown)
    assert "line 3 was left out" in shown[0]


def test_given_resources_win(job: JobFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures given by `set_resources` stand in the manifest, over measured ones."""
    monkeypatch.setenv("OTEL_STAGE_RESOURCES", "1")
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        st.set_resources({"memory_mb": 123456}, tpu_seconds=2.5)
    resources = job.stage("demux")["resources"]
    assert resources["memory_mb"] == 123456
    assert resources["tpu_seconds"] == 2.5
    assert resources["gpu_used"] in (True, False)


def test_skip_marks_and_the_block_goes_on(job: JobFiles) -> None:
    """`skip` returns, what follows in the block is still recorded, and the stage ends as skipped."""
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        st.skip("no input files")
        st.set_config(after=True)
    m = job.stage("demux")
    assert (m["status"], m["reason"], m["config"]) == ("skipped", "no input files", {"after": True})
    assert "⊘ Stage demux: SKIPPED: no input files" in texts(job.pipeline_log)
    assert job.manifest["pipeline"]["skipped_stages"] == ["demux"]


def test_a_skipped_stage_that_raises_has_failed(job: JobFiles) -> None:
    """An exception after `skip` is a failure: the mark does not hide it."""
    with pipeline("p", job_dir=job.path), pytest.raises(RuntimeError), stage("demux") as st:
        st.skip("nothing to do")
        raise RuntimeError("but this broke")
    assert job.stage("demux")["status"] == "failed"


def test_what_is_said_after_the_end_is_a_warning_and_no_error(job: JobFiles, caplog: pytest.LogCaptureFixture) -> None:
    """Verbs on an ended stage change nothing on disk, raise nothing, and warn on logger `otel_stage`."""
    with pipeline("p", job_dir=job.path):
        with stage("demux") as st:
            pass
        before = (st.dir / "manifest.json").read_bytes(), (st.dir / "stage.log").read_bytes()
        st.set_config(a=1)
        st.add_warning("late")
        st.add_error("late")
        st.skip("late")
        st.set_resources(a=1)
        assert st.track_output("x") == Path.cwd() / "x"
        st.log.debug("late")
        assert ((st.dir / "manifest.json").read_bytes(), (st.dir / "stage.log").read_bytes()) == before
    assert ["has ended" in r.message for r in caplog.records if r.name == "otel_stage"] == [True]


def test_the_stage_logger_is_a_logger(job: JobFiles) -> None:
    """`st.log` is a `logging.Logger` of the stage's name, enabled for DEBUG, whatever the root's level."""
    with pipeline("p", job_dir=job.path), stage("demux") as st:
        assert isinstance(st.log, logging.Logger)
        assert st.log.name == "stage.demux"
        assert st.log.isEnabledFor(logging.DEBUG)
        st.log.log(logging.DEBUG, "by log()")
        st.log.log(5, "below debug")
        st.log.critical("worst")
        logging.LoggerAdapter(st.log, {}).info("adapted")
    said = texts(job.stage_log("demux"))
    assert "by log()" in said
    assert "worst" in said
    assert "adapted" in said


def test_nested_stages_have_their_own_records(job: JobFiles) -> None:
    """A stage inside a stage is a stage of its own: own folder, and the outer one's span as parent."""
    with pipeline("p", job_dir=job.path), stage("outer") as outer:
        outer.log.info("before")
        with stage("inner") as inner:
            inner.log.info("within")
            assert current_stage() is inner
        assert current_stage() is outer
        outer.log.info("after")
    assert job.folders == ["01_outer", "02_inner"]
    assert job.stage("inner")["otel"]["parent_span_id"] == job.stage("outer")["otel"]["span_id"]
    assert texts(job.stage_log("outer")) == ["before", "after"]
    assert texts(job.stage_log("inner")) == ["within"]

"""The console and the application's own logging: what was set up goes on as before, and no line comes twice."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support import HEADER, JobFiles, bare_root, texts

from otel_stage import pipeline, stage

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]


def test_handlers_of_the_application_get_each_record_once(job: JobFiles) -> None:
    """Root handlers get records of the stage and of libraries once, at the root's level; own handlers too."""
    stream, own = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    library = logging.getLogger("lib")
    own_handler = logging.StreamHandler(own)
    library.addHandler(own_handler)
    with bare_root() as root:
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        with pipeline("p", job_dir=job.path), stage("s") as st:
            st.log.debug("below the root's level")
            st.log.info("from %s", "stage")
            library.info("from lib")
    library.removeHandler(own_handler)
    assert stream.getvalue() == "stage.s INFO from stage\nlib INFO from lib\n"
    assert own.getvalue() == "from lib\n"
    assert texts(job.stage_log("s")) == ["below the root's level", "from stage", "from lib"]


def test_records_for_handlers_know_where_they_come_from(job: JobFiles, caplog: pytest.LogCaptureFixture) -> None:
    """File, function and `extra` of the caller reach the application's handlers."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.log.warning("here", extra={"sample": "A"})
    (record,) = [r for r in caplog.records if r.name == "stage.s"]
    assert (Path(record.pathname).name, record.funcName) == (
        Path(__file__).name, "test_records_for_handlers_know_where_they_come_from",
    )  # fmt: skip
    assert record.sample == "A"  # type: ignore[attr-defined]


def test_logging_is_as_before_when_the_pipeline_has_ended(job: JobFiles) -> None:
    """No handler, level, logger class or hook of ours stays behind."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.Logger.callHandlers, warnings.showwarning, logging.getLoggerClass())
    with pipeline("p", job_dir=job.path), stage("s"):
        pass
    after = (root.handlers[:], root.level, logging.Logger.callHandlers, warnings.showwarning, logging.getLoggerClass())
    assert before == after


CONSOLE = """
import logging, sys, warnings
from otel_stage import pipeline, stage
def speak():
    st.log.debug("stage debug"); st.log.info("stage info"); st.log.error("stage error")
    logging.getLogger("lib").warning("lib warning"); logging.getLogger("lib").info("lib info")
    thing = "thing"
    warnings.warn(f"deprecated {thing}")
"""


SPOKEN = {"stage info", "stage error", "lib warning", "deprecated thing"}


def counts(text: str) -> dict[str, int]:
    """How often each thing that was said stands in `text`."""
    return {said: text.count(said) for said in (*SPOKEN, "stage debug", "lib info")}


def test_our_console_shows_info_and_above_once(job: JobFiles, python: Python) -> None:
    """Without logging set up, stderr has the pipeline log's lines, each once; stdout has nothing."""
    done = python(CONSOLE + "with pipeline('p', job_dir=sys.argv[1]), stage('s') as st:\n    speak()\n", job.path)
    assert done.stdout == ""
    assert counts(done.stderr) == {**dict.fromkeys(SPOKEN, 1), "stage debug": 0, "lib info": 0}
    shown = [line for line in done.stderr.splitlines() if HEADER.fullmatch(line)]
    logged = job.pipeline_logs[0].read_text().splitlines()
    assert shown == [line for line in logged if "deprecated" not in line]
    assert "UserWarning: deprecated thing" in done.stderr
    assert [r.source for r in job.stage_log("s") if "deprecated thing" in r.text] == ["py.warnings"]


def test_our_console_is_silent_beside_a_handler_on_stderr(job: JobFiles, python: Python) -> None:
    """`basicConfig` before the pipeline, or inside it, works as ever, and no line is printed twice."""
    for n, code in enumerate(
        (
            "logging.basicConfig(level='INFO')\nwith pipeline('p', job_dir=sys.argv[1]), stage('s') as st:\n    speak()\n",
            "with pipeline('p', job_dir=sys.argv[1]), stage('s') as st:\n    logging.basicConfig(level='INFO')\n    speak()\n",
        )
    ):
        here = JobFiles(f"{job.path}{n}")
        done = python(CONSOLE + code, here.path)
        assert counts(done.stderr) == {**dict.fromkeys(SPOKEN, 1), "stage debug": 0, "lib info": 1}
        assert "INFO:stage.s:stage info" in done.stderr
        assert "WARNING:lib:lib warning" in done.stderr
        assert counts(here.pipeline_logs[0].read_text()) == {
            **dict.fromkeys(SPOKEN, 1),
            "stage debug": 0,
            "lib info": 1,
        }


def test_our_console_speaks_beside_handlers_that_write_elsewhere(job: JobFiles, python: Python) -> None:
    """A root handler on a file does not silence the console, and the file gets each record once."""
    python_code = (
        CONSOLE + "logging.basicConfig(level='INFO', filename='app.log')\n"
        "with pipeline('p', job_dir=sys.argv[1]), stage('s') as st:\n    speak()\n"
    )
    done = python(python_code, job.path)
    for said in ("stage info", "stage error", "lib warning"):
        assert done.stderr.count(said) == 1
        assert (job.path.parent / "app.log").read_text().count(said) == 1


def test_the_console_can_be_off_for_one_pipeline_and_on_for_the_next(job: JobFiles, python: Python) -> None:
    """Setting `console` is the pipeline's, not the process's."""
    done = python(
        CONSOLE + "with pipeline('quiet', job_dir=sys.argv[1], console='off'), stage('s') as st:\n    speak()\n"
        "print('---', file=sys.stderr)\n"
        "with pipeline('loud', job_dir=sys.argv[1] + '2'), stage('s') as st:\n    speak()\n"
        "print('---', file=sys.stderr)\n"
        "with pipeline('quiet', job_dir=sys.argv[1] + '3', console='off'), stage('s') as st:\n    speak()\n",
        job.path,
    )
    quiet, loud, again = done.stderr.split("---\n")
    assert loud.count("stage info") == 1
    for text in (quiet, again):
        assert "stage info" not in text
        assert "▶" not in text


def test_time_settings_are_the_pipelines(job: JobFiles, python: Python) -> None:
    """`milliseconds` and `utc` hold for the pipeline that asks for them, also as the process's second one."""
    python(
        """
        import sys
        from otel_stage import pipeline, stage
        for n, options in enumerate(({}, {"milliseconds": True}, {"utc": True, "milliseconds": True})):
            with pipeline("p", job_dir=f"{sys.argv[1]}{n}", console="off", **options), stage("s") as st:
                st.log.info("now")
        """,
        job.path, env={"TZ": "Asia/Kolkata"},
    )  # fmt: skip
    logs = [(Path(f"{job.path}{n}") / "01_s/stage.log").read_text() for n in range(3)]
    assert re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] ", logs[0])
    assert re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] ", logs[1])
    zones = [JobFiles(f"{job.path}{n}").stage("s")["log"]["timezone"] for n in range(3)]
    assert zones == ["+05:30", "+05:30", "+00:00"]
    assert logs[1][1:17] != logs[2][1:17]


def test_a_console_that_is_gone_harms_nobody(job: JobFiles, python: Python) -> None:
    """With stderr closed, None, or of an encoding without our signs: the pipeline goes on and the files are whole."""
    code = "with pipeline('p', job_dir=sys.argv[1]), stage('s') as st:\n    speak()\nprint('done')\n"
    for n, before in enumerate(("sys.stderr.close()", "sys.stderr = None", "sys.stderr.reconfigure(encoding='ascii')")):
        # Without a stderr the warnings module itself raises.
        speech = CONSOLE.replace("warnings.warn", "len")
        done = python(speech + before + "\n" + code, f"{job.path}{n}", check=False)
        assert done.stdout == "done\n", done.stderr
        assert "stage info" in texts(JobFiles(f"{job.path}{n}").pipeline_log)


def test_captured_warnings_are_recorded_once(job: JobFiles) -> None:
    """With `logging.captureWarnings(True)` a warning is one record in stage.log, as without."""
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings(), pipeline("p", job_dir=job.path), stage("s"):
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("captured", stacklevel=1)
    finally:
        logging.captureWarnings(False)
    assert [r.source for r in job.stage_log("s")] == ["py.warnings"]


def test_a_library_with_its_own_handler_on_stderr_is_not_shown_twice(job: JobFiles, python: Python) -> None:
    """A logger that prints by itself is recorded, and on the console once."""
    done = python(
        """
        import logging, sys
        from otel_stage import pipeline, stage
        library = logging.getLogger("lib")
        library.addHandler(logging.StreamHandler())
        with pipeline("p", job_dir=sys.argv[1]), stage("s"):
            library.warning("prints by itself")
            logging.getLogger("lib.child").warning("so does its child")
            logging.getLogger("other").warning("does not")
        """,
        job.path,
    )
    for said in ("prints by itself", "so does its child", "does not"):
        assert done.stderr.count(said) == 1
        assert said in texts(job.stage_log("s"))


def test_logging_may_be_configured_inside_a_pipeline(job: JobFiles, python: Python) -> None:
    """`dictConfig` throws handlers away and makes its own: ours goes on, each record once everywhere."""
    done = python(
        """
        import logging, logging.config, sys
        from otel_stage import pipeline, stage
        with pipeline("p", job_dir=sys.argv[1]), stage("s") as st:
            st.log.info("before")
            logging.config.dictConfig({
                "version": 1, "root": {"level": "INFO", "handlers": ["out"]},
                "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
            })
            st.log.info("by the stage")
            logging.getLogger("lib").info("by a library")
        """,
        job.path,
    )
    assert done.stdout == "by the stage\nby a library\n"
    assert texts(job.stage_log("s")) == ["before", "by the stage", "by a library"]
    assert done.stderr.count("by a library") == 1


def test_prints_are_recorded_and_still_printed_on_request(job: JobFiles, python: Python) -> None:
    """`capture="sys"` and `"fd"` put what a stage prints into stage.log at DEBUG; off is the default."""
    for capture, expected in (("off", []), ("sys", ["by print"]), ("fd", ["by print", "by child"])):
        here = JobFiles(f"{job.path}_{capture}")
        done = python(
            f"""
            import os, subprocess, sys
            from otel_stage import pipeline, stage
            with pipeline("p", job_dir=sys.argv[1], capture={capture!r}), stage("s") as st:
                print("by print", flush=True)
                subprocess.run(["echo", "by child"])
            """,
            here.path,
        )
        assert done.stdout == "by print\nby child\n"
        records = here.stage_log("s")
        assert texts(records) == expected
        assert {r.level for r in records} <= {"DEBUG"}
        assert {r.source for r in records} <= {"stage.s/stdout"}
        assert done.stderr.count("▶ Stage 1: s") == 1
        assert "by print" not in here.pipeline_logs[0].read_text()


def test_warnings_hooks_are_kept(job: JobFiles) -> None:
    """A `showwarning` of the application's own is called as before, and put back afterwards."""
    seen = []
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *args, **kwargs: seen.append(str(args[0]))
        hook = warnings.showwarning
        with pipeline("p", job_dir=job.path), stage("s"):
            warnings.warn("old thing", DeprecationWarning, stacklevel=1)
        assert warnings.showwarning is hook
    assert warnings.showwarning is before
    assert seen == ["old thing"]
    (record,) = job.stage_log("s")
    assert (record.source, record.level) == ("py.warnings", "WARNING")
    assert "DeprecationWarning: old thing" in record.text

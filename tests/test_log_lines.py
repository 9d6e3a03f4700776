"""Log lines: what stands where, each record once, and none that is forged."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support import JobFiles, bare_root, texts

from otel_stage import pipeline, stage

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]
LEVELS = ("debug", "info", "warning", "error", "critical")


def test_the_pipeline_log_opens_and_closes_with_the_pipeline(job: JobFiles) -> None:
    """First line: name and job directory; last line: status, duration and counts; stages between."""
    with pipeline("subtitles", job_dir=job.path):
        with stage("demux"):
            pass
        with pytest.raises(RuntimeError), stage("asr"):
            raise RuntimeError("out of memory")
        with stage("mux") as st:
            st.skip("no subtitles")
    lines = job.pipeline_log
    assert {r.source for r in lines} == {"pipeline"}
    first, last = lines[0].text, lines[-1].text
    assert "subtitles" in first
    assert str(job.path) in first
    assert re.search(r"SUCCESS \(\d+\.\ds\)", last)
    for part in ("3 stages", "1 success", "1 failed", "1 skipped"):
        assert part in last
    between = [(r.level, re.sub(r"\d+\.\ds", "Ns", r.text)) for r in lines[1:-1]]
    assert between == [
        ("INFO", "▶ Stage 1: demux"),
        ("INFO", "✓ Stage demux: SUCCESS (Ns)"),
        ("INFO", "▶ Stage 2: asr"),
        ("ERROR", "✗ Stage asr: FAILED (Ns): RuntimeError: out of memory"),
        ("INFO", "▶ Stage 3: mux"),
        ("INFO", "⊘ Stage mux: SKIPPED: no subtitles"),
    ]


def test_the_header_is_local_time_source_and_level(job: JobFiles) -> None:
    """`[2025-11-27 13:30:01] [stage.asr] [DEBUG] text` in stage.log, `[pipeline]` in the pipeline log."""
    with pipeline("p", job_dir=job.path, stages=12), stage("asr", number=6) as st:
        st.log.debug("Loading model: %s", "large-v2")
        st.log.info("Starting")
    first, second = (job.path / "06_asr/stage.log").read_text().splitlines()
    stamp = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] "
    assert re.fullmatch(stamp + re.escape("[stage.asr] [DEBUG] Loading model: large-v2"), first)
    assert re.fullmatch(stamp + re.escape("[stage.asr] [INFO] Starting"), second)
    lines = job.pipeline_logs[0].read_text().splitlines()
    assert re.fullmatch(stamp + re.escape("[pipeline] [INFO] ▶ Stage 6/12: asr"), lines[1])
    assert re.fullmatch(stamp + re.escape("[pipeline] [INFO] Starting"), lines[2])


def test_the_name_of_a_pipeline_log_is_its_start(job: JobFiles) -> None:
    """`logs/99_pipeline_YYYYMMDD_HHMMSS.log`, of the same second as its first line, give or take one."""
    with pipeline("p", job_dir=job.path):
        pass
    (log,) = job.pipeline_logs
    assert re.fullmatch(r"99_pipeline_\d{8}_\d{6}\.log", log.name)
    day = re.sub(r"\D", "", log.read_text()[1:11])
    assert log.name.startswith("99_pipeline_" + day) or log.name[12:20] < day


@pytest.mark.parametrize("root_handlers", [True, False])
def test_levels_go_where_they_belong(job: JobFiles, root_handlers: bool) -> None:
    """All levels in stage.log, in order; INFO and above, and never DEBUG, in the pipeline log."""
    with nullcontext() if root_handlers else bare_root(), pipeline("p", job_dir=job.path) as run, stage("asr") as st:
        for name in LEVELS:
            getattr(st.log, name)("said by %s", name)
        run.log.info("of the run")
        run.log.debug("unheard")
    assert job.stage_log("asr") == [("stage.asr", name.upper(), f"said by {name}") for name in LEVELS]
    shown = [r for r in job.pipeline_log if "said by" in r.text or r.text in ("of the run", "unheard")]
    assert shown == [
        *(("pipeline", name.upper(), f"said by {name}") for name in LEVELS[1:]),
        ("pipeline", "INFO", "of the run"),
    ]


def test_continuation_lines_are_indented_and_controls_escaped(job: JobFiles) -> None:
    """Newlines become indented lines; ESC, NUL, lone CR, C1 and separators are shown as escapes."""
    with pipeline("p", job_dir=job.path), stage("asr") as st:
        st.log.info("one\ntwo\r\nthree\n")
        st.log.info("\x1b[31mred\x00\rback\x85next\u2028line\u202eright\ttab")
        st.log.info("ünïcode 😀 stays")
    first, second, third = texts(job.stage_log("asr"))
    assert first == "one\ntwo\nthree"
    assert second == r"\x1b[31mred\x00\x0dback\x85next\u2028line\u202eright" + "\ttab"
    assert third == "ünïcode 😀 stays"
    assert texts(job.pipeline_log)[2:5] == [first, second, third]


def test_a_traceback_is_in_stage_log_alone(job: JobFiles) -> None:
    """The ✗ line is all that the pipeline log has of a failure; stage.log has the traceback, indented."""
    with pipeline("p", job_dir=job.path), pytest.raises(ZeroDivisionError), stage("asr"):
        _ = 1 / 0
    (record,) = job.stage_log("asr")
    assert (record.level, record.text.splitlines()[0]) == ("ERROR", "ZeroDivisionError: division by zero")
    assert "Traceback (most recent call last):" in record.text
    assert "Traceback" not in job.pipeline_logs[0].read_text()
    assert sum("division by zero" in text for text in texts(job.pipeline_log)) <= 2


def test_exceptions_that_user_code_logs(job: JobFiles) -> None:
    """`log.exception` and `exc_info=` write message and traceback as one record, with the level they have."""
    with pipeline("p", job_dir=job.path), stage("asr") as st:
        try:
            int("x")
        except ValueError as err:
            st.log.exception("went on without %s", "x")
            st.log.warning("again", exc_info=err)
            logging.getLogger("lib").exception("library")
        st.log.info("stack", stack_info=True)
    records = job.stage_log("asr")
    assert [(r.source, r.level) for r in records] == [
        ("stage.asr", "ERROR"), ("stage.asr", "WARNING"), ("lib", "ERROR"), ("stage.asr", "INFO"),
    ]  # fmt: skip
    assert [r.text.splitlines()[0] for r in records] == ["went on without x", "again", "library", "stack"]
    assert all("ValueError: invalid literal" in r.text for r in records[:3])
    assert __name__ in records[3].text or Path(__file__).name in records[3].text


def test_every_logger_that_speaks_in_a_stage_is_heard(job: JobFiles) -> None:
    """Library loggers stand in stage.log under their own names, at the level the application gave them."""
    library, chatty = logging.getLogger("whisperx.audio"), logging.getLogger("chatty")
    chatty.setLevel(logging.DEBUG)
    level = logging.getLogger().level
    try:
        with pipeline("p", job_dir=job.path), stage("asr"):
            library.warning("resampling")
            library.debug("not enabled")
            chatty.debug("enabled")
            assert logging.getLogger().level == level
    finally:
        chatty.setLevel(logging.NOTSET)
    assert job.stage_log("asr") == [("whisperx.audio", "WARNING", "resampling"), ("chatty", "DEBUG", "enabled")]
    assert [r for r in job.pipeline_log if r.source != "pipeline"] == [("whisperx.audio", "WARNING", "resampling")]


def test_loggers_between_stages_go_to_the_pipeline_log(job: JobFiles) -> None:
    """What a library says while the pipeline is open and no stage is, is in the pipeline log; after it, nowhere."""
    library = logging.getLogger("lib")
    with pipeline("p", job_dir=job.path):
        library.warning("between")
    library.warning("after")
    assert [r for r in job.pipeline_log if r.source == "lib"] == [("lib", "WARNING", "between")]


def test_the_setting_library_level_lets_libraries_speak(job: JobFiles) -> None:
    """`library_level="DEBUG"` holds while the pipeline is open, and the root's level is put back."""
    with bare_root() as root:
        root.setLevel(logging.WARNING)
        with pipeline("p", job_dir=job.path, library_level="DEBUG"), stage("s"):
            logging.getLogger("lib").debug("heard")
        assert root.level == logging.WARNING
    assert job.stage_log("s") == [("lib", "DEBUG", "heard")]


@pytest.mark.parametrize("name", ["stage.log", "root"])
def test_broken_formatting_is_kept_and_never_raises(job: JobFiles, name: str) -> None:
    """A message whose arguments do not fit, or cannot be shown, is one record that holds message and reason."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    with bare_root(), pipeline("p", job_dir=job.path), stage("s") as st:
        log = st.log if name == "stage.log" else logging.getLogger("lib")
        log.warning("needs two %s %s", "one")  # noqa: PLE1206
        log.warning("needs none", "extra")  # noqa: PLE1205
        log.warning("%d", "text")
        log.warning("cannot be shown: %s", Broken())
        log.warning("by name %(a)s", {"a": 1})
        log.warning("100%")
        log.warning(Broken())
    found = texts(job.stage_log("s"))
    assert len(found) == 7
    assert "needs two" in found[0]
    assert "'one'" in found[0]
    assert "needs none" in found[1]
    assert "cannot be shown" in found[3]
    assert found[4:6] == ["by name 1", "100%"]
    assert job.stage("s")["status"] == "success"


def test_records_that_come_through_an_otel_handler_are_there_once(job: JobFiles, python: Python) -> None:
    """An application that hands its logging to OpenTelemetry itself: each record once, with its traceback."""
    python(
        """
        import logging, sys, warnings
        from opentelemetry._logs import set_logger_provider
        from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
        provider = LoggerProvider()
        set_logger_provider(provider)
        logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))
        logging.getLogger().setLevel("INFO")
        from otel_stage import pipeline, stage
        with pipeline("p", job_dir=sys.argv[1]), stage("s") as st:
            st.log.debug("stage debug")
            st.log.info("stage info")
            logging.getLogger("lib").warning("lib warning")
            try:
                1 / 0
            except ZeroDivisionError:
                logging.getLogger("lib").exception("lib exception")
        """,
        job.path,
    )
    records = job.stage_log("s")
    assert [(r.source, r.level, r.text.splitlines()[0]) for r in records] == [
        ("stage.s", "DEBUG", "stage debug"), ("stage.s", "INFO", "stage info"), ("lib", "WARNING", "lib warning"),
        ("lib", "ERROR", "lib exception"),
    ]  # fmt: skip
    assert "ZeroDivisionError: division by zero" in records[3].text

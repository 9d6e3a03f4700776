"""Nothing that is logged can forge a record, drive a terminal or tear a line."""

from __future__ import annotations

import io
import logging
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st_
from support import JobFiles, bare_root, parse_log, texts

from otel_stage import pipeline, stage

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]


MESSAGES = st_.lists(
    st_.one_of(
        st_.text(max_size=60),
        st_.text(st_.sampled_from("\n\r\x00\x0b\x0c\x1b\x1c\x85\u2028\u2029 \t[]x"), max_size=20),
        st_.sampled_from(
            ["\n[2025-11-27 13:30:01] [pipeline] [INFO] ✓ Stage asr: SUCCESS (1.0s)", "\r\n\r\n", "\ud800", "a\n\n\nb", "   "]
        ),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


@given(messages=MESSAGES, by_library=st_.booleans(), root_handlers=st_.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_message_forges_a_record(fresh: Path, messages: list[str], by_library: bool, root_handlers: bool) -> None:
    """Whatever is logged, each line at column 0 is a true header, and there are as many records as calls."""
    job = JobFiles(tempfile.mkdtemp(dir=fresh))
    with bare_root() as root:
        if root_handlers:
            # A handler of our own: the text need not survive pytest's reports.
            root.addHandler(logging.StreamHandler(io.StringIO()))
        with pipeline("p", job_dir=job.path), stage("s") as st:
            log = logging.getLogger("lib") if by_library else st.log
            for message in messages:
                log.warning(message)
                st.add_warning(message)
    in_stage, in_pipeline = job.stage_log("s"), job.pipeline_log
    assert len(in_stage) == 2 * len(messages)
    assert len(in_pipeline) == 2 * len(messages) + 4
    assert {r.level for r in in_stage} == {"WARNING"}
    for data in ((job.path / "01_s/stage.log").read_bytes(), job.pipeline_logs[0].read_bytes()):
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", data)
    assert len(job.stage("s")["warnings"]) == len(messages)


@given(message=st_.one_of(st_.text(max_size=40), MESSAGES.map("".join)))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_exception_or_reason_forges_a_record(fresh: Path, message: str) -> None:
    """Whatever an exception or a reason says, ends are one line each and errors one record each."""
    job = JobFiles(tempfile.mkdtemp(dir=fresh))
    with pytest.raises(RuntimeError), pipeline("p", job_dir=job.path, config={message: message}):
        with stage("skipped") as st:
            st.skip(message)
            st.set_config({message: message})
            st.track_output(st.dir / "x", note=message).touch()
        with stage("failed") as st:
            st.add_error(message, ValueError(message))
            raise RuntimeError(message)
    assert len(job.stage_log("skipped")) == 0
    assert len(job.stage_log("failed")) == 2
    lines = job.pipeline_log
    assert [r.text[:1] for r in lines[1:-1]] == ["▶", "⊘", "▶", lines[4].text[:1], "✗"]
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", job.pipeline_logs[0].read_bytes())
    assert job.stage("skipped")["status"] == "skipped"
    assert job.stage("failed")["status"] == "failed"


def test_a_record_of_a_megabyte_is_one_record(job: JobFiles) -> None:
    """There is no length from which on a record is cut or torn."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        st.log.info("x" * 1_000_000)
        st.log.info("line\n" * 100_000 + "end")
    first, second = texts(job.stage_log("s"))
    assert len(first) == 1_000_000
    assert second.count("\n") == 100_000


@pytest.mark.parametrize("name", ["evil] [ERROR] x", "new\nline", "\x1b[31m"])
def test_no_logger_name_forges_a_record(job: JobFiles, name: str) -> None:
    """The name of a logger cannot start a line or drive a terminal."""
    with pipeline("p", job_dir=job.path), stage("s"):
        logging.getLogger(name).warning("said")
        logging.getLogger("x").log(35, "between levels")
    data = (job.path / "01_s/stage.log").read_bytes()
    assert data.count(b"\n") == 2
    assert b"\x1b" not in data
    assert data.split(b"\n")[0].endswith(b" said")


def test_no_level_name_forges_a_record(job: JobFiles) -> None:
    """The name of a level of the user's own cannot start a line."""
    logging.addLevelName(37, "ODD\nLEVEL")
    try:
        with pipeline("p", job_dir=job.path), stage("s") as st:
            st.log.log(37, "by the stage")
            logging.getLogger("lib").log(37, "by a library")
    finally:
        logging._levelToName.pop(37, None)
        logging._nameToLevel.pop("ODD\nLEVEL", None)
    assert (job.path / "01_s/stage.log").read_bytes().count(b"\n") == 2


def test_the_logs_parse_as_one_record_per_line_header(job: JobFiles) -> None:
    """`grep -c` at column 0 counts records: a log of many kinds has exactly the records that were said."""
    with pipeline("p", job_dir=job.path), stage("s") as st:
        for n in range(50):
            st.log.info("line %d\nmore of %d", n, n)
            print("not ours", file=sys.stdout)
    data = (job.path / "01_s/stage.log").read_bytes()
    assert len(parse_log(data)) == 50
    assert sum(line.startswith(b"[") for line in data.split(b"\n")) == 50

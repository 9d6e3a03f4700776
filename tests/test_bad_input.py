"""Bad input gets one clear error of ours, or one warning, and nothing is lost."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from support import JobFiles

from otel_stage import OtelStageError, configure, errors, pipeline, stage

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


NAMES = [
    "", " ", "a b", "a/b", "../up", "..", ".hidden", "a.b", "a\\b", "a\0b", "a\nb", "größe", "con:", "~", "$HOME", "-" * 300,
    "\ud800", "\x1b[31m", "a%s", None, 7, b"asr", ["asr"], True,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_is_no_folder_name(job: JobFiles, name: Any) -> None:
    """Stage and pipeline names are refused before a file is touched; the message shows the name and what is allowed."""
    with pytest.raises(OtelStageError), pipeline(name, job_dir=job.path):
        pytest.fail("the block must not run")
    assert not job.path.exists()
    with pipeline("p", job_dir=job.path):
        with pytest.raises(errors.StageNameError) as caught, stage(name):
            pytest.fail("the block must not run")
        with stage("good"):
            pass
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 300
    assert "letters" in text or "must be a string" in text
    assert job.folders == ["01_good"]


@pytest.mark.parametrize(
    "key", ["", "a/b", "..", "a..b", ".a", "a.", "a b", "ü", "x" * 300, "a\0", 1.5, True, b"k", ("a",)], ids=ascii
)
def test_a_key_that_is_no_folder_name(job: JobFiles, key: Any) -> None:
    """Keys too are refused before a file is touched, and the run goes on."""
    with pipeline("p", job_dir=job.path) as run:
        with pytest.raises(errors.StageNameError, match="key"), run.stage("a", key=key):
            pytest.fail("the block must not run")
    assert job.folders == []
    assert job.manifest["pipeline"]["status"] == "success"


@pytest.mark.parametrize("number", [-1, 1.5, "3", True, 10**9, float("nan")])
def test_a_number_that_is_none(job: JobFiles, number: Any) -> None:
    """A number must be an integer in range; the message shows what was given and the range."""
    with pipeline("p", job_dir=job.path):
        with pytest.raises(errors.StageNumberError, match="0 to 999999"), stage("a", number=number):
            pytest.fail("the block must not run")
    assert job.folders == []


def opened(**options: Any) -> Callable[[], object]:
    """Opens a pipeline with these options."""

    def call() -> None:
        with pipeline("p", **options):
            pytest.fail("the block must not run")

    return call


def configured(**options: Any) -> Callable[[], object]:
    """Configures these settings."""
    return lambda: configure(**options)


BAD: list[tuple[Callable[[], object], type[Exception], tuple[str, ...]]] = [
    (opened(job_dir="a_file"), errors.PipelineError, ("a_file", "file", "job_dir")),
    (opened(job_dir="a_file/below"), errors.PipelineError, ("a_file/below", "file", "job_dir")),
    (opened(job_dir=5), OtelStageError, ("job_dir", "path")),
    (opened(job_dir=""), OtelStageError, ("job_dir", "path")),
    (opened(job_dir="nul\0byte"), errors.PipelineError, ("job_dir", "nul\\x00byte", "path")),
    (opened(root="a_file"), errors.PipelineError, ("a_file", "root", "job_dir")),
    (opened(stages="demux"), errors.PipelineError, ("stages", "demux", "list")),
    (opened(stages=0), errors.PipelineError, ("stages", "0", "at least 1")),
    (opened(stages=["a", "a"]), errors.PipelineError, ("'a'", "twice")),
    (opened(stages=["a/b"]), OtelStageError, ("a/b", "letters")),
    (opened(stages=3.5), OtelStageError, ("stages", "3.5")),
    (opened(conzole="off"), errors.SettingError, ("'conzole'", "argument", "'console'")),
    (opened(frobnicate=1), errors.SettingError, ("'frobnicate'", "job_dir", "checksum")),
    (opened(console="loud"), errors.SettingError, ("'console'", "'loud'", "argument", "plain", "off", "live")),
    (opened(checksum="sha257"), errors.SettingError, ("'checksum'", "sha257", "sha256")),
    (opened(capture="all"), errors.SettingError, ("'capture'", "sys", "fd")),
    (opened(sample_interval=-1), errors.SettingError, ("'sample_interval'", "-1", "seconds")),
    (opened(sample_interval="nan"), errors.SettingError, ("'sample_interval'", "seconds")),
    (opened(strict="perhaps"), errors.SettingError, ("'strict'", "perhaps", "true")),
    (opened(library_level="LOUD"), errors.SettingError, ("'library_level'", "LOUD", "DEBUG")),
    (opened(exporters=5), errors.SettingError, ("'exporters'", "5", "names")),
    (opened(exporters=["stage_files", "nowhere"]), errors.ExporterError, ("'nowhere'", "stage_files")),
    (configured(conzole="off"), errors.SettingError, ("'conzole'", "configure()", "'console'")),
    (configured(console=3), errors.SettingError, ("'console'", "3", "configure()")),
]


@pytest.mark.parametrize(
    ("call", "kind", "parts"), BAD, ids=lambda value: "-".join(value) if isinstance(value, tuple) else ""
)
def test_what_cannot_be_opened_says_what_where_and_how_to_mend(
    fresh: Path, call: Callable[[], object], kind: type[Exception], parts: tuple[str, ...]
) -> None:
    """One error of the right class, in one line, naming the value, its place and what would do."""
    (fresh / "a_file").write_text("mine")
    before = sorted(p.name for p in fresh.iterdir())
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    for part in parts:
        assert part in text
    assert "\n" not in text
    assert (fresh / "a_file").read_text() == "mine"
    # A later pipeline opens as if nothing had been.
    with pipeline("p", job_dir=fresh / "after"):
        pass
    assert sorted(p.name for p in fresh.iterdir()) == [*before, "after"] if "after" > before[-1] else True


def test_our_errors_have_no_foreign_cause_to_read_through(fresh: Path) -> None:
    """What is raised on opening is the whole story: no chain of internal tracebacks above it."""
    (fresh / "a_file").touch()
    for call in (opened(job_dir="a_file"), opened(console="loud"), opened(stages=["a/b"])):
        with pytest.raises(OtelStageError) as caught:
            call()
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_stage_without_a_pipeline_is_a_job_of_its_own(python: Python, fresh: Path) -> None:
    """`stage()` with no pipeline and nothing in the environment works: a fresh job, named after the script."""
    done = python(
        "from otel_stage import stage\nwith stage('a') as st:\n    print(st.dir)\nwith stage('b') as st:\n    print(st.dir)\n"
    )
    first, second = map(Path, done.stdout.split())
    assert re.fullmatch(r"out/\d{4}/\d\d/\d\d/script_[0-9a-f]+/1/01_a", first.relative_to(fresh).as_posix())
    assert second == first.parent / "02_b"
    job = JobFiles(first.parent)
    assert job.manifest["pipeline"]["status"] == "success"
    assert job.manifest["pipeline"]["completed_stages"] == ["a", "b"]


def test_strict_raises_what_would_be_a_warning(job: JobFiles) -> None:
    """With `strict=True`, for tests, trouble of ours is an exception."""
    with pytest.raises(TypeError), pipeline("p", job_dir=job.path, strict=True), stage("a") as st:
        st.set_config(42)  # type: ignore[arg-type]


def test_hostile_objects_never_raise_into_user_code(job: JobFiles, caplog: pytest.LogCaptureFixture) -> None:
    """Objects whose every method raises, given to every verb, cost a warning at most."""

    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __str__(self) -> str:
            raise RuntimeError("str")

        __repr__ = __str__
        __hash__ = None  # type: ignore[assignment]

    bad: Any = Hostile()
    with pipeline("p", job_dir=job.path) as run, stage("a") as st:
        calls: list[Callable[[], object]] = [
            lambda: st.set_config(x=bad), lambda: st.add_config("y", bad), lambda: st.set_config(bad),
            lambda: st.add_warning(bad), lambda: st.add_error(bad), lambda: st.add_error("m", bad),
            lambda: st.set_resources(z=bad), lambda: st.track_output(st.dir / "x", meta=bad),
            lambda: st.track_input(bad), lambda: st.skip(bad), lambda: run.set_config(x=bad), lambda: run.set_config(bad),
            lambda: st.add_config(bad, 1), lambda: st.track_intermediate("x", reason=bad),
            lambda: st.track_output(st.dir / "y", type=bad),
        ]  # fmt: skip
        raised = []
        for n, call in enumerate(calls):
            try:
                call()
            except Exception as err:
                raised.append((n, repr(err)))
        st.set_config(alive=True)
    assert raised == []
    assert job.stage("a")["config"]["alive"] is True
    assert job.stage("a")["status"] in ("success", "skipped")
    assert all(r.levelno == logging.WARNING for r in caplog.records if r.name == "otel_stage")
    assert os.path.isfile(job.path / "manifest.json")

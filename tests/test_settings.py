"""Settings: which value holds, where it comes from, and what is said about a wrong one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from support import JobFiles

from otel_stage import configure, pipeline, stage
from otel_stage._settings import ROWS, resolve
from otel_stage.errors import SettingError

pytestmark = pytest.mark.usefixtures("fresh")
Python = Callable[..., CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _nothing_configured() -> Iterator[None]:
    """What a test configures is taken back."""
    yield
    configure(**{row.name: None for row in ROWS})


def checksum_label(job: JobFiles, **options: Any) -> str | None:
    """The algorithm that a run with these options uses."""
    with pipeline("p", job_dir=job.path, **options), stage("s") as st:
        st.track_output(st.dir / "x").write_text("x")
    checksum = job.stage("s")["outputs"][0].get("checksum")
    return checksum and checksum.partition(":")[0]


def write_pyproject(folder: Path, **settings: str) -> None:
    """A pyproject.toml with a table of ours."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    (folder / "pyproject.toml").write_text(f"[project]\nname = 'x'\n[tool.otel-stage]\n{rows}")


def test_argument_over_configure_over_environment_over_file_over_default(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source wins over those after it, and is seen when those before it are silent."""
    jobs = (JobFiles(fresh / f"job{n}") for n in range(9))
    assert checksum_label(next(jobs)) == "sha256"
    folder = fresh / "project" / "deep" / "below"
    write_pyproject(folder.parents[1], checksum="sha1")
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert checksum_label(next(jobs)) == "sha1"
    monkeypatch.setenv("OTEL_STAGE_CHECKSUM", "md5")
    assert checksum_label(next(jobs)) == "md5"
    configure(checksum="sha384")
    assert checksum_label(next(jobs)) == "sha384"
    assert checksum_label(next(jobs), checksum="sha512") == "sha512"
    assert checksum_label(next(jobs), checksum=None) == "sha384"
    configure(checksum=None)
    assert checksum_label(next(jobs)) == "md5"
    monkeypatch.setenv("OTEL_STAGE_CHECKSUM", "")
    assert checksum_label(next(jobs)) == "sha1"


def test_the_origin_of_each_value_is_known(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`resolve` says for every row which value holds and where it was given."""
    folder = fresh / "project"
    write_pyproject(folder, milliseconds="yes", sample_interval="2.5")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OTEL_STAGE_UTC", "On")
    configure(strict=True)
    settings = resolve({"console": "off"})
    assert (settings.console, settings.strict, settings.utc, settings.milliseconds, settings.sample_interval) == (
        "off", True, True, True, 2.5,
    )  # fmt: skip
    origins = [settings.origins[name] for name in ("console", "strict", "utc", "milliseconds", "root")]
    assert origins == ["argument", "configure()", "environment", "pyproject.toml", "default"]
    assert set(settings.origins) == {row.name for row in ROWS}


def test_the_nearest_pyproject_is_the_one(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the nearest `pyproject.toml` upward counts, also when it has no table of ours."""
    write_pyproject(fresh / "a", checksum="md5")
    (fresh / "a/b").mkdir()
    (fresh / "a/b/pyproject.toml").write_text("[project]\nname = 'y'\n")
    monkeypatch.chdir(fresh / "a/b")
    assert resolve().checksum == "sha256"


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "on"])
def test_flags_read_as_people_write_them(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1, true, yes and on are true in the environment; their opposites are false."""
    monkeypatch.setenv("OTEL_STAGE_FSYNC", value)
    assert resolve().fsync is True
    opposite = {"1": "0", "true": "false", "TRUE": "FALSE", "yes": "no", "on": "off"}[value]
    monkeypatch.setenv("OTEL_STAGE_FSYNC", opposite)
    assert resolve({}).fsync is False


def test_every_setting_of_the_design_has_a_row() -> None:
    """Each row has a default that it accepts itself, and one line that says what it does."""
    names = {row.name for row in ROWS}
    assert names >= {
        "job_dir", "root", "console", "checksum", "capture", "strict", "sample_interval", "utc", "milliseconds", "fsync",
        "otlp_shutdown_seconds", "library_level",
    }  # fmt: skip
    for row in ROWS:
        assert row.doc
        assert "\n" not in row.doc
        if row.default is not None:
            assert row.parse(row.default) == row.default


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("console", "loud", ("plain", "off", "live")),
        ("checksum", "crc32", ("sha256",)),
        ("strict", "maybe", ("true or false",)),
        ("sample_interval", "soon", ("seconds",)),
        ("sample_interval", "inf", ("seconds",)),
        ("otlp_shutdown_seconds", "-1", ("seconds",)),
        ("library_level", "chatty", ("DEBUG",)),
        ("child_stderr_level", "", ()),
    ],
)
def test_a_wrong_value_in_the_environment_names_the_variable(
    name: str, value: str, parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says variable, value and what it takes; an empty variable counts as not set."""
    variable = f"OTEL_STAGE_{name.upper()}"
    monkeypatch.setenv(variable, value)
    if not value:
        assert resolve().origins[name] == "default"
        return
    with pytest.raises(SettingError) as caught:
        resolve()
    text = str(caught.value)
    for part in (variable, repr(value), repr(name), *parts):
        assert part in text


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("[tool.otel-stage]\nconsole = 'loud'\n", ("pyproject.toml", "'loud'", "plain")),
        ("[tool.otel-stage]\nconzole = 'off'\n", ("pyproject.toml", "'conzole'", "'console'")),
        ("[tool.otel-stage]\nconsole = \n", ("pyproject.toml", "cannot be read")),
        ("[tool]\notel-stage = 5\n", ("pyproject.toml", "otel-stage")),
    ],
    ids=["value", "name", "syntax", "no-table"],
)
def test_a_wrong_pyproject_names_the_file(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, content: str, parts: tuple[str, ...]
) -> None:
    """A wrong name or value, a broken file or a table that is none: one error that names the file."""
    folder = fresh / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(content)
    monkeypatch.chdir(folder)
    with pytest.raises(SettingError) as caught:
        resolve()
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"[tool.black]\nx = 1\n", b"not toml at all", b"\xff\xfe", b""])
def test_a_pyproject_that_does_not_mention_us_is_none_of_our_business(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Somebody else's file, broken or not, never stops a pipeline."""
    folder = fresh / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_bytes(content)
    monkeypatch.chdir(folder)
    assert resolve().checksum == "sha256"


def test_configure_is_all_or_nothing() -> None:
    """One wrong setting in a call leaves all others as they were."""
    with pytest.raises(SettingError):
        configure(checksum="md5", console="loud")
    assert resolve().checksum == "sha256"


def test_a_secret_in_a_wrong_value_is_not_echoed() -> None:
    """The error about a value does not repeat a token that was put there by mistake."""
    with pytest.raises(SettingError) as caught:
        configure(console="sk-ant-api03-hunter2hunter2hunter2hunter2")
    assert "hunter2" not in str(caught.value)


def test_settings_reach_processes_that_join(job: JobFiles, python: Python) -> None:
    """What was given as an argument holds in the workers of a pool too."""
    python(
        """
        import multiprocessing, sys
        from concurrent.futures import ProcessPoolExecutor
        from otel_stage import pipeline, stage
        def work(n):
            with stage("s", key=n) as st:
                st.track_output(st.dir / "x").write_text("x")
        if __name__ == "__main__":
            with pipeline("p", job_dir=sys.argv[1], checksum="md5", console="off") as job:
                context = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, mp_context=context, initializer=job.join_process) as pool:
                    list(pool.map(work, [1]))
        """,
        job.path,
    )
    assert job.stage("s.1")["outputs"][0]["checksum"].startswith("md5:")

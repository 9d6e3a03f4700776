"""What is built is what is tested: the wheel holds everything, and works with the sources out of reach."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import clean_env

REPO = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(REPO)], check=True, capture_output=True
    )
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_both_packages_their_types_and_the_clip(wheel: Path) -> None:
    """Both import packages, `py.typed`, the clip with its licence note, and nothing of tests or docs."""
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "otel_stage/__init__.py", "otel_stage/py.typed", "otel_stage/demo/speech_clip.mp4",
        "otel_stage/demo/speech_clip.LICENSE.md", "otel_stage_exporters/__init__.py", "otel_stage_exporters/py.typed",
    ):  # fmt: skip
        assert name in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"otel_stage", "otel_stage_exporters"}


def test_a_run_works_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    """Installed without the checkout, a stage writes its files and the exporter is found by entry point."""
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)], check=True
    )
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import otel_stage
assert otel_stage.__file__.startswith(sys.argv[1]), otel_stage.__file__
from otel_stage import pipeline, stage
with pipeline("p", job_dir=sys.argv[2], console="off"), stage("s") as st:
    st.track_output(st.dir / "x").write_text("x")
import otel_stage_exporters
assert otel_stage_exporters.__file__.startswith(sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", code, str(site), str(tmp_path / "job")], check=True, env=clean_env(), cwd=tmp_path)
    manifest = json.loads((tmp_path / "job/01_s/manifest.json").read_text())
    assert (manifest["status"], manifest["outputs"][0]["size_bytes"]) == ("success", 1)

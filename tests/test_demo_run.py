"""The demo as a whole: what it leaves behind, read without the library, as a stranger would."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from otel_stage.demo import CLIP

pytest.importorskip("pocketsphinx")
pytest.importorskip("imageio_ffmpeg")
pytestmark = pytest.mark.slow

STAGES = ["demux", "vad", "asr", "subtitles", "mux"]
TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial" / "first-pipeline.md"


def demo(*argv: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    code = "from otel_stage.cli import main; main(prog_name='otel-stage')"
    return subprocess.run(
        [sys.executable, "-c", code, "demo", *map(str, argv)],
        cwd=cwd, env=shell_env(), capture_output=True, text=True, encoding="utf-8", check=False, timeout=300,
    )  # fmt: skip


def shell_env() -> dict[str, str]:
    """The environment, with the package on the path of every child, and no telemetry settings of the tester's."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TRACE"))}
    root = str(Path(__file__).parents[1])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.path.join(root, "exporters"), env.get("PYTHONPATH")]))
    env["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), env["PATH"]])
    return env


def load(path: Path) -> dict:
    """Read one manifest."""
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run on the clip that ships with the package: what it printed, and its job directory."""
    cwd = tmp_path_factory.mktemp("demo")
    ended = demo("--job-dir", "job", cwd=cwd)
    assert ended.returncode == 0, ended.stderr
    return ended, cwd / "job"


def stage_manifests(job: Path) -> dict[str, dict]:
    """All stage manifests by stage."""
    return {load(path)["stage"]: load(path) for path in sorted(job.glob("[0-9]*/manifest.json"))}


def test_every_stage_succeeds(run):
    """Job and stage manifests agree that all five stages ran, in order, with success."""
    job = load(run[1] / "manifest.json")
    assert job["pipeline"]["status"] == "success"
    assert job["pipeline"]["completed_stages"] == STAGES
    stages = stage_manifests(run[1])
    assert list(stages) == STAGES
    assert {manifest["status"] for manifest in stages.values()} == {"success"}
    assert {manifest["run_id"] for manifest in stages.values()} == {job["run_id"]}
    assert [stages[name]["stage_number"] for name in STAGES] == [1, 2, 3, 4, 5]


def test_every_checksum_is_that_of_the_file(run):
    """Checksum and size of every file that the manifests name are those of its bytes."""
    checked = 0
    for manifest in stage_manifests(run[1]).values():
        for artifact in manifest["inputs"] + manifest["outputs"]:
            path = run[1] / artifact["path"]
            content = path.read_bytes()
            assert artifact["size_bytes"] == len(content)
            assert artifact["checksum"] == "sha256:" + hashlib.sha256(content).hexdigest()
            checked += 1
    assert checked >= 12


def test_each_output_is_recorded_once_under_its_type(run):
    """A path that is tracked and then returned is one output, with the metadata it was tracked with."""
    stages = stage_manifests(run[1])
    outputs = {name: [(item["path"], item["type"]) for item in stages[name]["outputs"]] for name in STAGES}
    assert outputs == {
        "demux": [("01_demux/audio.wav", "audio")],
        "vad": [("02_vad/segments.json", "segments")],
        "asr": [("03_asr/transcript.json", "transcript")],
        "subtitles": [
            ("04_subtitles/subtitles.srt", "subtitles"),
            ("04_subtitles/subtitles.vtt", "subtitles"),
        ],
        "mux": [("05_mux/subtitled.mp4", "video")],
    }
    assert stages["asr"]["outputs"][0]["word_count"] >= 25
    assert stages["vad"]["outputs"][0]["segment_count"] == 3
    assert stages["demux"]["outputs"][0]["sample_rate"] == 16_000


def test_config_inputs_warnings_and_cost_can_be_read(run):
    """The manifests say with which config, on which bytes, with which warnings, and at what cost."""
    stages = stage_manifests(run[1])
    assert stages["asr"]["config"]["model"] == "en-us"
    assert stages["asr"]["config"]["language_weight"] == 6.5
    assert [item["path"] for item in stages["asr"]["inputs"]] == [
        "01_demux/audio.wav",
        "02_vad/segments.json",
    ]
    assert any("mono" in warning["message"] for warning in stages["demux"]["warnings"])
    assert any("unsure" in warning["message"] for warning in stages["asr"]["warnings"])
    assert stages["asr"]["resources"]["cpu_seconds"] > 0.1
    model = stages["asr"]["intermediate_files"][0]
    assert model["retained"] is True
    assert model["reason"] == "comes with pocketsphinx"
    assert model["size_bytes"] > 20_000_000


def test_the_transcript_says_much_of_what_is_said(run):
    """At least 70 % of the reference's words are in the transcript."""
    heard = load(run[1] / "03_asr/transcript.json")["segments"]
    words = " ".join(part["text"] for part in heard).split()
    reference = CLIP.with_suffix(".txt").read_text("utf-8").split()
    assert sum(word in words for word in reference) / len(reference) >= 0.7


def test_debug_is_in_stage_logs_only(run):
    """DEBUG lines, ffmpeg's output among them, stand in stage.log; the pipeline log and the console have none."""
    logs = list((run[1] / "logs").glob("*.log"))
    assert len(logs) == 1
    pipeline_log = logs[0].read_text("utf-8")
    assert "[DEBUG]" not in pipeline_log
    assert "[DEBUG]" not in run[0].stderr
    assert [f"✓ Stage {name}: SUCCESS" in pipeline_log for name in STAGES] == [True] * 5
    assert "[stage.asr] [DEBUG]" in (run[1] / "03_asr/stage.log").read_text("utf-8")
    ffmpeg_said = r"^\[[-0-9: ]+\] \[stage\.demux/ffmpeg[^]]*\] \[DEBUG\] "
    assert re.search(ffmpeg_said, (run[1] / "01_demux/stage.log").read_text("utf-8"), re.MULTILINE)


def test_the_film_has_a_subtitle_track(run):
    """Ffmpeg finds picture, sound and subtitles in what was made."""
    from otel_stage.demo._media import ffmpeg_exe

    film = run[1] / "05_mux/subtitled.mp4"
    said = subprocess.run([ffmpeg_exe(), "-i", film], capture_output=True, text=True, check=False).stderr
    assert [said.count(f": {kind}: ") for kind in ("Video", "Audio", "Subtitle")] == [1, 1, 1]


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_jq_reads_every_manifest(run):
    """`jq` takes every JSON file, and every line of every journal."""
    files = [*run[1].rglob("*.json"), *run[1].rglob("*.jsonl")]
    assert len(files) >= 8
    subprocess.run(["jq", "-e", "type", *files], check=True, capture_output=True)


@pytest.mark.skipif(not all(map(shutil.which, ["jq", "sha256sum", "bash"])), reason="needs jq, sha256sum, bash")
def test_every_command_of_the_tour_works(run, monkeypatch):
    """What the tour says to type next works as it stands, and prints something."""
    from otel_stage.demo._tour import next_commands

    monkeypatch.chdir(run[1].parent)
    commands = [command for _why, command in next_commands(Path("job"))]
    assert len(commands) == 5
    for command in commands:
        assert command in run[0].stdout
        typed = subprocess.run(["bash", "-ec", command], cwd=run[1].parent, capture_output=True, text=True, check=False)
        assert typed.returncode == 0, (command, typed.stderr)
        assert typed.stdout.strip()


def test_the_tour_shows_the_files(run):
    """Tree, pipeline log, stage log and manifest are shown, without colours, since nobody sees them in a pipe."""
    shown = run[0].stdout
    assert "03_asr/" in shown
    assert "subtitled.mp4" in shown
    assert "[pipeline] [INFO]" in shown
    assert "[stage.asr] [DEBUG]" in shown
    assert '"checksum": "sha256:' in shown
    assert "\033" not in shown


def test_sound_alone_becomes_a_film_with_subtitles(tmp_path):
    """An audio file gets a plain picture; `--json` says where everything is; a space in a name is no trouble."""
    from otel_stage.demo._media import ffmpeg_exe

    sound = tmp_path / "my talk.mp3"
    subprocess.run(
        [ffmpeg_exe(), "-i", CLIP, "-t", "4", "-ar", "44100", "-ac", "2", sound],
        check=True,
        capture_output=True,
    )
    ended = demo(sound.name, "--out", "my runs", "--json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["status"] == "success"
    assert told["stages"] == dict.fromkeys(STAGES, "success")
    job = tmp_path / told["job_dir"]
    assert job.is_relative_to(tmp_path / "my runs")
    assert told["outputs"]["mux"] == ["05_mux/subtitled.mp4"]
    assert (job / "05_mux/subtitled.mp4").stat().st_size > 0
    assert "mono" not in json.dumps(load(job / "01_demux/manifest.json")["warnings"])


def test_silence_gets_no_subtitles_and_says_so(tmp_path):
    """Without speech vad warns, mux is skipped, and the job is a success all the same."""
    from otel_stage.demo._media import ffmpeg_exe

    sound = tmp_path / "silence.wav"
    subprocess.run(
        [ffmpeg_exe(), "-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono:d=1", sound],
        check=True,
        capture_output=True,
    )
    ended = demo(sound.name, "--job-dir", "job", "--quiet", cwd=tmp_path)
    assert (ended.returncode, ended.stdout.split(), ended.stderr) == (0, ["job"], "")
    stages = stage_manifests(tmp_path / "job")
    assert [warning["message"] for warning in stages["vad"]["warnings"]] == ["no speech found"]
    assert stages["mux"]["status"] == "skipped"
    assert (tmp_path / "job/04_subtitles/subtitles.srt").read_bytes() == b""


def test_a_missing_input_is_one_clear_error(tmp_path):
    """A file that does not exist: exit code 2, one line, nothing written."""
    ended = demo("none.mp4", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "Error: none.mp4 does not exist\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["no media", "no sound"])
def test_a_useless_input_is_one_clear_error_and_a_true_record(kind, tmp_path):
    """Exit code 2, ffmpeg's words, no traceback; the job directory says that demux failed, and why."""
    from otel_stage.demo._media import ffmpeg_exe

    media = tmp_path / "media.mp4"
    if kind == "no media":
        media.write_bytes(b"this is no film" * 100)
    else:
        made = [ffmpeg_exe(), "-f", "lavfi", "-i", "color=size=64x64:duration=1", media]
        subprocess.run(made, check=True, capture_output=True)
    ended = demo(media.name, "--job-dir", "job", cwd=tmp_path)
    assert ended.returncode == 2
    message = ended.stderr[ended.stderr.index("Error: ") :]
    assert ("is not a video or audio file" if kind == "no media" else "has no audio") in message
    assert "ffmpeg: " in message
    assert "Traceback" not in ended.stdout + ended.stderr
    job = load(tmp_path / "job/manifest.json")
    assert job["pipeline"]["status"] == "failed"
    assert job["pipeline"]["failed_stages"] == ["demux"]
    demux = load(tmp_path / "job/01_demux/manifest.json")
    assert demux["status"] == "failed"
    assert demux["errors"][0]["type"].endswith("DemoError")
    assert "ffmpeg: " in demux["errors"][0]["message"]


def test_out_and_job_dir_exclude_each_other(tmp_path):
    """Two places to write to are a usage error."""
    ended = demo("--out", "a", "--job-dir", "b", cwd=tmp_path)
    assert ended.returncode == 2
    assert "--out" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not all(map(shutil.which, ["jq", "sha256sum", "bash"])), reason="needs jq, sha256sum, bash")
def test_the_tutorial_works_as_written(tmp_path):
    """Every block of the tutorial but the installation works, in order, in an empty folder."""
    text = TUTORIAL.read_text("utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert [kind for kind, _block in blocks if kind in {"bash", "python"}].count("python") >= 1
    script = ["set -eo pipefail"]
    for kind, block in blocks:
        if kind == "bash" and "pip install" not in block:
            script.append(block)
        elif kind == "python":
            saved = re.match(r"# (\w+\.py)\n", block)
            assert saved, "a python block begins with the name it is saved under"
            (tmp_path / saved[1]).write_text(block, "utf-8")
    # `otel-stage` may not be installed as a script where the tests run from the sources.
    command = tmp_path / ".bin" / "otel-stage"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\nfrom otel_stage.cli import main\nmain(prog_name='otel-stage')\n")
    command.chmod(0o755)
    env = shell_env()
    env["PATH"] = os.pathsep.join([str(command.parent), env["PATH"]])
    typed = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert typed.returncode == 0, typed.stderr
    assert "05_mux/subtitled.mp4: OK" in typed.stdout

"""The fakes that ship with the library: what they write is what a real run writes, and the same every time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from support import JobFiles, parse_log, run_python

from otel_stage import pipeline, stage
from otel_stage.manifest import event_time, fold, now_ns, parse_lines, parse_stage
from otel_stage.runs import earlier_runs, find_jobs, load_job
from otel_stage.testing import FileSpec, StageSpec, StepClock, deterministic_ids, write_job, write_jobs


def _tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def _shape(value: Any) -> Any:
    """Keys in their order and kinds of values, at every depth."""
    if isinstance(value, dict):
        return [(key, _shape(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [_shape(item) for item in value]
    return type(value).__name__


def _shapes(job: Path) -> dict[str, Any]:
    """What a job directory holds: names of files, and the shape of what is in them."""
    shapes: dict[str, Any] = {}
    for name, data in _tree(job).items():
        name = re.sub(r"\d{8}_\d{6}(_2)?|\d{8}T\d{6}Z-[0-9a-f]{8}", "TIME", name)
        name += "'" * (name in shapes)
        if name.endswith("manifest.json"):
            shapes[name] = _shape(json.loads(data))
        elif name.endswith("jsonl"):
            shapes[name] = [(json.loads(line)["event"], _shape(json.loads(line))) for line in data.splitlines()]
        elif name.endswith((".log", ".log'")):
            shapes[name] = [
                (record.source, record.level, re.sub(r"\d+\.\ds\)|/\S+ \(run .*", "…", record.text.split("\n")[0]))
                for record in parse_log(data)
            ]
        else:
            shapes[name] = data
    return shapes


# --- like a real run


def _really(job: Path, *, runs: int = 1) -> None:
    for _ in range(runs):
        names = ["demux", "asr", "asr.2", "mux"]
        with pytest.raises(RuntimeError), pipeline("p", job_dir=job, stages=names, config={"lang": "hi"}, console="off"):
            with stage("demux") as st:
                st.track_input(job / "movie.mp4", type="video")
                audio = st.track_output(st.dir / "audio.wav", type="audio", rate=16_000)
                audio.write_bytes(b"abc")
                st.track_output(st.dir / "lost.txt")
                st.set_config(model="large", beams=5)
                st.log.debug("quiet")
                st.log.info("two\nlines")
                st.add_warning("mono")
                st.add_error("one frame lost")
            with stage("asr") as st:
                st.track_input(audio, type="audio", rate=16_000)
            with stage("asr") as st:
                st.skip("no speech")
            with stage("mux"):
                raise RuntimeError("out of memory")


def _generated(job: Path, **options: Any) -> Path:
    audio = FileSpec(path="audio.wav", type="audio", content=b"abc", metadata={"rate": 16_000})
    return write_job(
        job,
        name="p",
        config={"lang": "hi"},
        stages=[
            StageSpec(
                "demux",
                inputs=[FileSpec(path="movie.mp4", type="video", content=b"movie")],
                outputs=[audio, FileSpec(path="lost.txt", exists=False)],
                config={"model": "large", "beams": 5},
                log=[("DEBUG", "quiet"), ("INFO", "two\nlines")],
                warnings=["mono"],
                errors=["one frame lost"],
                resources={},
            ),
            StageSpec("asr", inputs=[FileSpec(path="01_demux/audio.wav", type="audio", metadata={"rate": 16_000})],
                      resources={}),
            StageSpec("asr", status="skipped", reason="no speech", resources={}),
            StageSpec("mux", status="failed", reason="RuntimeError: out of memory", resources={}),
        ],
        facts=False,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("runs", [1, 2])
def test_generated_directories_have_the_shape_of_real_ones(fresh: Path, runs: int):
    """Files, keys and their order, kinds of values, events and log lines are those of a real run, or of two."""
    (fresh / "a").mkdir()
    real = fresh / "a" / "job"
    real.mkdir()
    (real / "movie.mp4").write_bytes(b"movie")
    _really(real, runs=runs)
    generated = _generated(fresh / "b" / "job", runs=runs)
    found, made = _shapes(real), _shapes(generated)
    assert sorted(made) == sorted(found)
    for name in found:
        assert made[name] == found[name], name


def test_values_that_follow_from_content_are_those_of_a_real_run(fresh: Path):
    """Artifacts, config, errors, ids of stages and counts are equal, not only alike."""
    real = fresh / "a" / "job"
    real.mkdir(parents=True)
    (real / "movie.mp4").write_bytes(b"movie")
    _really(real)
    generated = _generated(fresh / "b" / "job")
    for folder in ("01_demux", "02_asr", "03_asr.2", "04_mux"):
        a, b = (json.loads((job / folder / "manifest.json").read_bytes()) for job in (real, generated))
        for name in ("stage", "key", "stage_number", "attempt", "status", "inputs", "outputs", "intermediate_files",
                     "config", "resources", "reason"):  # fmt: skip
            assert a.get(name) == b.get(name), (folder, name)
        assert [w["message"] for w in a["warnings"]] == [w["message"] for w in b["warnings"]]
        assert [(e["message"], e.get("type")) for e in a["errors"]] == [(e["message"], e.get("type")) for e in b["errors"]]
    a, b = (json.loads((job / "manifest.json").read_bytes()) for job in (real, generated))
    assert a["pipeline"] == b["pipeline"]


def test_open_ended_runs_have_the_shape_of_real_ones(fresh: Path):
    """Stages without a pipeline, from a script of their own, leave what `open_ended=True` writes."""
    code = """
        from otel_stage import stage
        for name in ("demux", "asr"):
            with stage(name) as st:
                st.log.info("hello")
    """
    run_python(code, cwd=fresh, env={"OTEL_STAGE_JOB_DIR": str(fresh / "a"), "OTEL_STAGE_CONSOLE": "off"})
    stages = [StageSpec(name, log=[("INFO", "hello")], resources={}) for name in ("demux", "asr")]
    name = json.loads((fresh / "a/manifest.json").read_bytes())["name"]
    generated = write_job(fresh / "b", stages=stages, name=name, open_ended=True, facts=False)
    assert _shapes(generated) == _shapes(fresh / "a")


def test_facts_and_resources_have_the_names_of_real_ones(job: JobFiles, tmp_path: Path):
    """Generated facts and resources are among those of a real run, in the same order."""
    with pipeline("p", job_dir=job.path, console="off", facts=True, resources=True), stage("demux"):
        pass
    generated = write_job(tmp_path / "b", stages=["demux"])
    for name in ("01_demux/manifest.json", "manifest.json"):
        real, made = (json.loads((folder / name).read_bytes()) for folder in (job.path, generated))
        for part in ("environment", "resources", "code"):
            # A worker of a parallel test run has no main script whose code could be named.
            if part in made and part in real:
                assert list(made[part]) == [key for key in real[part] if key in made[part]], (name, part)


# --- true in itself


def test_every_manifest_is_the_fold_of_its_journal_and_sealed(tmp_path: Path):
    """Manifests are the fold of the journals beside them, and the job manifest seals them."""
    job = _generated(tmp_path / "job")
    entries = json.loads((job / "manifest.json").read_bytes())["stages"]
    for entry in entries.values():
        data = (job / entry["manifest"]).read_bytes()
        folder = entry["manifest"].split("/")[0]
        journal = (job / ".otel-stage" / "stages" / f"{folder}.jsonl").read_bytes()
        assert fold(parse_lines(journal)) == json.loads(data)
        assert hashlib.sha256(data).hexdigest() == entry["manifest_sha256"]
        log = (job / entry["log"]).read_bytes()
        counted = json.loads(data)["log"]
        assert (counted["size_bytes"], counted["lines"]) == (len(log), log.count(b"\n"))


def test_checksums_are_true_where_files_are_written(tmp_path: Path):
    """An artifact with content is there, and its recorded size and checksum are those of the file."""
    for job in write_jobs(tmp_path, 5, files=True):
        for path in job.glob("*_*/manifest.json"):
            for artifact in parse_stage(path.read_bytes())["outputs"]:
                content = (job / artifact["path"]).read_bytes()
                assert artifact["size_bytes"] == len(content)
                assert artifact["checksum"] == "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("status", ["success", "failed", "skipped", "reused", "cancelled", "crashed", "running"])
def test_every_status_can_be_written(tmp_path: Path, status: str):
    """A stage of each status is written, and read as such; one that runs in a dead process reads as crashed."""
    job = write_job(tmp_path / "job", stages=[StageSpec("a"), StageSpec("b", status=status)])
    record = load_job(job)
    expected = "crashed" if status == "running" else status
    assert record.stages["b"]["status"] == expected
    assert record.stage("b")["status"] == expected
    assert record.status == {"skipped": "success", "reused": "success"}.get(expected, expected)


def test_names_keys_and_numbers_are_a_real_runs(tmp_path: Path):
    """Repeated names get keys, a key that the user gave gets another attempt, explicit numbers hold."""
    specs = ["bwa", "bwa", StageSpec("bwa", key="s1"), StageSpec("bwa", key="s1"), StageSpec("mux", number=9), "end"]
    job = write_job(tmp_path / "job", stages=specs, planned=False)
    stages = load_job(job).stages
    assert {ident: entry["stage_number"] for ident, entry in stages.items()} == {
        "bwa": 1, "bwa.2": 2, "bwa.s1": 3, "mux": 9, "end": 10,
    }  # fmt: skip
    assert stages["bwa.s1"]["attempt"] == 2
    assert [p.name for p in (job / ".otel-stage" / "runs").rglob("03_*")] == ["03_bwa.s1.attempt1"]


def test_two_runs_stand_in_one_directory(tmp_path: Path):
    """The first run is kept under `.otel-stage/runs/`, the second stands on top, each with its own log."""
    job = write_job(tmp_path / "job", stages=["demux", StageSpec("asr", status="failed")], runs=2)
    (first,) = earlier_runs(job)
    assert first.run_id != load_job(job).run_id
    assert [m["run_id"] for _, m in first.load_stages()] == [first.run_id] * 2
    assert len(list((job / "logs").iterdir())) == 2


def test_a_foreign_manifest_is_left_alone(tmp_path: Path):
    """Somebody else's `manifest.json` stays as it is, ours stands beside it."""
    job = write_job(tmp_path / "job", stages=["demux"], foreign={"workflow": "x"})
    assert json.loads((job / "manifest.json").read_bytes()) == {"workflow": "x"}
    assert load_job(job).manifest == json.loads((job / "job.manifest.json").read_bytes())


@pytest.mark.parametrize("wrong", [{"name": "a/b"}, {"name": "a", "key": ".."}, {"name": "a", "status": "done"}])
def test_a_stage_that_cannot_be_is_refused(wrong: dict[str, str]):
    """Names, keys and statuses that no real run has are refused at once."""
    with pytest.raises(ValueError):
        StageSpec(**wrong)


def test_a_job_is_not_written_over(tmp_path: Path):
    """A directory that is a job already is refused."""
    write_job(tmp_path / "job", stages=["demux"])
    with pytest.raises(FileExistsError):
        write_job(tmp_path / "job", stages=["demux"])


# --- many


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path):
    """Written again with the same seed, all files are the same byte for byte; with another they are not."""
    trees = []
    for seed in (1, 1, 2):
        write_jobs(tmp_path / "out", 12, seed=seed)
        trees.append(_tree(tmp_path / "out"))
        shutil.rmtree(tmp_path / "out")
    assert trees[0] == trees[1] != trees[2]


def test_many_jobs_are_found_loaded_and_chained(tmp_path: Path):
    """All jobs are found where they were made, and most read what an earlier one wrote, checksum and all."""
    made = write_jobs(tmp_path, 200)
    assert sorted(made) == list(find_jobs(tmp_path))
    written: dict[str, str] = {}
    chained, sizes, statuses = 0, [], set()
    for path in made:
        record = load_job(path)
        statuses.add(record.status)
        for _ident, manifest in record.load_stages():
            for artifact in manifest["inputs"]:
                if artifact["path"].startswith(str(tmp_path)):
                    assert written[artifact["path"]] == artifact["checksum"]
                    chained += 1
            written.update({f"{path}/{a['path']}": a["checksum"] for a in manifest["outputs"] if "checksum" in a})
        sizes += [os.path.getsize(path / entry["manifest"]) for entry in record.stages.values()]
    assert chained > 150
    assert statuses == {"success", "failed", "cancelled", "crashed"}
    assert 1500 < sum(sizes) / len(sizes) < 3000


def test_writing_needs_no_opentelemetry(tmp_path: Path):
    """Jobs are written and read without importing OpenTelemetry."""
    code = """
        import sys
        from otel_stage.runs import find_jobs, load_job
        from otel_stage.testing import write_jobs
        write_jobs("out", 2)
        assert [load_job(path).status for path in find_jobs("out")]
        print([name for name in sys.modules if name.startswith("opentelemetry")])
    """
    assert run_python(code, cwd=tmp_path).stdout == "[]\n"


# --- clock and ids


def test_the_clock_steps():
    """Each reading is a step later, and time passes when told to."""
    clock = StepClock("2025-11-27T06:50:00Z", step=0.5)
    assert [event_time(clock())[17:21] for _ in range(3)] == ["00.0", "00.5", "01.0"]
    clock.advance(60)
    assert event_time(clock()) == "2025-11-27T06:51:01.500000000Z"


def test_events_take_their_time_from_an_installed_clock():
    """While a clock is installed events are told by it; before and after by the machine's."""
    before = now_ns()
    with StepClock().installed() as clock:
        assert event_time(now_ns()) == "2025-11-27T06:50:00.000000000Z"
        clock.advance(1)
        assert event_time(now_ns()) == "2025-11-27T06:50:01.001000000Z"
    assert now_ns() > before


def test_ids_repeat():
    """Two SDK providers with the same seed give the same ids; another seed gives others."""

    def spans(seed: int) -> list[tuple[int, int]]:
        provider = TracerProvider(id_generator=deterministic_ids(seed), shutdown_on_exit=False)
        tracer = provider.get_tracer("t")
        return [(c.trace_id, c.span_id) for c in (tracer.start_span("s").get_span_context() for _ in range(3))]

    assert spans(7) == spans(7)
    assert spans(7) != spans(8)
    assert len(set(spans(7))) == 3

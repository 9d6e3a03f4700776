"""Many job directories: what searching, lineage and reports have to be quick on."""

from __future__ import annotations

import os
import random
from pathlib import Path

from otel_stage.testing._fakes import Ids, StepClock
from otel_stage.testing._job import write_job
from otel_stage.testing._specs import FileSpec, StageSpec

_PIPELINES = ("ingest", "train", "report")
_STAGES = ("fetch", "clean", "align", "score", "pack", "publish")
_MODELS = ("base", "large-v2", "large-v3")
_ENDS = ("failed", "cancelled", "crashed")


def write_jobs(
    root: str | os.PathLike[str], count: int, *, stages: int = 3, seed: int = 0, files: bool = False
) -> list[Path]:
    """Write many jobs under `root`, in folders as `pipeline()` makes them.

    What a job's last stage wrote is read by the first stage of a later one. Nine jobs in ten succeed; the
    others fail, are cancelled or crash in their last stage. A stage manifest has about 2 KB. The same arguments
    give the same files.

    Args:
        root: Where; the folders of the days are made in it.
        count: How many jobs.
        stages: Stages per job.
        seed: Another one gives other jobs.
        files: Also write the artifacts themselves, so that their checksums are true.

    Returns:
        The job directories, oldest first.

    Example:
        >>> jobs = write_jobs("out", 1000)  # doctest: +SKIP
    """
    rng = random.Random(seed)  # noqa: S311 - nothing is to be kept secret
    ids, clock = Ids(seed), StepClock("2025-11-01T06:00:00Z")
    base = os.path.abspath(root).replace(os.sep, "/")
    made: list[Path] = []
    numbers: dict[str, int] = {}
    published: list[FileSpec] = [FileSpec(path="/data/corpus.tar", type="corpus", size=48_000_000)]
    for n in range(count):
        pipeline = _PIPELINES[n % len(_PIPELINES)]
        day = f"2025/11/{1 + n * 28 // max(count, 1):02d}"
        number = numbers[f"{day}/{pipeline}"] = numbers.get(f"{day}/{pipeline}", 0) + 1
        path = f"{base}/{day}/{pipeline}/{number}"
        end = rng.choice(_ENDS) if rng.random() < 0.1 else "success"
        read = [published[rng.randrange(max(0, len(published) - 20), len(published))]]
        specs = _specs(rng, n, stages, read, end, files=files)
        made.append(write_job(path, stages=specs, name=pipeline, config={"batch": n}, clock=clock, ids=ids))
        if end == "success" and stages:
            folder = f"{stages:02d}_{specs[-1].name}"
            published.extend(_seen_from_outside(f"{path}/{folder}", file) for file in specs[-1].outputs)
        clock.advance(rng.uniform(1, 600))
    return made


def _specs(rng: random.Random, n: int, stages: int, read: list[FileSpec], end: str, *, files: bool) -> list[StageSpec]:
    specs: list[StageSpec] = []
    inputs: list[FileSpec | str] = [*read]
    for k in range(stages):
        name = _STAGES[k % len(_STAGES)] + (str(k) if k >= len(_STAGES) else "")
        outputs = [_output(rng, f"{name}_{i}.json", n, files=files) for i in range(2)]
        specs.append(
            StageSpec(
                name,
                status=end if k == stages - 1 else "success",
                seconds=round(rng.uniform(0.1, 300), 3),
                inputs=inputs,
                outputs=outputs,
                config={
                    "model": rng.choice(_MODELS), "batch_size": rng.choice((8, 16, 32)), "language": "hi",
                    "rate": round(rng.random(), 4), "device": "cuda", "retries": rng.randrange(4),
                },
                log=[("DEBUG", f"loading {name}"), ("INFO", f"{name}: {rng.randrange(1000)} items")],
                warnings=["input is mono"] if rng.random() < 0.2 else [],
            )
        )  # fmt: skip
        inputs = [f"{k + 1:02d}_{name}/{file.path}" for file in outputs]
    return specs


def _output(rng: random.Random, name: str, n: int, *, files: bool) -> FileSpec:
    items = rng.randrange(10_000)
    content = f'{{"job": {n}, "items": {items}}}\n'.encode() if files else None
    return FileSpec(path=name, type="table", content=content, size=64 * items + 17, metadata={"items": items})


def _seen_from_outside(folder: str, given: FileSpec | str) -> FileSpec:
    """An output of one job as the input of another: same size, same checksum, absolute path."""
    assert isinstance(given, FileSpec)  # noqa: S101 - by construction
    inside = f"{os.path.basename(folder)}/{given.path}"
    facts = given.facts(inside)
    return FileSpec(
        path=f"{folder}/{given.path}", type=given.type, size=facts["size_bytes"], checksum=facts["checksum"],
        metadata=given.metadata,
    )  # fmt: skip

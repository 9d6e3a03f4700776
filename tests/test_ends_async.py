"""Ends of stages in generators and in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest
from support import JobFiles

from otel_stage import pipeline, stage

Python = Callable[..., CompletedProcess[str]]


def test_a_closed_generator_cancels_its_stage(job: JobFiles) -> None:
    """A stage whose generator is closed early, even in another context, has its end."""

    def work() -> Any:
        with stage("a"):
            yield 1
            yield 2

    with pipeline("p", job_dir=job.path):
        generator = work()
        assert next(generator) == 1
        generator.close()
        with stage("b"):
            pass
    assert job.stage("a")["status"] == "cancelled"
    assert job.stage("b")["status"] == "success"


def test_asyncio_cancellation(job: JobFiles) -> None:
    """A cancelled task's stage is cancelled; one under `asyncio.timeout` too, and what waited for it timed out."""

    async def work(name: str, ready: asyncio.Event) -> None:
        with stage(name):
            ready.set()
            await asyncio.Event().wait()

    async def main() -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(work("cancelled", ready))
        await ready.wait()
        task.cancel("shutting down")
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError), stage("outer"):
            async with asyncio.timeout(0.01):
                await work("inner", asyncio.Event())

    with pipeline("p", job_dir=job.path):
        asyncio.run(main())
    assert job.stage("cancelled")["status"] == "cancelled"
    assert "shutting down" in job.stage("cancelled")["reason"]
    assert job.stage("inner")["status"] == "cancelled"
    assert job.stage("outer")["status"] == "failed"

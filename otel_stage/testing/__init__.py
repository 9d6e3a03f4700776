"""Fakes for tests of pipelines and of what reads them: a clock, ids, and whole job directories of any size and kind.

The directories are written by the library's own events and `fold`, without the OpenTelemetry SDK, so that
thousands of them take seconds; they have the shape of what a real run leaves.

```python
def test_report_names_the_stage_that_failed(tmp_path):
    write_job(tmp_path / "job", stages=[StageSpec("demux"), StageSpec("asr", status="failed")])
    ...
```
"""

from __future__ import annotations

from otel_stage.testing._fakes import StepClock, deterministic_ids
from otel_stage.testing._job import write_job
from otel_stage.testing._many import write_jobs
from otel_stage.testing._seed import write_seed_job
from otel_stage.testing._specs import FileSpec, StageSpec

__all__ = [
    "FileSpec",
    "StageSpec",
    "StepClock",
    "deterministic_ids",
    "write_job",
    "write_jobs",
    "write_seed_job",
]

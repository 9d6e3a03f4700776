"""Find and load job directories: pure reading, of running, crashed, read-only, foreign and seed-kind ones alike.

Nothing here writes, takes a lock or needs OpenTelemetry. A run whose process is provably dead is shown as
crashed, though its files still say `running`; `recover` and the next run of that job write it down.

```python
for path in find_jobs("out"):
    job = load_job(path)
    print(job.name, job.status, [m["stage"] for _, m in job.load_stages()])
```
"""

from __future__ import annotations

from otel_stage.runs._find import find_jobs
from otel_stage.runs._job import JobRecord, earlier_runs, load_job
from otel_stage.runs._stage import load_stage

__all__ = ["JobRecord", "earlier_runs", "find_jobs", "load_job", "load_stage"]

"""Tracking files: one call against what pathlib would take, and stages with very many artifacts.

    python bench/artifacts.py [--quick]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _timing import interleaved, report

from otel_stage import pipeline, stage

MANY = """
import resource, sys, time
from pathlib import Path
from otel_stage import pipeline, stage
folder, n = Path(sys.argv[1]), int(sys.argv[2])
paths = [folder / "files" / f"f{i}" for i in range(n)]
with pipeline("bench", job_dir=folder / f"job{n}", console="off", checksum="off"):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    with stage("many") as st:
        for p in paths:
            st.track_output(p, type="frame")
    took = time.perf_counter() - began
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main():
    quick = "--quick" in sys.argv
    n, rounds = (300, 5) if quick else (2000, 11)
    folder = Path(tempfile.mkdtemp(prefix="bench-artifacts-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    (folder / "files").mkdir()
    paths = [folder / "files" / f"f{i}" for i in range(n)]
    for p in paths:
        p.write_bytes(b"x")

    def peer():
        for p in paths:
            r = p.resolve()
            if r.exists():
                r.stat()
        return n

    with pipeline("bench", job_dir=folder / "job", console="off", checksum="off"), stage("track") as st:

        def ours():
            for p in paths:
                st.track_output(p)
            return n

        def as_text():
            for p in texts:
                st.track_output(p)
            return n

        texts = [str(p) for p in paths]
        jobs = {"resolve() + exists() + stat()": peer, "track_output(Path)": ours, "track_output(str)": as_text}
        report("one tracked file", interleaved(jobs, rounds), "resolve() + exists() + stat()", {"track_output(Path)": "≤ 0.4"})

    sizes = [1_000, 10_000] if quick else [1_000, 10_000, 100_000]
    for i in range(n, sizes[-1]):
        (folder / "files" / f"f{i}").touch()
    print("a stage with many artifacts, no checksums")
    for size in sizes:
        out = subprocess.run([sys.executable, "-c", MANY, str(folder), str(size)], capture_output=True, text=True, check=True)
        took, peak = map(float, out.stdout.split())
        bar = "   bar ≤ 3 s, ≤ 300 MB" if size == 100_000 else ""
        print(f"  {size:>7}   {took:7.3f} s   {took / size * 1e6:6.1f} µs each   peak {peak:6.1f} MB{bar}")


if __name__ == "__main__":
    main()

"""Opening and closing a small stage, against the same file operations done bare.

    python bench/small_stage.py [--quick]

3 inputs, 2 outputs, 6 config keys, manifests and journal written, no checksums. On tmpfs and on the disk.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from otel_stage import pipeline, stage

CONFIG = {"model": "large-v2", "device": "cuda", "batch_size": 16, "language": "hi", "beam": 5, "vad": True}


def bare(folder, n, inputs, content):
    """The same files, written with nothing but the operating system's calls."""
    state = f"{folder}/.otel-stage"
    journal = os.open(f"{state}/journal.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    name = f"{n:02d}_s"
    os.write(journal, content["line"])
    os.mkdir(f"{folder}/{name}")
    log = os.open(f"{folder}/{name}/stage.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    events = os.open(f"{state}/stages/{name}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    pipe = os.open(f"{folder}/logs/99_pipeline.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(events, content["line"])
    for which in ("running", "final"):
        fd = os.open(f"{folder}/{name}/.m.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, content[which])
        os.close(fd)
        os.replace(f"{folder}/{name}/.m.tmp", f"{folder}/{name}/manifest.json")
        os.write(pipe, b"x" * 60 + b"\n")
    for path in inputs:
        os.stat(path)
        os.write(events, content["event"])
    for k in range(2):
        os.stat(inputs[k])
        os.write(events, content["event"])
    os.write(events, content["event"])
    os.write(events, content["line"])
    os.write(journal, content["event"])
    for fd in (log, events, pipe, journal):
        os.close(fd)


def ours(n, inputs):
    with stage("s") as st:
        for path in inputs:
            st.track_input(path, type="audio")
        st.set_config(CONFIG)
        for k in range(2):
            st.track_output(inputs[k], type="text")


def main():
    quick = "--quick" in sys.argv
    n = 200 if quick else 1000
    for where, root, bar in (("tmpfs", "/dev/shm", "≤ 7"), ("disk", os.environ.get("BENCH_DISK", "/var/tmp"), "≤ 2")):
        if not os.path.isdir(root):
            continue
        folder = Path(tempfile.mkdtemp(prefix="bench-stage-", dir=root))
        inputs = [folder / f"in{k}" for k in range(3)]
        for path in inputs:
            path.write_bytes(b"x" * 1000)
        strings = [str(p) for p in inputs]
        for sub in ("bare/.otel-stage/stages", "bare/logs"):
            (folder / sub).mkdir(parents=True)
        content = {"line": b"x" * 900 + b"\n", "event": b"x" * 200 + b"\n", "running": b"x" * 1500, "final": b"x" * 2600}
        times = {"ours": [], "bare": []}
        with pipeline("bench", job_dir=folder / "job", console="off", checksum="off"):
            for i in range(20):
                ours(i, inputs)
            for i in range(n):
                t = time.perf_counter()
                ours(i, inputs)
                t2 = time.perf_counter()
                bare(f"{folder}/bare", i + 1, strings, content)
                t3 = time.perf_counter()
                times["ours"].append(t2 - t)
                times["bare"].append(t3 - t2)
        m = json.loads((folder / "job" / "manifest.json").read_text())
        assert len(m["pipeline"]["completed_stages"]) == n + 20
        ratio = statistics.median(a / b for a, b in zip(times["ours"], times["bare"], strict=True))
        a, b = statistics.median(times["ours"]) * 1e6, statistics.median(times["bare"]) * 1e6
        tenth = n // 10
        first, last = statistics.median(times["ours"][:tenth]) * 1e6, statistics.median(times["ours"][-tenth:]) * 1e6
        print(f"{where:<6} ours {a:8.1f} µs   bare {b:8.1f} µs   {ratio:5.2f} ×   bar {bar}")
        print(f"       stages 1–{tenth}: {first:.1f} µs, {n - tenth + 1}–{n}: {last:.1f} µs   {last / first:4.2f} ×")


if __name__ == "__main__":
    main()

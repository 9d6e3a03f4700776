"""One INFO record into stage.log and pipeline log, against stdlib logging with two FileHandlers.

    python bench/log_records.py [--quick]
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from _timing import interleaved, report

from otel_stage import pipeline, stage


def stdlib_logger(folder):
    logger = logging.Logger("peer", logging.DEBUG)
    for name in ("a.log", "b.log"):
        handler = logging.FileHandler(folder / name)
        handler.setFormatter(logging.Formatter("[%(asctime)s] [%(name)s] [%(levelname)s] %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
    return logger


def looped(log, n, keyed=False):
    def run():
        if keyed:
            for i in range(n):
                log.info("step epoch=%d loss=0.25 lr=1e-4", i)
        else:
            for i in range(n):
                log.info("Processing chunk %d of 5000, 3 items", i)
        return n

    return run


def threaded(log, n, count):
    job = looped(log, n)

    def run():
        threads = [threading.Thread(target=job) for _ in range(count)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return n * count

    return run


KILLED = """
import os, signal, sys
from otel_stage import pipeline, stage
with pipeline("p", job_dir=sys.argv[1], console="off"), stage("s") as st:
    for i in range(int(sys.argv[2])):
        st.log.info("record %d", i)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(folder, n):
    """How many records are in the files of a process that killed itself right after the last logging call."""
    subprocess.run([sys.executable, "-c", KILLED, str(folder / "killed"), str(n)], check=False)
    log = next((folder / "killed" / "logs").glob("99_pipeline_*.log")).read_text()
    stage_log = (folder / "killed" / "01_s" / "stage.log").read_text()
    print(f"after kill -9: {stage_log.count('record ')} of {n} in stage.log, {log.count('record ')} in the pipeline log")


def main():
    quick = "--quick" in sys.argv
    n, rounds = (2_000, 5) if quick else (10_000, 15)
    folder = Path(tempfile.mkdtemp(prefix="bench-log-"))
    peer = stdlib_logger(folder)
    with pipeline("bench", job_dir=folder / "job", console="off"), stage("logs") as st:
        library = logging.getLogger("some.library")
        library.setLevel(logging.INFO)
        jobs = {"stdlib, two FileHandlers": looped(peer, n), "stage's logger": looped(st.log, n), "any other logger": looped(library, n)}
        bars = {"stage's logger": "≤ 0.5", "any other logger": "≤ 0.8"}
        report("plain message", interleaved(jobs, rounds), "stdlib, two FileHandlers", bars)
        jobs = {"stdlib, two FileHandlers": looped(peer, n, True), "stage's logger": looped(st.log, n, True), "any other logger": looped(library, n, True)}
        report("message with key=value", interleaved(jobs, rounds), "stdlib, two FileHandlers", {"stage's logger": "≤ 0.8"})

        m = n // 4
        loggers = {"stdlib, two FileHandlers": peer, "stage's logger": st.log, "any other logger": library}
        jobs = {name: threaded(log, m, 4) for name, log in loggers.items()}
        report("4 threads", interleaved(jobs, rounds), "stdlib, two FileHandlers", {"stage's logger": "≤ 0.3", "any other logger": "≤ 0.5"})

        stop = threading.Event()

        def burn():
            while not stop.is_set():
                sum(range(500))

        burner = threading.Thread(target=burn, daemon=True)
        burner.start()
        m = 200 if quick else 500
        jobs = {"stdlib, two FileHandlers": looped(peer, m), "stage's logger": looped(st.log, m), "any other logger": looped(library, m)}
        report("beside one CPU-bound thread", interleaved(jobs, max(3, rounds // 3)), "stdlib, two FileHandlers", {"stage's logger": "≤ 0.1", "any other logger": "≤ 0.2"})
        stop.set()
        burner.join()
    killed(folder, 2_000)


if __name__ == "__main__":
    main()

"""One INFO record into stage.log and pipeline log, against stdlib logging with two FileHandlers.

    python bench/log_records.py [--quick]
"""

from __future__ import annotations

import logging
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


def threaded(job, count):
    def run():
        threads = [threading.Thread(target=job) for _ in range(count)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return count * 1

    def run_all():
        run()
        return job.n * count

    return run_all


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
        jobs = {}
        for name, log in (("stdlib, two FileHandlers", peer), ("stage's logger", st.log), ("any other logger", _wrapped(library))):
            job = looped(log, m)
            job.n = m
            jobs[name] = threaded(job, 4)
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


def _wrapped(log):
    return log


if __name__ == "__main__":
    main()

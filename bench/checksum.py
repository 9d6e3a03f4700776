"""Checksums against plain ``hashlib``: large files on every core, and ten thousand small ones.

Run ``python bench/checksum.py`` (``--quick`` for a short run). Peers take turns, round by round, in one
process; printed are medians and the median of each round's ratio.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from otel_stage.checksum import Hasher, core_count, hash_directory, hash_file, hash_many, look

LARGE_BAR = 0.95
SMALL_BAR = 1.8


def interleave(rounds: int, ways: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Time each way once a round, starting with another one each time; return seconds."""
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            ways[name]()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def report(seconds: dict[str, list[float]], peer: str, scale: float, unit: str) -> dict[str, float]:
    """Print each way's median and how many times faster than the peer it was."""
    ratios = {}
    for name, times in seconds.items():
        ratios[name] = statistics.median(b / a for a, b in zip(times, seconds[peer], strict=True))
        print(f"  {name:<52} {statistics.median(times) * scale:9.2f} {unit}   {ratios[name]:5.2f} x")
    return ratios


def plain(path: str) -> str:
    """Hash a file as the standard library documents it."""
    return hashlib.file_digest(open(path, "rb"), "sha256").hexdigest()


def large_files(folder: Path, megabytes: int, rounds: int) -> float:
    """Compare as many large files as there are cores."""
    paths = []
    block = os.urandom(1 << 20)
    for number in range(core_count()):
        paths.append(str(folder / f"large{number}"))
        with open(paths[-1], "wb") as file:
            for _ in range(megabytes):
                file.write(block)
    facts = [look(path) for path in paths]

    def threads_of_hashlib() -> None:
        threads = [threading.Thread(target=plain, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def background() -> None:
        hasher = Hasher()
        pending = [hasher.submit(path, fact) for path, fact in zip(paths, facts, strict=True)]
        assert all(each.result() for each in pending)

    print(f"{len(paths)} files of {megabytes} MiB:")
    seconds = interleave(
        rounds,
        {
            "hashlib.file_digest, one thread per core": threads_of_hashlib,
            "Hasher.submit": background,
            "hash_many": lambda: hash_many(list(zip(paths, facts, strict=True))),
        },
    )
    ratios = report(seconds, "hashlib.file_digest, one thread per core", 1e3, "ms")
    return min(ratios["Hasher.submit"], ratios["hash_many"])


def small_files(folder: Path, count: int, rounds: int) -> tuple[float, float]:
    """Compare many files of 4 KB."""
    paths = []
    for number in range(count):
        paths.append(str(folder / f"small{number}"))
        with open(paths[-1], "wb") as file:
            file.write(os.urandom(4096))
    facts = [look(path) for path in paths]
    looked = list(zip(paths, facts, strict=True))
    assert hash_file(paths[0]) == "sha256:" + plain(paths[0])
    hasher = Hasher()
    peer = "file_digest(open())"
    print(f"{count} files of 4 KB, each:")
    seconds = interleave(
        rounds,
        {
            peer: lambda: [plain(path) for path in paths],
            "hash_file, looked at before": lambda: [hash_file(path, "sha256", fact) for path, fact in looked],
            "hash_many, looked at before": lambda: hash_many(looked),
            "Hasher.submit, looked at before": lambda: [hasher.submit(path, fact) for path, fact in looked],
            "hash_file, asking what the path is": lambda: [hash_file(path) for path in paths],
            "look + hash_many": lambda: hash_many([(path, look(path)) for path in paths]),
            "hash_directory": lambda: hash_directory(folder),
        },
    )
    ratios = report(seconds, peer, 1e6 / count, "us")
    # hash_many and submit add what the peer leaves out: a second look that proves the file did not change.
    return ratios["hash_file, looked at before"], ratios["hash_many, looked at before"]


def main() -> None:
    """Run both comparisons in a folder in memory where there is one, and clean up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller files, fewer rounds")
    quick = parser.parse_args().quick
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="otel-stage-bench-", dir=memory))
    try:
        (folder / "large").mkdir()
        (folder / "small").mkdir()
        large = large_files(folder / "large", 64 if quick else 256, 5 if quick else 9)
        small, proven = small_files(folder / "small", 2_000 if quick else 10_000, 5 if quick else 9)
    finally:
        shutil.rmtree(folder)
    print(f"large files: {large:.2f} x hashlib x cores (bar {LARGE_BAR})")
    print(
        f"small files: {small:.2f} x file_digest(open()) (bar {SMALL_BAR}); proven unchanged: {proven:.2f} x"
    )


if __name__ == "__main__":
    main()

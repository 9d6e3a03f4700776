"""One look at the process tree against psutil's walk, and what sampling costs a core.

    python bench/sampler.py [--quick]

The peer does what most programs do: `Process().children(recursive=True)`, then `memory_info()` of each. Ours
reads the CPU seconds of each as well. Both run in turn in this process, with no children and with fifty; figures
are medians, ratios are medians of pairs. Bar: at least 5 times cheaper than psutil, and under 0.5 % of a core at
one sample a second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import psutil

from otel_stage import _resources
from otel_stage._proctree import open_tree, own_usage

MICRO = 1e6


def peer() -> int:
    """Sum up the tree's memory as psutil's documentation does it."""
    own = psutil.Process()
    total = own.memory_info().rss
    for child in own.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:
            continue
    return total


def timed(fn) -> float:
    """Return the seconds of one call."""
    begin = time.perf_counter()
    fn()
    return time.perf_counter() - begin


def one_look(children: int, rounds: int) -> float:
    """Compare single looks; return the ratio."""
    tree = open_tree()

    def ours() -> None:
        tree.walk(own_usage())

    pairs = [(timed(ours), timed(peer)) for _ in range(rounds)]
    tree.close()
    us = statistics.median(a for a, _ in pairs) * MICRO
    theirs = statistics.median(b for _, b in pairs) * MICRO
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"{children:3} children: ours {us:7.0f} µs   psutil {theirs:7.0f} µs   {ratio:6.1f} × cheaper")
    return ratio


def share(children: int, seconds: float) -> float:
    """Return the share of a core, in percent, that one open stage's sampling takes at 1 Hz, its start included."""
    meter = _resources.start_meter("bench")
    begin, wall = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    used = 100 * (time.process_time() - begin) / (time.perf_counter() - wall)
    meter.stop()
    print(f"{children:3} children: {used:.3f} % of a core over {seconds:g} s at 1 Hz")
    return used


def start_and_stop(rounds: int) -> None:
    """Print what a short stage pays, beside an open one that keeps the thread running."""
    keeper = _resources.start_meter("open")
    starts, stops = [], []
    for _ in range(rounds):
        a = time.perf_counter()
        meter = _resources.start_meter("short")
        b = time.perf_counter()
        meter.stop()
        starts.append(b - a)
        stops.append(time.perf_counter() - b)
    keeper.stop()
    start, stop = statistics.median(starts) * MICRO, statistics.median(stops) * MICRO
    print(f"a short stage: start {start:.0f} µs, stop {stop:.0f} µs")


def main() -> int:
    """Run everything; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    quick = parser.parse_args().quick
    rounds, seconds = (60, 3.0) if quick else (300, 10.0)
    start_and_stop(rounds * 5)
    ratios, shares = [], []
    for children in (0, 50):
        started = [subprocess.Popen(["sleep", "600"]) for _ in range(children)]
        try:
            ratios.append(one_look(children, rounds))
            shares.append(share(children, seconds))
        finally:
            for process in started:
                process.kill()
            for process in started:
                process.wait()
    good = min(ratios) >= 5 and max(shares) < 0.5
    print(f"bar (≥ 5 × cheaper, < 0.5 % of a core): {'held' if good else 'MISSED'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

"""Peers in turn, in one process: medians of pairs."""

from __future__ import annotations

import statistics
import time


def interleaved(jobs, rounds):
    """Run each of `jobs` (name → callable doing n operations, returning n) in turn; µs per operation."""
    samples = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(rounds):
        for name, job in jobs.items():
            began = time.perf_counter()
            n = job()
            samples[name].append((time.perf_counter() - began) / n * 1e6)
    return samples


def report(title, samples, peer, bars=None):
    """Print each job's median and its ratio to the peer, pair by pair."""
    print(title)
    for name, values in samples.items():
        pairs = [a / b for a, b in zip(values, samples[peer], strict=True)]
        bar = (bars or {}).get(name)
        told = f"   bar {bar}" if bar else ""
        print(f"  {name:<44} {statistics.median(values):9.2f} µs   {statistics.median(pairs):6.3f} ×{told}")

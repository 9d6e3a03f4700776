"""What masking costs a message, beside the usual way: one case-blind regular expression over every message.

`python bench/redact.py [--quick]` prints, per message, the median cost of both and the median of their ratios,
taken in turn within one process. The other way only finds words; it does not yet mask anything.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time

from otel_stage.redact import Redactor, redactor

# The pattern that well-known libraries scan every attribute with, in spirit and in most of its words.
USUAL = re.compile(
    r"password|passwd|mysql_pwd|secret|auth(?!ors?\b)|credential|private[._ -]?key|api[._ -]?key|session|cookie|"
    r"csrf|xsrf|jwt|ssn|social[._ -]?security|credit[._ -]?card|token",
    re.IGNORECASE,
)
JOURNAL = json.dumps(
    {"event": "stage.artifact", "role": "output", "path": "06_asr/segments.json", "size_bytes": 6238, "key": None,
     "checksum": "sha256:" + "0f" * 32, "metadata": {"segment_count": 142, "format": "segments"}},
    separators=(",", ":"),
)  # fmt: skip
MESSAGES = {
    "ordinary": "Processing chunk 12 of 5000, 3 items",
    "key=value": "epoch=3 loss=0.25 lr=1e-4",
    "key: value": "Loading WhisperX model: large-v2",
    "journal line": JOURNAL.replace('"key":null,', ""),
    "journal, key": JOURNAL,
    "long, 10 kB": "The quick brown fox jumps over the lazy dog, 12 times. " * 182,
    "long, key=value": "epoch=3 loss=0.25 lr=1e-4 " * 385,
    "one secret": "connecting with password=hunter2 to host db",
}


def cost(call, message: str, number: int) -> float:
    """Microseconds of one call."""
    start = time.perf_counter()
    for _ in range(number):
        call(message)
    return (time.perf_counter() - start) / number * 1e6


def growth(size: int) -> float:
    """Seconds for so many characters of hostile text."""
    text = 'token=\'\\"[{ password: a=b eyJaaaaaaaa://x:y "Cookie: ' * (size // 53)
    start = time.perf_counter()
    Redactor({}).text(text)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few hundred calls instead of thousands")
    quick = parser.parse_args().quick
    rounds, number = (5, 200) if quick else (25, 2000)
    ours = Redactor({f"SERVICE_{i}_TOKEN": f"{i}-not-in-any-message" for i in range(3)}).text
    print(f"{'message':18} {'ours µs':>9} {'regex µs':>9} {'ratio':>6}")
    for name, message in MESSAGES.items():
        n = max(20, number // (1 + len(message) // 200))
        pairs = [(cost(ours, message, n), cost(USUAL.search, message, n)) for _ in range(rounds)]
        mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name:18} {mine:9.2f} {theirs:9.2f} {ratio:6.2f}")
    asked = statistics.median(cost(lambda _: redactor(), "", number) for _ in range(rounds))
    print(f"{'redactor() itself':18} {asked:9.2f}")
    sizes = (200_000, 1_000_000) if quick else (2_000_000, 10_000_000)
    small, large = (growth(size) for size in sizes)
    print(
        f"hostile text: {sizes[0] / 1e6:g} MB {small:.2f} s, {sizes[1] / 1e6:g} MB {large:.2f} s, ratio {large / small:.1f}"
    )


if __name__ == "__main__":
    main()

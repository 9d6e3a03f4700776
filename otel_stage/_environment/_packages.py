"""Which distributions are installed."""

import hashlib
import os
from collections.abc import Iterable


def packages_sha256(path: Iterable[str]) -> str | None:
    r"""Hash the set of installed distributions.

    Only the names of ``*.dist-info`` and ``*.egg-info`` are read: importing `importlib.metadata` costs half
    of what importing OpenTelemetry does. The hash is over the sorted, distinct lines ``name==version\n``,
    names normalised as PEP 503 has it.

    Args:
        path: Folders to look through, as in `sys.path`.

    Returns:
        The sha256 in hexadecimal, or None when nothing is installed.
    """
    lines: set[str] = set()
    for folder in path:
        try:
            with os.scandir(folder or ".") as entries:
                names = [entry.name for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        for entry in names:
            stem = entry.rpartition(".")[0]
            if entry.endswith(".egg-info"):
                stem = stem.partition("-py")[0]
            name, _, version = stem.rpartition("-") if "-" in stem else (stem, "", "")
            plain = name.lower().replace("_", "-").replace(".", "-").split("-")
            lines.add(f"{'-'.join(filter(None, plain))}=={version}\n")
    if not lines:
        return None
    return hashlib.sha256("".join(sorted(lines)).encode("utf-8", "backslashreplace")).hexdigest()

"""What is known at once: host, process, interpreter, arguments, folder, and where the process was put."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from otel_stage._environment import _placement

_quick: dict[str, Any] | None = None


def quick_facts() -> dict[str, Any]:
    """Say where and as what this process runs.

    Returns:
        A fresh dict: ``host``, ``pid``, ``python``, ``platform``, ``argv`` (masked), ``cwd`` (of now) and,
        where there are any, ``container``, ``kubernetes``, ``slurm`` and ``batch``. All but ``pid`` and
        ``cwd`` are found once per process and inherited by forked ones.

    Example:
        >>> quick_facts()["pid"] == os.getpid()
        True
    """
    global _quick
    facts = _quick
    if facts is None:
        facts = _quick = _collect(os.environ)
    pid = os.getpid()
    if facts["pid"] != pid:
        facts = _quick = {**facts, "pid": pid}
    facts = dict(facts)
    try:
        facts["cwd"] = _printable(os.getcwd())
    except OSError:  # the folder was removed under us
        facts.pop("cwd", None)
    return facts


def _collect(env: Mapping[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    questions: dict[str, Callable[[], Any]] = {
        "host": _host,
        "pid": os.getpid,
        "python": lambda: sys.version.split(maxsplit=1)[0],
        "platform": _platform,
        "argv": _argv,
        "cwd": os.getcwd,
        "container": lambda: _masked(_placement.container(env)),
        "kubernetes": lambda: _masked(_placement.kubernetes(env)),
        "slurm": lambda: _masked(_placement.slurm(env)),
        "batch": lambda: _masked(_placement.batch(env)),
    }
    for name, ask in questions.items():
        try:
            answer = ask()
        except Exception:  # noqa: S112 - a fact that cannot be found, or not be masked, is absent
            continue
        if answer:
            facts[name] = answer
    return facts


def _host() -> str:
    if sys.platform == "win32":
        return os.environ.get("COMPUTERNAME", "")
    return os.uname().nodename


def _platform() -> str:
    # platform.platform() opens the interpreter's file and, on Windows, asks a service.
    if sys.platform == "win32":
        version = sys.getwindowsversion()
        machine = os.environ.get("PROCESSOR_ARCHITECTURE", "")
        return f"Windows-{version.major}.{version.minor}.{version.build}-{machine}".rstrip("-")
    system = os.uname()
    return f"{system.sysname}-{system.release}-{system.machine}"


def _argv() -> list[str]:
    from otel_stage.redact import redactor

    return [_printable(word) for word in redactor().argv(list(sys.argv))]


def _masked(facts: Mapping[str, str]) -> dict[str, str]:
    """Mask every value; a failure to do so leaves the facts out, since the caller drops what raises."""
    if not facts:
        return {}
    from otel_stage.redact import redactor

    mask = redactor()
    return {key: _printable(mask.text(value)) for key, value in facts.items()}


def _printable(text: str) -> str:
    """Names that are not UTF-8 arrive with lone surrogates, which no file of ours could hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

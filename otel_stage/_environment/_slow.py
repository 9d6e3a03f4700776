"""What takes time to find out: the state of the repository, the set of installed packages."""

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from otel_stage._environment._code import main_script

if TYPE_CHECKING:
    import threading


class _Search:
    """One thread's findings; ``facts`` is replaced, never changed, so readers need no lock."""

    def __init__(self, done: "threading.Event") -> None:
        self.facts: dict[str, Any] = {}
        self.done = done
        self.pid = os.getpid()
        self.stale = False

    def run(self, directories: Iterable[str]) -> None:
        try:
            # Imported by whoever started this thread.
            from otel_stage._environment._git import describe
            from otel_stage._environment._packages import packages_sha256

            packages = packages_sha256(sys.path)
            if packages:
                self.facts = {"packages_sha256": packages}
            for directory in directories:
                found = describe(directory)
                if found:
                    self.facts = {"git": found, **self.facts}
                    break
        except Exception:
            pass  # whatever is missing stays absent
        finally:
            self.done.set()


_searches: dict[str, _Search] = {}
_latest: _Search | None = None


def start_slow_facts(cwd: str | os.PathLike[str] | None = None) -> None:
    """Begin to find out what takes time; returns at once, and does so once per process and folder.

    Git is asked about the repository of the main script, unless that is an installed program (below
    ``sys.prefix``), and else about the folder.

    Args:
        cwd: The folder; the current one when None.
    """
    global _latest
    try:
        import threading

        # Not in the thread: a fork in the midst of an import leaves the child a half-made module for ever.
        from otel_stage._environment import _git, _packages  # noqa: F401

        directory = os.path.abspath(os.fspath(cwd) if cwd is not None else os.getcwd())
        known = _searches.get(directory)
        # A thread does not survive a fork, but what it had found does.
        if known is not None and known.stale and known.done.is_set():
            known = None
        if known is not None and (known.pid == os.getpid() or known.done.is_set()):
            _latest = known
            return
        search = _Search(threading.Event())
        _searches[directory] = _latest = search
        try:
            threading.Thread(
                target=search.run, args=(_places(directory),), name="otel-stage-facts", daemon=True
            ).start()
        except RuntimeError:  # no more threads, or the interpreter is on its way out
            search.done.set()
    except Exception:
        pass  # the facts stay absent


def age_slow_facts() -> None:
    """A new run begins: what was found for an earlier one is asked for anew."""
    for search in list(_searches.values()):
        search.stale = True


def _places(directory: str) -> list[str]:
    script = main_script()
    installed = os.path.join(os.path.realpath(sys.prefix), "")
    if script is None or script.startswith(installed):
        return [directory]
    return [os.path.dirname(script), directory]


def slow_facts(wait: float = 0.0) -> dict[str, Any]:
    """Say what the search begun last has found so far.

    Args:
        wait: Seconds to wait at most for it to end.

    Returns:
        A fresh dict with ``git`` (see `_git.describe`) and ``packages_sha256``, as far as known.
    """
    search = _latest
    if search is None:
        return {}
    if wait > 0 and search.pid == os.getpid():
        search.done.wait(wait)
    return dict(search.facts)

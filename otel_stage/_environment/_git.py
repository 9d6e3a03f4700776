"""What git says about a folder, asked without leaving a trace.

The question must be harmless in a repository that somebody is working in, and in a process that has
children of its own:

- nothing is written: ``GIT_OPTIONAL_LOCKS=0``, and ``diff-index`` instead of ``diff``, since ``git diff``
  rewrites the index even then;
- nothing is run or fetched for it: no hooks, no fsmonitor, no external diff, no textconv, no pager, no
  prompt, no transport;
- on POSIX a shell starts git in the background and is gone at once, so git is nobody's child in this
  process: it is in no ``wait`` and no ``RUSAGE_CHILDREN`` of the application. What remains is one short
  child (about a millisecond) and its SIGCHLD. As process 1 of a container, where orphans come back, git
  stays the shell's child instead.
"""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

_COMMAND = (
    "git",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "protocol.allow=never"),
    *("-c", "diff.suppressBlankEmpty=false"),
)
_HEAD = ("rev-parse", "--verify", "--quiet", "HEAD")
_STATUS = (
    *("status", "--porcelain=v2", "--branch", "-z"),
    *("--no-ahead-behind", "--no-renames", "--untracked-files=normal"),
)
_DIFF = ("diff-index", "-p", "--full-index", "--no-ext-diff", "--no-textconv", "HEAD", "--")

# One stream carries all three answers: the commit, NUL, the status records (each ends in NUL), END NUL,
# the diff, OK. What a timeout cuts off is missing at the end, and what came before it still counts.
_SCRIPT = (
    f'{{ "$@" {" ".join(_HEAD)}; printf "\\0"; "$@" {" ".join(_STATUS)} && printf "END\\0" '
    f'&& "$@" {" ".join(_DIFF)} && printf OK; }}'
)
_KEPT_VARIABLES = ("GIT_CONFIG", "GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS")


def describe(directory: str, *, seconds: float = 5.0) -> dict[str, Any] | None:
    """Say which commit a folder stands on and whether it differs from it.

    Args:
        directory: Any folder.
        seconds: Git is killed after this many seconds; what it had said by then is kept.

    Returns:
        None outside a repository or without git, else ``commit``, ``branch`` (absent when detached),
        ``dirty`` (tracked files differ from the commit), ``untracked`` (how many entries ``git status``
        lists as untracked, a new folder being one) and, when dirty, ``diff_sha256``, which is
        ``git diff-index -p --full-index --no-ext-diff --no-textconv HEAD -- | sha256sum``.

        Untracked names stay out of ``dirty`` and of the hash: a pipeline that writes its job folders into
        the repository would otherwise differ from itself after every run.
    """
    if not _in_work_tree(directory):
        return None
    answer = _Answer()
    deadline = time.monotonic() + seconds
    try:
        if sys.platform == "win32":
            _run_windows(directory, answer.feed, deadline)
        else:
            _run_posix(directory, answer.feed, deadline)
    except Exception:
        pass  # no git, or one that failed or was too slow: what it had said still counts
    return answer.facts()


def _in_work_tree(directory: str) -> bool:
    """Spare the processes where no parent folder has a .git."""
    here = os.path.abspath(directory)
    while not os.path.lexists(os.path.join(here, ".git")):
        parent = os.path.dirname(here)
        if parent == here:
            return False
        here = parent
    return True


def _environment() -> dict[str, str]:
    """Keep a surrounding git (a hook, a rebase) from pointing ours at another repository or index."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(_KEPT_VARIABLES)}
    return kept | {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_PAGER": "cat",
        "LC_ALL": "C",
    }


class _Answer:
    """Takes the stream apart as it comes; the diff goes through a hash and is never held."""

    def __init__(self) -> None:
        self._records: list[str] = []
        self._complete = False
        self._rest = b""
        self._sha256 = hashlib.sha256()
        self._diff_bytes = 0

    def feed(self, data: bytes) -> None:
        self._rest += data
        if not self._complete:
            *records, self._rest = self._rest.split(b"\0")
            for position, record in enumerate(records):
                if record == b"END":
                    self._complete = True
                    self._rest = b"\0".join([*records[position + 1 :], self._rest])
                    break
                self._records.append(record.decode("utf-8", "backslashreplace"))
        if self._complete and len(self._rest) > 2:
            # The last two bytes may be the OK that says that the diff is whole.
            self._sha256.update(self._rest[:-2])
            self._diff_bytes += len(self._rest) - 2
            self._rest = self._rest[-2:]

    def facts(self) -> dict[str, Any] | None:
        commit, *records = self._records or [""]
        facts: dict[str, Any] = {}
        if commit.strip():
            facts["commit"] = commit.strip()
        if not self._complete:
            return facts or None
        for record in records:
            if record.startswith("# branch.head ") and not record.endswith("(detached)"):
                facts["branch"] = record.removeprefix("# branch.head ")
        facts["dirty"] = any(record[:2] in {"1 ", "2 ", "u "} for record in records)
        facts["untracked"] = sum(record.startswith("? ") for record in records)
        if facts["dirty"] and self._rest == b"OK" and self._diff_bytes:
            facts["diff_sha256"] = self._sha256.hexdigest()
        return facts


if sys.platform != "win32":
    import select
    import signal

    def _run_posix(directory: str, feed: Callable[[bytes], None], deadline: float) -> None:
        """Stream the script's output; ``posix_spawn`` does it without `subprocess`, an import of 15 ms."""
        orphan = os.getpid() != 1
        arguments = ["sh", "-c", _SCRIPT + (" &" if orphan else ""), "sh", *_COMMAND, "-C", directory]
        reader, writer = os.pipe()
        try:
            try:
                shell = os.posix_spawn(
                    "/bin/sh",
                    arguments,
                    _environment(),
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, writer, 1),
                        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
                    ],
                    setpgroup=0,
                    setsigdef=[signal.SIGPIPE],
                )
            finally:
                os.close(writer)
            if orphan:
                _reap(shell)
            poller = select.poll()
            poller.register(reader, select.POLLIN)
            while (left := deadline - time.monotonic()) > 0:
                if poller.poll(max(1, int(left * 1000))):
                    data = os.read(reader, 1 << 16)
                    if not data:
                        break
                    feed(data)
            else:
                # The pipe is still open, so the group has a member and its number cannot be anyone else's.
                os.killpg(shell, signal.SIGKILL)
            if not orphan:
                _reap(shell)
        finally:
            os.close(reader)

    def _reap(pid: int) -> None:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # the application reaps everything by itself

else:

    def _run_windows(directory: str, feed: Callable[[bytes], None], deadline: float) -> None:
        """Ask the three questions one by one: there is no shell to count on."""
        import subprocess

        for part, after in ((_HEAD, b"\0"), (_STATUS, b"END\0"), (_DIFF, b"OK")):
            done = subprocess.run(
                [*_COMMAND, "-C", directory, *part],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                timeout=max(0.1, deadline - time.monotonic()),
                creationflags=subprocess.CREATE_NO_WINDOW,
                check=part is not _HEAD,
            )
            feed(done.stdout + after)

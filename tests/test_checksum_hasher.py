"""Many files and the background: every answer comes, and nobody waits for a thread at exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_stage.checksum import (
    SMALL_BYTES,
    Digest,
    Facts,
    Hasher,
    hash_directory,
    hash_file,
    hash_many,
    look,
)
from otel_stage.checksum._crew import Crew

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX files only")


@pytest.fixture
def hasher() -> Hasher:
    """Give a hasher with threads of its own."""
    return Hasher(threads=2)


@pytest.fixture
def endless(tmp_path: Path) -> Iterator[Path]:
    """Give a file that takes longer to hash than anybody waits."""
    path = tmp_path / "endless"
    with open(path, "wb") as file:
        file.truncate(200 * 10**9)
    yield path
    os.truncate(path, 0)


def tree(root: Path, names: list[bytes]) -> Path:
    """Make a directory with a file of each name, its content different for each."""
    for number, name in enumerate(names):
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"%d" % number * number * 1000)
    return root


def done(digest: Digest | None) -> Digest:
    """Insist on a digest."""
    assert digest is not None
    return digest


def test_many_come_back_in_order(tmp_path: Path) -> None:
    """Small, large, directories, FIFOs and missing ones, mixed: each answer stands at its question."""
    items: list[tuple[Path, Facts]] = []
    expected: list[str | None] = []
    for number in range(40):
        path = tmp_path / str(number)
        if number % 5 == 0:
            tree(path, [b"a", b"b"])
            (path / "large").write_bytes(os.urandom(SMALL_BYTES + number))
            expected.append(hash_directory(path)[0])
        elif number % 5 == 1:
            expected.append(None)
        else:
            path.write_bytes(os.urandom(number * 20_000))
            expected.append(hash_file(path))
        items.append((path, look(path)))
    assert [digest.checksum for digest in hash_many(items)] == expected
    shared = Hasher()
    waiting = [shared.submit(path, facts) for path, facts in items]
    assert [done(pending.result()).checksum for pending in waiting] == expected
    assert all(pending.done for pending in waiting)


def test_directories_never_wait_for_each_other_in_a_circle(tmp_path: Path) -> None:
    """More directories than threads, each with large files to share out, all come to an end."""
    roots = []
    for number in range(12):
        root = tree(tmp_path / str(number), [b"a"])
        for large in range(4):
            (root / f"large{large}").write_bytes(bytes(SMALL_BYTES + large))
        roots.append(root)
    shared = Hasher()
    waiting = [shared.submit(root, look(root)) for root in roots]
    assert len({done(pending.result()).checksum for pending in waiting}) == 1
    assert len({digest.checksum for digest in hash_many([(root, look(root)) for root in roots])}) == 1


def test_an_answer_comes_even_where_no_thread_may_start(tmp_path: Path, hasher: Hasher) -> None:
    """With the limit of threads used up, whoever asks for the result does the work."""
    path = tmp_path / "f"
    path.write_bytes(bytes(SMALL_BYTES))

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        pending = hasher.submit(path, look(path))
        assert pending.result(timeout=0) is None
        assert done(pending.result()).checksum == hash_file(path)


def test_threads_start_with_the_first_job_and_leave_when_idle(tmp_path: Path) -> None:
    """Nothing runs before there is work, never more than allowed, and nothing stays afterwards."""
    before = set(threading.enumerate())
    crew = Crew(2)
    assert set(threading.enumerate()) == before
    gate = threading.Barrier(3)

    def meet(_: object) -> None:
        gate.wait()

    def fail(_: object) -> None:
        raise ZeroDivisionError

    crew.put(meet, 2)
    crew.put(fail)
    workers = set(threading.enumerate()) - before
    assert len(workers) == 2
    assert all(worker.daemon for worker in workers)
    gate.wait()
    for worker in workers:
        worker.join(timeout=30)
        assert not worker.is_alive()


def python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run an interpreter of our own on some code."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", code, *map(str, args)],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )


@posix_only
def test_exit_does_not_wait_for_hashing(endless: Path) -> None:
    """An interpreter ends cleanly and quietly while 200 GB are being hashed in the background."""
    code = (
        "import sys\n"
        "from otel_stage.checksum import Hasher, look\n"
        "p = Hasher().submit(sys.argv[1], look(sys.argv[1]))\n"
        "assert p.result(timeout=0.05) is None and not p.done\n"
        "print('bye')\n"
    )
    ended = python(code, endless)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "bye\n", "")


@posix_only
def test_ctrl_c_ends_hash_many(endless: Path) -> None:
    """An interrupt goes through to the caller in the middle of a large file."""
    code = (
        "import signal, sys, threading\n"
        "from otel_stage.checksum import hash_many, look\n"
        "try:\n"
        "    threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()\n"
        "    hash_many([(sys.argv[1], look(sys.argv[1]))] * 3)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    assert python(code, endless).stdout == "interrupted\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_hashes_by_itself(tmp_path: Path, endless: Path) -> None:
    """In a child forked while threads hash, both new work and work begun in the parent come to an end."""
    path = tmp_path / "f"
    path.write_bytes(os.urandom(SMALL_BYTES * 4))
    expected = hash_file(path)
    hasher = Hasher(threads=1)
    blocked = hasher.submit(endless, look(endless))
    begun = hasher.submit(path, look(path))
    assert blocked.result(timeout=0.01) is None
    child = os.fork()
    if not child:
        # The alarm turns a hanging child into a failing one; nothing of pytest may run here.
        signal.alarm(20)
        right = False
        try:
            fresh = hasher.submit(path, look(path))
            right = done(fresh.result(timeout=10)).checksum == expected
            right = right and done(begun.result(timeout=10)).checksum == expected
            right = right and hash_many([(path, look(path))] * 3)[2].checksum == expected
        finally:
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.truncate(endless, 0)
    assert done(begun.result()).checksum == expected


def test_importing_is_cheap() -> None:
    """Nothing costly comes in with the module: hashlib waits for the first checksum."""
    code = (
        "import sys, otel_stage.checksum\n"
        "heavy = {'hashlib', 'subprocess', 'concurrent.futures', 'opentelemetry', 'tempfile', 'shutil', 'dataclasses'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    assert python(code).stdout == "[]\n"

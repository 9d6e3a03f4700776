"""One file: its checksum agrees with the shell's, and looking at it never blocks or raises."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_stage.checksum import (
    ALGORITHMS,
    SMALL_BYTES,
    Digest,
    Hasher,
    NotRegularFile,
    check_algorithm,
    hash_file,
    hash_many,
    look,
    survey,
)

SIZES = [
    0,
    1,
    4096,
    (1 << 16) - 1,
    1 << 16,
    (1 << 16) + 1,
    SMALL_BYTES - 1,
    SMALL_BYTES,
    SMALL_BYTES + 1,
    5_000_003,
]

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX files only")
gnu_only = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("sha256sum", "find", "sort", "xargs", "b2sum")),
    reason="needs GNU coreutils and findutils",
)


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


def done(digest: Digest | None) -> Digest:
    """Insist on a digest."""
    assert digest is not None
    return digest


@gnu_only
@pytest.mark.parametrize("size", SIZES)
def test_every_door_agrees_with_sha256sum(tmp_path: Path, size: int, hasher: Hasher) -> None:
    """At once, with facts, in the background and among many, a file has the checksum of ``sha256sum``."""
    path = tmp_path / "f"
    path.write_bytes(os.urandom(size))
    line = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout
    expected = "sha256:" + line.split()[0]
    facts = look(path)
    digests = [done(hasher.submit(path, facts).result()), *hash_many([(path, facts)] * 3)]
    assert {hash_file(path), hash_file(path, "sha256", facts)} == {expected}
    assert {digest.checksum for digest in digests} == {expected}
    assert all(digest.stable and digest.size == size and digest.error is None for digest in digests)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=3000), repeat=st.integers(0, 400), algorithm=st.sampled_from(ALGORITHMS))
def test_content_alone_decides(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, repeat: int, algorithm: str
) -> None:
    """Label and value are the algorithm's name and what ``hashlib`` makes of the content."""
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(content * repeat)
    expected = f"{algorithm}:{hashlib.new(algorithm, content * repeat).hexdigest()}"
    assert hash_file(path, algorithm) == expected
    assert [digest.checksum for digest in hash_many([(path, look(path))], algorithm)] == [expected]


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="needs /proc")
def test_a_file_that_claims_to_be_empty_is_read() -> None:
    """Files of /proc have size 0 and content all the same."""
    content = Path("/proc/version").read_bytes()
    assert look("/proc/version").size == 0
    assert hash_file("/proc/version") == "sha256:" + hashlib.sha256(content).hexdigest()
    assert hash_many([("/proc/version", look("/proc/version"))])[0].size == len(content)


def test_an_unknown_algorithm_is_named_with_those_that_are_known() -> None:
    """A wrong name raises when checked, and is an error in the digest afterwards."""
    assert check_algorithm(" SHA512 ") == "sha512"
    for wrong in ("crc32", "", "shake_128", None):
        with pytest.raises(ValueError, match=r"allowed are sha256, sha512"):
            check_algorithm(wrong)  # type: ignore[arg-type] # a setting may be anything
    with pytest.raises(ValueError, match="must be written 'sha256'"):
        hash_file(__file__, "SHA256")
    assert "crc32" in str(hash_many([(__file__, look(__file__))], "crc32")[0].error)


# -- what is at a path


@posix_only
def test_look_says_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of file is named, links by their target, and sizes are only given where there is one."""
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dirlink").symlink_to("dir")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        # The relative name, because the path of a socket may have a hundred bytes only.
        server.bind("socket")
    seen = {name: look(tmp_path / name) for name in os.listdir(tmp_path)}
    seen["gone"], seen["file/below"], seen["null"] = (
        look(tmp_path / "gone"),
        look("file/below"),
        look("/dev/null"),
    )
    assert {name: facts.kind for name, facts in seen.items()} == {
        "file": "file",
        "link": "file",
        "dir": "directory",
        "dirlink": "directory",
        "fifo": "fifo",
        "socket": "socket",
        "null": "device",
        "dangling": "symlink-dangling",
        "loop": "symlink-dangling",
        "gone": "missing",
        "file/below": "missing",
    }
    assert {name for name, facts in seen.items() if facts.size is not None} == {"file", "link"}
    assert {n for n, f in seen.items() if not f.exists} == {"dangling", "loop", "gone", "file/below"}
    assert {n: f.link_target for n, f in seen.items() if f.link_target} == {
        "link": "file",
        "dirlink": "dir",
        "dangling": "nowhere",
        "loop": "loop",
    }
    assert seen["link"].signature == seen["file"].signature
    info = os.stat("file")
    assert seen["file"].signature == (info.st_dev, info.st_ino, 5, info.st_mtime_ns, info.st_ctime_ns)


@pytest.mark.parametrize("path", ["nul\0byte", "x" * 5000, "\ud800"])
def test_a_path_that_no_system_can_have_is_missing_with_the_reason(path: str) -> None:
    """Looking and hashing never raise for such a path; the reason is recorded."""
    for facts in (look(path), survey(path)):
        assert not facts.exists
        assert facts.kind == "missing"
        assert facts.error
    digest = hash_many([(path, look(path))])[0]
    assert (digest.checksum, digest.error) == (None, look(path).error)


@posix_only
def test_a_fifo_is_neither_opened_nor_waited_for(tmp_path: Path, hasher: Hasher) -> None:
    """Hashing a FIFO ends at once, and a writer that waits for its reader does not notice."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"for somebody else",))
    writer.start()
    with pytest.raises(NotRegularFile):
        hash_file(path)
    with pytest.raises(NotRegularFile):
        hash_file(path, "sha256", look(path))
    digest = done(hasher.submit(path, look(path)).result())
    assert digest.checksum is None
    assert digest.error == "NotRegularFile: a fifo has no content to hash"
    assert path.read_bytes() == b"for somebody else"
    writer.join()


@posix_only
@pytest.mark.parametrize("size", [0, 100, SMALL_BYTES])
def test_a_fifo_in_the_place_of_a_file_does_not_block(tmp_path: Path, size: int) -> None:
    """A path that turned into a FIFO after the look is an error, not an endless wait."""
    path = tmp_path / "f"
    path.write_bytes(bytes(size))
    facts = look(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(NotRegularFile):
        hash_file(path, "sha256", facts)
    assert str(hash_many([(path, facts)])[0].error).startswith("NotRegularFile")


@pytest.mark.parametrize("size", [10, SMALL_BYTES + 10])
def test_a_file_that_vanished_is_an_error_in_the_digest(tmp_path: Path, size: int, hasher: Hasher) -> None:
    """The checksum is absent and the reason is there; nothing raises."""
    path = tmp_path / "f"
    path.write_bytes(bytes(size))
    facts = look(path)
    path.unlink()
    for digest in (done(hasher.submit(path, facts).result()), *hash_many([(path, facts)])):
        assert digest.error == "FileNotFoundError: No such file or directory"
        assert (digest.checksum, digest.size, digest.stable) == (None, None, False)
    with pytest.raises(FileNotFoundError):
        hash_file(path)


@pytest.mark.parametrize("size", [10, SMALL_BYTES * 5])
@pytest.mark.parametrize("change", [b"", b"longer", None])
def test_a_file_that_changed_since_the_look_is_not_stable(
    tmp_path: Path, size: int, change: bytes | None
) -> None:
    """Grown, cut short or replaced by one of the same size: the digest is of the bytes there, and says so."""
    path = tmp_path / "f"
    path.write_bytes(bytes(size))
    facts = look(path)
    if change is None:
        other = tmp_path / "other"
        other.write_bytes(b"x" * size)
        os.replace(other, path)
    elif change:
        path.write_bytes(bytes(size) + change)
    else:
        path.write_bytes(b"")
    digest = hash_many([(path, facts)])[0]
    assert digest.checksum == hash_file(path) == hash_file(path, "sha256", facts)
    assert digest.size == path.stat().st_size
    assert not digest.stable
    assert digest.signature_before == facts.signature
    assert digest.signature_after == look(path).signature


def test_a_file_that_changes_while_it_is_hashed_is_not_stable(endless: Path, hasher: Hasher) -> None:
    """A file cut short in the middle of hashing ends it, and shows in the digest."""
    pending = hasher.submit(endless, look(endless))
    assert pending.result(timeout=0.01) is None
    os.truncate(endless, 1 << 22)
    digest = done(pending.result())
    assert digest.checksum is not None
    assert not digest.stable

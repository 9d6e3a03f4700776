"""Directories: their checksum is what the documented shell command says."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from otel_stage.checksum import (
    SMALL_BYTES,
    Digest,
    Facts,
    Hasher,
    hash_directory,
    hash_many,
    look,
    survey,
)

HOSTILE = [
    b"a",
    b"a b",
    b"-",
    b"--help",
    b"back\\slash",
    b"new\nline",
    b"return\r",
    b"\xff\xfe not utf-8",
    "ünïcode".encode(),
    b"tab\t'quote\"$(x)`",
    b" ",
    b"c.b",
    b"c/b",
    b"c-/c",
    b"deep/er/and/deep er/x",
    b".hidden",
    b"otel-stage",
]
SHELL = (
    'cd -- "$1" && find . -type d -name .otel-stage -prune -o -type f -print0 |'
    " LC_ALL=C sort -z | xargs -0r {sum} -z | {sum}"
)


posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX files only")
gnu_only = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("sha256sum", "find", "sort", "xargs", "b2sum")),
    reason="needs GNU coreutils and findutils",
)


@pytest.fixture
def hasher() -> Hasher:
    """Give a hasher with threads of its own."""
    return Hasher(threads=2)


def tree(root: Path, names: list[bytes] = HOSTILE) -> Path:
    """Make a directory with a file of each name, its content different for each."""
    for number, name in enumerate(names):
        path = os.path.join(os.fsencode(root), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"%d" % number * number * 1000)
    return root


def shell_checksum(root: Path, program: str = "sha256sum") -> str:
    """Run the command that ``hash_directory`` documents."""
    command = ["bash", "-c", "set -o pipefail; " + SHELL.format(sum=program), "-", os.fspath(root)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]


def done(digest: Digest | None) -> Digest:
    """Insist on a digest."""
    assert digest is not None
    return digest


@posix_only
@gnu_only
@pytest.mark.parametrize(
    ("algorithm", "program"),
    [("sha256", "sha256sum"), ("sha512", "sha512sum"), ("md5", "md5sum"), ("blake2b", "b2sum")],
)
def test_a_directory_has_the_checksum_of_the_documented_command(
    tmp_path: Path, algorithm: str, program: str
) -> None:
    """Names with spaces, newlines, backslashes or no UTF-8; links, FIFOs and our own folder: the shell agrees."""
    root = tree(tmp_path / "d")
    tree(root / ".otel-stage" / "deep", [b"journal"])
    tree(root / "sub" / ".otel-stage", [b"journal"])
    (root / "big").write_bytes(os.urandom(SMALL_BYTES * 3))
    (root / "link").symlink_to("a b")
    (root / "dirlink").symlink_to("deep")
    (root / "dangling").symlink_to("nowhere")
    (root / "empty folder").mkdir()
    os.mkfifo(root / "fifo")
    expected = f"{algorithm}:{shell_checksum(root, program)}"
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    files = [path for path in files if ".otel-stage" not in path.parts]
    total = sum(path.stat().st_size for path in files)
    assert hash_directory(root, algorithm) == (expected, total, len(files))
    digest = hash_many([(root, survey(root))], algorithm)[0]
    assert (digest.checksum, digest.size, digest.file_count) == (expected, total, len(files))
    assert digest.stable
    facts = survey(root)
    assert (facts.kind, facts.size, facts.file_count) == ("directory", total, len(files))


@posix_only
@gnu_only
def test_the_docstring_names_the_command_that_was_tested() -> None:
    """What users copy is what the tests run."""
    documented = " ".join(str(hash_directory.__doc__).split())
    assert SHELL.format(sum="sha256sum").replace('cd -- "$1"', "cd DIR") in documented


@posix_only
@gnu_only
def test_a_directory_without_files_has_the_checksum_of_nothing(tmp_path: Path) -> None:
    """Empty is not an error, neither here nor in the shell."""
    nothing = hashlib.sha256().hexdigest()
    (tmp_path / "folder").mkdir()
    assert shell_checksum(tmp_path) == nothing
    assert hash_directory(tmp_path) == (f"sha256:{nothing}", 0, 0)
    assert survey(tmp_path)[:3] == (True, "directory", 0)


def test_a_directory_is_followed_through_a_link(tmp_path: Path) -> None:
    """A link to a directory has the directory's checksum."""
    root = tree(tmp_path / "d", [b"a", b"b/c"])
    (tmp_path / "link").symlink_to("d")
    assert hash_directory(tmp_path / "link") == hash_directory(root)
    assert survey(tmp_path / "link").link_target == "d"


def test_the_signature_of_a_directory_follows_its_files(tmp_path: Path) -> None:
    """An edit, a new file, a moved folder change it; a folder of ours does not."""
    root = tree(tmp_path / "d", [b"a", b"b/c", b"e"])
    seen = [survey(root).signature]
    tree(root / ".otel-stage", [b"journal"])
    assert survey(root).signature == seen[0]
    (root / "b" / "c").write_bytes(b"edited, and longer")
    seen.append(survey(root).signature)
    (root / "b" / "new").touch()
    seen.append(survey(root).signature)
    os.rename(root / "b", root / "z")
    seen.append(survey(root).signature)
    assert len(set(seen)) == len(seen)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_read_is_an_error_not_a_wrong_checksum(tmp_path: Path) -> None:
    """A closed folder makes the whole checksum absent."""
    root = tree(tmp_path / "d", [b"a", b"b/c"])
    (root / "b").chmod(0)
    try:
        assert survey(root).size is None
        assert str(survey(root).error).startswith("PermissionError")
        assert hash_many([(root, look(root))])[0].checksum is None
    finally:
        (root / "b").chmod(0o700)


def test_a_missing_directory_raises_only_where_it_says_so(tmp_path: Path, hasher: Hasher) -> None:
    """``hash_directory`` raises ``OSError``; the background puts it into the digest."""
    gone = tmp_path / "gone"
    with pytest.raises(FileNotFoundError):
        hash_directory(gone)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        hash_directory(tmp_path / "file")
    facts = Facts(exists=True, kind="directory")
    assert str(done(hasher.submit(gone, facts).result()).error).startswith("FileNotFoundError")

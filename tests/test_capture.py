"""What a stage prints is recorded line by line, and still printed byte for byte."""

import contextlib
import io
import os
import re
import subprocess
import sys
import textwrap
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_stage._capture import LineAssembler, capture_sys, uncaptured
from otel_stage._capture._sys import _Tee

posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be polled on Windows")


def run(code, *, timeout=30, **kwargs):
    """Run code with a sink that keeps its lines in `lines` and puts them into the file `lines` at the end."""
    prelude = """
        import atexit, os, subprocess, sys, threading
        from otel_stage._capture import capture_fd, capture_sys, original_fd, uncaptured
        lines = []
        def sink(name, line):
            lines.append(f"{name}:{line}")
        me = os.getpid()
        def save():
            if os.getpid() == me:
                with open("lines", "w") as file:
                    file.write(repr(lines))
    """
    script = textwrap.dedent(prelude) + "\n" + textwrap.dedent(code) + "\nsave()\n"
    # Python 3.12 warns of forks beside threads. What buffers hold back until the block ends is part of the tests.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        capture_output=True,
        timeout=timeout,
        check=False,
        env=env,
        **kwargs,
    )


def heard(folder):
    """Read the lines that the sink was given."""
    return eval((folder / "lines").read_text())


def assembled(*chunks, limit=1 << 20):
    """Feed the chunks and end the stream."""
    assembler = LineAssembler(limit)
    return [line for chunk in chunks for line in assembler.feed(chunk)] + assembler.close()


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a\n\nb"], ["a", "", "b"]),
        ([b"a\r\nb\r\n"], ["a", "b"]),
        ([b"50%\r100%\r\n"], ["100%"]),
        ([b"50%\r", b"100%", b"\r", b"\n"], ["100%"]),
        ([b"\r 50%", b"\r 75%", b"\r100%"], ["100%"]),
        ([b"done\r"], ["done"]),
        ([b"\r"], []),
        ([], []),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"\xff\xfe\n"], ["\\xff\\xfe"]),
        ([b"cut\xc3"], ["cut\\xc3"]),
        (["x\udcff\n"], ["x\\udcff"]),
        (["a\u2028b\x0bc\x85\n"], ["a\u2028b\x0bc\x85"]),
    ],
)
def test_lines_are_what_a_terminal_would_show(chunks, lines):
    """Line ends, progress bars, cut characters and bytes that are not text come out as one would read them."""
    assert assembled(*chunks) == lines


def test_a_long_line_is_split():
    """No line is longer than the bound, and nothing of it is lost."""
    assert assembled(b"abcdefgh\nij", limit=3) == ["abc", "def", "gh", "ij"]
    assert assembled(b"abc\n", limit=3) == ["abc"]
    assert assembled(b"a", b"bc", b"d", b"e\n", limit=3) == ["abc", "de"]


def test_memory_is_bounded():
    """Neither a stream without line ends nor an endless progress bar piles up."""
    assembler = LineAssembler(1000)
    for number in range(2000):
        assembler.feed(b"x" * 100)
        assert assembler._size <= 1000
        assembler.feed(f"\r{number}%".encode())
    for _ in range(2000):
        assembler.feed(b"0123456789\r")
        assert assembler._size <= 1000
    assert assembler.close() == ["0123456789"]


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=("Cs",)))), st.data())
def test_cutting_anywhere_changes_nothing(texts, data):
    """Whatever the chunks, the lines are the same."""
    raw = "".join(f"{text}\n" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    edges = [0, *cuts, len(raw)]
    assert assembled(*(raw[a:b] for a, b in zip(edges, edges[1:], strict=False))) == texts


@given(st.text(alphabet="ab\r\n"), st.data())
def test_cutting_progress_bars_anywhere_changes_nothing(text, data):
    """Carriage returns mean the same in one chunk and in many."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    edges = [0, *cuts, len(text)]
    expected = [re.sub(r"\r+$", "", line).rpartition("\r")[2] for line in text.split("\n")]
    if not expected[-1]:
        expected.pop()
    assert assembled(*(text[a:b] for a, b in zip(edges, edges[1:], strict=False))) == expected


@contextlib.contextmanager
def streams():
    """Give sys.stdout and sys.stderr to the test, so that it can compare what arrives there."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def test_sys_records_and_prints(capsys):
    """Both streams are printed as before and heard line by line, the last one without its end too."""
    lines = []
    with streams() as (out, err):
        with capture_sys(lambda *heard: lines.append(heard)):
            print("one\ntwo")
            print("three", file=sys.stderr)
            sys.stdout.writelines(["fo", "ur"])
        assert sys.stdout is out
        assert sys.stderr is err
    out.flush()
    assert out.buffer.getvalue().decode() == f"one{os.linesep}two{os.linesep}four"
    assert err.getvalue() == "three\n"
    assert lines == [("stdout", "one"), ("stdout", "two"), ("stderr", "three"), ("stdout", "four")]


def test_sys_stands_for_the_stream():
    """Everything else that people ask of a stream is answered by the stream itself."""
    with streams() as (out, _), capture_sys(lambda *_: None):
        assert sys.stdout.encoding == out.encoding
        assert sys.stdout.buffer is out.buffer
        assert sys.stdout.isatty() is False
        assert sys.stdout.writable()
        sys.stdout.reconfigure(line_buffering=True)
        assert out.line_buffering
        with pytest.raises(AttributeError):
            _ = sys.stdout.nothing_of_the_kind
        with pytest.raises(TypeError):
            sys.stdout.write(b"bytes")


def test_sys_captures_stack():
    """Nested captures hear the same lines and leave the streams as they were, in whatever order they end."""
    outer, inner = [], []
    first, second = (capture_sys(lambda _, line, to=to: to.append(line)) for to in (outer, inner))
    with streams() as (out, _):
        first.__enter__()
        print("1")
        second.__enter__()
        print("2")
        first.__exit__(None, None, None)
        print("3")
        second.__exit__(None, None, None)
        print("4")
        assert sys.stdout is out
    assert (outer, inner) == (["1", "2"], ["2", "3"])


def test_sys_leaves_a_foreign_stream_in_place():
    """A stream that was put over ours stays; ours falls silent below it and is taken out by the next capture."""
    lines = []
    with streams() as (out, _):
        capture = capture_sys(lambda _, line: lines.append(line))
        capture.__enter__()
        foreign = contextlib.redirect_stdout(io.StringIO())
        foreign.__enter__()
        mine = sys.stdout
        capture.__exit__(None, None, None)
        assert sys.stdout is mine
        foreign.__exit__(None, None, None)
        print("unheard")
        assert isinstance(sys.stdout, _Tee)
        with capture_sys(lambda _, line: lines.append(line)):
            print("heard")
        assert sys.stdout is out
    assert lines == ["heard"]


def test_sys_survives_its_sink():
    """A sink that raises is not noticed, and what a sink prints is not recorded again."""
    calls = []

    def sink(_, line):
        calls.append(line)
        print("from the sink")
        raise OSError("disk full")

    with streams() as (out, _), capture_sys(sink):
        print("hello")
        print("again")
    out.flush()
    assert calls == ["hello", "again"]
    assert out.buffer.getvalue().decode().split() == "hello from the sink again from the sink".split()


def test_sys_without_streams_and_around():
    """A process without streams is left alone; `uncaptured` prints past the capture."""
    lines = []
    with streams() as (out, _):
        with capture_sys(lambda _, line: lines.append(line)):
            with uncaptured():
                print("console")
            print("user")
        before, sys.stdout = sys.stdout, None
        try:
            with capture_sys(lambda _, line: lines.append(line)):
                assert sys.stdout is None
        finally:
            sys.stdout = before
    assert lines == ["user"]


def test_sys_keeps_threads_apart():
    """Lines that threads print in pieces are not mixed in the record."""
    lines = []
    barrier = threading.Barrier(4)

    def speak(word):
        for _ in range(50):
            barrier.wait()
            sys.stdout.write(word)
            barrier.wait()
            sys.stdout.write("\n")

    with streams(), capture_sys(lambda _, line: lines.append(line)):
        threads = [threading.Thread(target=speak, args=(word,)) for word in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(lines) == sorted("abcd" * 50)


@posix
def test_sys_in_a_forked_child(tmp_path):
    """A forked child starts its lines afresh; the parent's unfinished line stays the parent's."""
    done = run(
        """
        with capture_sys(sink):
            print("parent ", end="", flush=True)
            if not (child := os.fork()):
                print("child")
                os._exit(0 if lines == ["stdout:child"] else 1)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print("done")
        lines.append(code)
        """,
        cwd=tmp_path,
    )
    assert done.stderr == b""
    assert heard(tmp_path) == ["stdout:parent done", 0]


@posix
def test_fd_records_everybody(tmp_path):
    """Python, descriptors, C code, children and forks are heard and printed, and afterwards nobody is."""
    done = run(
        """
        import ctypes
        libc = ctypes.CDLL(None)
        print("before")
        with capture_fd(sink):
            print("python")
            sys.stdout.flush()
            os.write(1, b"descriptor\\n")
            libc.puts(b"from C")
            libc.fflush(None)
            subprocess.run(["sh", "-c", "echo child; echo trouble >&2"])
            if not (child := os.fork()):
                print("fork", flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            libc.puts(b"held by C")
            print("tail", end="")
        print()
        print("after")
        sys.stdout.flush()
        libc.puts(b"C after")
        """,
        cwd=tmp_path,
    )
    words = ["python", "descriptor", "from C", "child", "fork", "tail", "held by C"]
    assert done.returncode == 0
    lines = heard(tmp_path)
    # Python's and C's last words leave their buffers in that order, so "tail" and "held by C" share a line.
    assert "stderr:trouble" in lines
    assert [line for line in lines if line != "stderr:trouble"] == [
        *(f"stdout:{word}" for word in words[:5]),
        "stdout:tailheld by C",
    ]
    assert (
        done.stdout == b"before\npython\ndescriptor\nfrom C\nchild\nfork\ntailheld by C\n\nafter\nC after\n"
    )
    assert done.stderr == b"trouble\n"


@posix
def test_fd_is_transparent_for_bytes(tmp_path):
    """Megabytes of anything arrive unchanged, and the descriptors are left as they were."""
    blob = tmp_path / "blob"
    blob.write_bytes(os.urandom(3 << 20) + b"\n\r\x00" * 1000)
    done = run(
        """
        before = [os.fstat(fd)[:3] for fd in (1, 2)], sorted(os.listdir("/dev/fd"))
        with capture_fd(sink):
            subprocess.run(["sh", "-c", "cat blob; cat blob >&2"])
        assert ([os.fstat(fd)[:3] for fd in (1, 2)], sorted(os.listdir("/dev/fd"))) == before
        lines[:] = [len(lines)]
        """,
        cwd=tmp_path,
    )
    assert done.stdout == blob.read_bytes()
    assert done.stderr == blob.read_bytes()


@posix
def test_fd_does_not_wait_for_a_child_that_stays(tmp_path):
    """A child that keeps printing after the block neither delays its end, nor dies of it, nor is recorded."""
    done = run(
        """
        with capture_fd(sink):
            child = subprocess.Popen(["sh", "-c", "echo early; read go; echo late"], stdin=subprocess.PIPE)
            while not lines:
                pass
        child.communicate(b"go\\n")
        assert child.returncode == 0
        """,
        cwd=tmp_path,
    )
    assert done.stderr == b""
    assert heard(tmp_path) == ["stdout:early"]
    assert done.stdout == b"early\nlate\n"


@posix
def test_fd_ends_beside_a_child_that_never_stops(tmp_path):
    """A child that prints without pause cannot hold up the end of the block."""
    done = run(
        """
        with capture_fd(lambda *_: None):
            child = subprocess.Popen(["yes"])
        child.kill()
        child.wait()
        """,
        cwd=tmp_path,
    )
    assert done.stderr == b""
    assert set(done.stdout[:1000].split()) <= {b"y"}


@posix
def test_fd_captures_overlap(tmp_path):
    """Each of several overlapping captures hears what was printed while it was open, and nothing piles up."""
    done = run(
        """
        heard = [[], [], []]
        captures = [capture_fd(lambda _, line, to=to: to.append(line)) for to in heard]
        captures[0].__enter__(); print("1")
        captures[1].__enter__(); print("2")
        captures[0].__exit__(); print("3")
        captures[2].__enter__(); print("4")
        assert threading.active_count() == 2
        captures[1].__exit__(); print("5")
        captures[2].__exit__(); print("6")
        lines[:] = heard
        """,
        cwd=tmp_path,
    )
    assert done.stderr == b""
    assert done.stdout == b"1\n2\n3\n4\n5\n6\n"
    assert heard(tmp_path) == [["1", "2"], ["2", "3", "4"], ["4", "5"]]


@posix
def test_fd_leaves_a_foreign_redirection_in_place(tmp_path):
    """A descriptor that somebody else redirected meanwhile stays theirs; giving it back to us still prints."""
    done = run(
        """
        capture = capture_fd(sink)
        capture.__enter__()
        os.write(1, b"ours\\n")
        kept = os.dup(1)
        theirs = os.open("theirs", os.O_CREAT | os.O_WRONLY)
        os.dup2(theirs, 1)
        capture.__exit__()
        os.write(1, b"theirs\\n")
        os.dup2(kept, 1)
        os.write(1, b"given back\\n")
        """,
        cwd=tmp_path,
    )
    assert done.stderr == b""
    assert (tmp_path / "theirs").read_bytes() == b"theirs\n"
    assert done.stdout == b"ours\ngiven back\n"
    assert heard(tmp_path) == ["stdout:ours"]


@posix
def test_fd_survives_its_sink_and_closed_descriptors(tmp_path):
    """A sink that raises is not noticed; a process without a standard output or input has nothing to hear."""
    done = run(
        """
        def bad(name, line):
            raise OSError("disk full")
        with capture_fd(bad):
            print("one")
            print("two", file=sys.stderr)
        os.close(0)
        os.close(1)
        with capture_fd(sink):
            print("three", file=sys.stderr)
        """,
        cwd=tmp_path,
    )
    assert done.stdout == b"one\n"
    assert done.stderr == b"two\nthree\n"
    assert heard(tmp_path) == ["stderr:three"]


@posix
def test_fd_tells_the_writers_that_nobody_reads(tmp_path):
    """With the reader of our output gone, printing fails as it would without a capture."""
    code = """
        import time
        with capture_fd(sink):
            try:
                while True:
                    os.write(1, b"x" * 1000)
            except BrokenPipeError:
                os.write(2, b"broken")
    """
    reader, writer = os.pipe()
    os.close(reader)
    script = "from otel_stage._capture import capture_fd\nimport os\nsink = print\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, timeout=30, check=False
    )
    os.close(writer)
    assert done.stderr == b"broken"


@posix
def test_fd_lets_everything_out_at_exit(tmp_path):
    """A block that is never left loses nothing when the interpreter exits normally."""
    done = run(
        """
        capture_fd(sink).__enter__()
        print("never left")
        sys.stdout.flush()
        os.write(2, b"x" * 300_000)
        """,
        cwd=tmp_path,
    )
    assert done.stdout == b"never left\n"
    assert done.stderr == b"x" * 300_000


@posix
def test_fd_in_a_forked_child(tmp_path):
    """A child that leaves the parent's block, or opens its own, neither hangs nor disturbs the parent."""
    done = run(
        """
        with capture_fd(sink):
            if not (child := os.fork()):
                try:
                    with capture_fd(lambda _, line: None):
                        print("inside", flush=True)
                    raise SystemExit(7)
                except SystemExit:
                    os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            print("parent")
        child = os.fork()
        if not child:
            raise SystemExit(0)
        os.waitpid(child, 0)
        """,
        cwd=tmp_path,
    )
    assert done.stderr == b""
    assert heard(tmp_path) == ["stdout:inside", "stdout:parent"]
    assert done.stdout == b"inside\nparent\n"


@posix
def test_fd_child_outlives_a_killed_parent(tmp_path):
    """A forked child of a killed process gets a broken pipe instead of hanging on a full one."""
    done = run(
        """
        import signal
        r, w = os.pipe()
        with capture_fd(sink):
            if not os.fork():
                os.close(w)
                os.read(r, 1)
                try:
                    for _ in range(100):
                        os.write(1, b"x" * 100_000)
                except BrokenPipeError:
                    open("broken", "w").close()
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        cwd=tmp_path,
    )
    assert done.returncode == -9
    assert (tmp_path / "broken").exists()


@posix
def test_fd_original_leads_around_the_capture(tmp_path):
    """What our own console writes is shown and not recorded."""
    done = run(
        """
        assert original_fd(2) == 2
        with capture_fd(sink):
            os.write(original_fd(2), b"console\\n")
            print("user", file=sys.stderr)
        assert original_fd(2) == 2
        """,
        cwd=tmp_path,
    )
    assert done.stderr == b"console\nuser\n"
    assert heard(tmp_path) == ["stderr:user"]

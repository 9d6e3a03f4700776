"""The pipes in front of descriptors 1 and 2, and the thread that empties them."""

import contextlib
import errno
import os
import select
import sys
import threading
from typing import Any

from otel_stage._capture._lines import Recorder

if sys.platform == "win32":
    raise ImportError("pipes cannot be polled on Windows")
import fcntl

_CHUNK = 1 << 16
_CAPACITY = 1 << 20
# Seconds between looks at whether the thread is still there; it is woken by an event.
_LOOK = 1.0


class Stream:
    """One descriptor and its pipe."""

    __slots__ = ("capacity", "fd", "identity", "name", "reader", "saved")

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self.saved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            reader, writer = _pipe()
        except OSError:
            os.close(self.saved)
            raise
        self.reader = reader
        self.capacity = _widen(writer)
        self.identity = _identity(writer)
        os.set_blocking(reader, False)
        os.dup2(writer, fd)
        os.close(writer)

    def in_place(self) -> bool:
        """Whether the descriptor still leads into our pipe."""
        return self.saved >= 0 and _identity(self.fd) == self.identity

    def pass_on(self, pump: "Pump") -> int:
        """Move one chunk.

        Args:
            pump: Has the recorders.

        Returns:
            Bytes moved, 0 when there are none now, -1 when there will be none.
        """
        try:
            data = os.read(self.reader, _CHUNK)
        except BlockingIOError:
            return 0
        if not data:
            return -1
        broken = _write(self.saved, data) == errno.EPIPE
        with pump.feeding:
            for recorder in pump.recorders:
                recorder.feed(self.name, data)
        # Nobody reads our output any more: without its reader the pipe tells the writers so.
        return -1 if broken else len(data)


class Pump:
    """Passes on what is printed and lets the recorders hear it."""

    def __init__(self) -> None:
        self.recorders: tuple[Recorder, ...] = ()
        self.feeding = threading.Lock()
        self.streams: list[Stream] = []
        self._state = threading.Lock()
        self._waiting: list[threading.Event] = []
        self._ended = self._restored = False
        self._wake_reader, self._wake_writer = _pipe()
        os.set_blocking(self._wake_writer, False)
        for fd, name in ((1, "stdout"), (2, "stderr")):
            with contextlib.suppress(OSError):  # a closed descriptor has nothing to record
                self.streams.append(Stream(fd, name))
        self._thread = threading.Thread(target=self._run, name="otel-stage-capture", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self.restore()
            self._end()
            raise

    def alive(self) -> bool:
        """Whether anything can still come through."""
        return not self._ended

    def in_place(self) -> bool:
        """Whether a descriptor leads into our pipes."""
        return self.alive() and any(stream.in_place() for stream in self.streams)

    def sync(self) -> None:
        """Return when everything that was printed before has been passed on and heard.

        That waits for whoever reads our output, as printing itself would, and never for other writers: the
        thread moves at most what the pipe can have held.
        """
        done = threading.Event()
        with self._state:
            if self._ended:
                return
            self._waiting.append(done)
            with contextlib.suppress(BlockingIOError):  # full of calls is as good as one call
                os.write(self._wake_writer, b"!")
        while not done.wait(_LOOK) and self._thread.is_alive():
            pass

    def restore(self) -> None:
        """Lead the descriptors back where they are still ours; the thread ends with the last other writer."""
        for stream in self.streams:
            with contextlib.suppress(OSError):
                if stream.in_place():
                    os.dup2(stream.saved, stream.fd)
        with self._state:
            self._restored = True
            self._let_go()

    def disown(self) -> None:
        """In a forked child: keep no end of the parent's pipes but the one that is printed to.

        With a reader of its own the child would hang on a full pipe once the parent is gone.
        """
        self.feeding, self._state = threading.Lock(), threading.Lock()
        self._waiting = []
        self._close()

    def _run(self) -> None:
        try:
            self._pump()
        except Exception:
            self.restore()  # unheard, but printed
        finally:
            self._end()

    def _pump(self) -> None:
        poller = select.poll()
        poller.register(self._wake_reader, select.POLLIN)
        live = {stream.reader: stream for stream in self.streams}
        for reader in live:
            poller.register(reader, select.POLLIN)
        while live:
            ready = [fd for fd, _ in poller.poll()]
            with self._state:
                waiting, self._waiting = self._waiting, []
                if self._wake_reader in ready:
                    os.read(self._wake_reader, _CHUNK)
            for reader, stream in list(live.items()):
                left = stream.capacity if waiting else 1
                while left > 0 and (waiting or reader in ready):
                    moved = stream.pass_on(self)
                    if moved < 0:
                        del live[reader]
                        poller.unregister(reader)
                        stream.reader = -1
                        os.close(reader)
                    if moved <= 0:
                        break
                    left -= moved
            if not live:  # whoever waits is told when the descriptors are closed too
                with self._state:
                    self._waiting += waiting
                return
            for done in waiting:
                done.set()

    def _end(self) -> None:
        with self._state:
            waiting, self._waiting = self._waiting, []
            self._close()
        for done in waiting:
            done.set()

    def _close(self) -> None:
        """Close what only the thread needs."""
        self._ended = True
        # Forgotten before closed: a fork in between must not close a number that is somebody else's by then.
        ends = [self._wake_reader, self._wake_writer, *(stream.reader for stream in self.streams)]
        self._wake_reader = self._wake_writer = -1
        for stream in self.streams:
            stream.reader = -1
        for end in ends:
            _shut(end)
        self._let_go()

    def _let_go(self) -> None:
        """Close the originals once neither the thread nor a later `restore` needs them."""
        if self._ended and self._restored:
            for stream in self.streams:
                saved, stream.saved = stream.saved, -1
                _shut(saved)


def _write(fd: int, data: bytes) -> int:
    """Write everything; returns the error number, 0 when there was none."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            room = select.poll()
            room.register(fd, select.POLLOUT)
            room.poll()
        except OSError as error:
            return error.errno or errno.EIO
    return 0


def _pipe() -> tuple[int, int]:
    """Make a pipe whose ends stay clear of 0, 1 and 2, which a process may have closed."""
    ends = os.pipe()
    if min(ends) > 2:
        return ends
    try:
        reader, writer = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
    finally:
        for end in ends:
            os.close(end)
    return reader, writer


def _widen(writer: int) -> int:
    """Make room for bursts; returns what the pipe holds at most, in bytes."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _CAPACITY)
        with contextlib.suppress(OSError):
            return fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    return _CAPACITY


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _shut(fd: int) -> None:
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.close(fd)


def flush_stdio() -> None:
    """Send on what Python and C hold back for their standard output and error."""
    for stream in {id(s): s for s in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)}.values():
        try:
            if stream is not None:
                stream.flush()
        except Exception:
            pass  # closed, or an error that the user meets when printing
    for name in ("stdout", "stderr"):
        _flush_c(name)


def _flush_c(name: str) -> None:
    # By name and not fflush(NULL), which waits for the lock of a stream that a thread is reading.
    try:
        import ctypes

        libc: Any = ctypes.CDLL(None)
        symbol = f"__{name}p" if sys.platform == "darwin" else name
        libc.fflush(ctypes.c_void_p.in_dll(libc, symbol))
    except Exception:
        pass  # no ctypes, or a C library with other names

"""From chunks to lines, as a person at a terminal would have read them."""

import codecs
from collections.abc import Callable

Sink = Callable[[str, str], None]
"""Called with the name of the stream and one line."""

_LIMIT = 1 << 20


class LineAssembler:
    r"""Make lines of whatever arrives.

    A progress bar, which redraws its line with carriage returns, becomes its last state. Only ``\n`` ends a
    line. Bytes are UTF-8; what is not comes out as ``\xff``.

    Args:
        limit: Characters after which a line is split; also what is held in memory at most, and a chunk.

    Example:
        >>> lines = LineAssembler()
        >>> lines.feed(b"50%\r100%\r\nnext")
        ['100%']
        >>> lines.close()
        ['next']
    """

    __slots__ = ("_decoder", "_held", "_limit", "_size")

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = max(1, limit)
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held: list[str] = []
        self._size = 0

    def feed(self, data: bytes | str) -> list[str]:
        """Take a chunk.

        Args:
            data: The next bytes, cut anywhere, or the next text.

        Returns:
            The lines that are complete now, without their ends.
        """
        if isinstance(data, str):
            # Lone surrogates, which no file of ours could hold.
            text = data if data.isascii() else data.encode("utf-8", "backslashreplace").decode("utf-8")
        else:
            text = self._decoder.decode(data)
        if "\n" not in text and "\r" not in text and self._size + len(text) <= self._limit:
            if text:
                self._held.append(text)
                self._size += len(text)
            return []
        *ended, tail = ("".join(self._held) + text).split("\n")
        lines: list[str] = []
        for line in ended:
            lines += self._split(_shown(line))
        # Carriage returns at the end are kept: a line break may follow, and then they mean nothing.
        state = _shown(tail)
        *full, rest = self._split(state)
        lines += full
        if tail.endswith("\r"):
            rest += "\r"
        self._held = [rest] if rest else []
        self._size = len(rest)
        return lines

    def close(self) -> list[str]:
        """End the stream.

        Returns:
            The line that had no end, if there is one.
        """
        tail = _shown("".join(self._held) + self._decoder.decode(b"", final=True))
        self._decoder.reset()
        self._held, self._size = [], 0
        return self._split(tail) if tail else []

    def _split(self, line: str) -> list[str]:
        limit = self._limit
        if len(line) <= limit:
            return [line]
        return [line[start : start + limit] for start in range(0, len(line), limit)]


def _shown(line: str) -> str:
    """Keep what stands on the screen when the line ends: the text after the last carriage return."""
    if "\r" not in line:
        return line
    line = line.rstrip("\r")
    return line[line.rfind("\r") + 1 :]


class Recorder:
    """One sink, and the unfinished lines on their way to it."""

    __slots__ = ("_lines", "_sink", "open")

    def __init__(self, sink: Sink) -> None:
        self.open = True
        self._sink = sink
        self._lines: dict[tuple[str, int], LineAssembler] = {}

    def feed(self, name: str, data: bytes | str, writer: int = 0) -> None:
        """Take what was printed.

        Args:
            name: The stream.
            data: The chunk.
            writer: Who printed; the unfinished lines of different writers are kept apart.
        """
        if not self.open:
            return
        assembler = self._lines.get((name, writer))
        if assembler is None:
            assembler = self._lines[name, writer] = LineAssembler()
        for line in assembler.feed(data):
            self._say(name, line)

    def close(self) -> None:
        """Pass on the unfinished lines; the sink hears nothing any more."""
        self.open = False
        for (name, _), assembler in list(self._lines.items()):
            for line in assembler.close():
                self._say(name, line)
        self._lines.clear()

    def forget(self) -> None:
        """Drop the unfinished lines: in a forked child they are the parent's."""
        self._lines.clear()

    def _say(self, name: str, line: str) -> None:
        try:
            self._sink(name, line)
        except Exception:
            pass  # a full disk under the log is no reason to stop what prints

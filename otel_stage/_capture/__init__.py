"""The setting ``capture``: record what a stage prints, and still print it.

``"sys"`` listens at `sys.stdout` and `sys.stderr`, ``"fd"`` at the descriptors 1 and 2, so that C code and
child processes are heard too. Neither raises into user code, and the original output is the same, byte for
byte.

- A sink is called with the name of the stream (``stdout``, ``stderr``) and a line without its end; what it
  raises is swallowed. With ``sys`` it runs in the printing thread and its context, and what it prints itself
  is not captured again. With ``fd`` it runs in one thread for all and must not print.
- Captures may nest and overlap, across threads too: every open sink gets every line.
- Our own console must go around a capture, or each line is recorded twice: `uncaptured` and `original_fd`.
"""

from otel_stage._capture._fd import capture_fd, original_fd
from otel_stage._capture._lines import LineAssembler, Sink
from otel_stage._capture._sys import capture_sys, uncaptured

__all__ = ["LineAssembler", "Sink", "capture_fd", "capture_sys", "original_fd", "uncaptured"]

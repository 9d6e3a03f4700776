"""Every error that otel-stage raises on purpose.

```
OtelStageError
├── SettingError            a setting that does not exist, or a value it cannot take
├── ExporterError           an exporter that is not installed, or cannot be built
├── DecorationError         @stage on something that cannot be a stage
├── PipelineError           a pipeline that cannot be opened here
│   └── JobBusyError        another live run holds the job directory
├── StageError              a stage that cannot be opened
│   ├── StageNameError      a name or key that cannot be a folder
│   └── StageNumberError    a number that belongs to another stage
├── ProcessError            a program that Stage.run started ended badly
│   └── ProcessTimeoutError   … because it took longer than allowed
├── ManifestError           a manifest or journal that is not what it should be
└── DemoError               the demo cannot run on this input
```

Once a stage is open nothing of ours raises into user code, `ProcessError` excepted: there the user
asked for a program to be run, and it failed.
"""

from __future__ import annotations

__all__ = [
    "DecorationError",
    "DemoError",
    "ExporterError",
    "JobBusyError",
    "ManifestError",
    "OtelStageError",
    "PipelineError",
    "ProcessError",
    "ProcessTimeoutError",
    "SettingError",
    "StageError",
    "StageNameError",
    "StageNumberError",
]


class OtelStageError(Exception):
    """Base of all errors of otel-stage: catch it to catch them all."""


class SettingError(OtelStageError):
    """A setting does not exist or its value is not understood."""


class ExporterError(OtelStageError):
    """An exporter is not installed or cannot be built."""


class DecorationError(OtelStageError, TypeError):
    """`@stage` was put on something that cannot be a stage, such as a generator function."""


class PipelineError(OtelStageError):
    """A pipeline cannot be opened: the directory is unusable, or one is open already."""


class JobBusyError(PipelineError):
    """Another live run holds the job directory."""


class StageError(OtelStageError):
    """A stage cannot be opened."""


class StageNameError(StageError, ValueError):
    """A stage name or key holds characters that must not become a folder name."""


class StageNumberError(StageError, ValueError):
    """A stage number belongs to another stage of the same job directory."""


class ProcessError(OtelStageError):
    """A program ended with a non-zero exit code or by a signal.

    Attributes:
        argv: The program and its arguments, secrets masked.
        returncode: Exit code; negative is the number of the signal that ended it.
        stderr_tail: The last lines that it wrote to stderr, secrets masked.
    """

    def __init__(self, message: str, *, argv: list[str], returncode: int | None, stderr_tail: list[str]) -> None:
        super().__init__(message)
        self.argv = argv
        self.returncode = returncode
        self.stderr_tail = stderr_tail


class ProcessTimeoutError(ProcessError, TimeoutError):
    """A program took longer than `timeout=` and was ended with its whole process group."""


class ManifestError(OtelStageError, ValueError):
    """A manifest or journal is malformed; the message says which file and where in it."""


class DemoError(OtelStageError):
    """The demo cannot run: an extra is missing, or the input has no sound."""

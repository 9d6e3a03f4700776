"""Stage observability for batch pipelines on OpenTelemetry: stages become spans, spans become files.

```python
from otel_stage import pipeline, stage

with pipeline("subtitles"):
    with stage("demux") as st:
        movie = st.track_input("movie.mp4", type="video")
        audio = st.track_output(st.dir / "audio.wav", type="audio")
        st.run(["ffmpeg", "-i", movie, audio])
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_stage._version import __version__

if TYPE_CHECKING:
    from otel_stage._block import current_stage, stage
    from otel_stage._decorate import Input, Intermediate, Output
    from otel_stage._elsewhere import wrap
    from otel_stage._pipeline import Pipeline, pipeline
    from otel_stage._settings import configure
    from otel_stage._stage import Stage
    from otel_stage.errors import OtelStageError

__all__ = [
    "Input",
    "Intermediate",
    "OtelStageError",
    "Output",
    "Pipeline",
    "Stage",
    "__version__",
    "configure",
    "current_stage",
    "pipeline",
    "stage",
    "wrap",
]

# Names come when they are asked for: importing `otel_stage.manifest` runs this file, and readers need no
# OpenTelemetry.
_HOMES = {
    "Input": "_decorate",
    "Intermediate": "_decorate",
    "OtelStageError": "errors",
    "Output": "_decorate",
    "Pipeline": "_pipeline",
    "Stage": "_stage",
    "configure": "_settings",
    "current_stage": "_block",
    "pipeline": "_pipeline",
    "stage": "_block",
    "wrap": "_elsewhere",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'otel_stage' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"otel_stage.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""`stage(...)`: a block, or a decorator with or without arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import opentelemetry.context as otel_context
from opentelemetry.context import Context, attach

from otel_stage._logging import place_of
from otel_stage._run import BARE_KEY, Run, find_run, open_stages
from otel_stage.errors import StageError, StageNumberError
from otel_stage.jobdir import check_key, check_name

if TYPE_CHECKING:
    from otel_stage._stage import Stage

P = ParamSpec("P")
R = TypeVar("R")
Key = str | int | Callable[[Mapping[str, Any]], Any]


class StageBlock:
    """What `stage("asr")` gives: open it with `with`, or put it on a function."""

    def __init__(
        self, name: str | None, number: int | None, key: Key | None, ignore: Iterable[str],
        within: tuple[Run, Context] | None = None, code: Mapping[str, Any] | None = None,
    ) -> None:
        self._name = name
        self._number = number
        self._key = key
        self._ignore = frozenset(ignore)
        self._within = within
        self._code = code
        self._open: list[tuple[Stage, Any]] = []

    def __enter__(self) -> Stage:
        name = check_name(self._name)
        key = None if self._key is None else check_key(self._key)
        number = _check_number(self._number)
        run, parent = self._within or find_run()
        # With the first stage: opening a pipeline should cost little more than importing the SDK.
        from otel_stage._lifecycle import open_stage
        from otel_stage._stage import Stage

        stage = Stage(run, parent, name, key, number, self._code)
        open_stage(stage)
        self._open.append((stage, attach(stage.context)))
        return stage

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from otel_stage._lifecycle import end_stage

        stage, token = self._pop()
        end_stage(stage, exc)
        detach_quietly(token)

    def _pop(self) -> tuple[Stage, Any]:
        """What this context opened: one block may be open in several threads or tasks at once."""
        place = place_of(otel_context.get_current())
        for n in range(len(self._open) - 1, -1, -1):
            if place is not None and self._open[n][0] is place.stage:
                return self._open.pop(n)
        return self._open.pop()

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        from otel_stage._decorate import decorate

        return decorate(fn, self._name, self._number, self._key, self._ignore, self._within)


@overload
def stage(name: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def stage(
    name: str | None = None, /, *, number: int | None = None, key: Key | None = None, ignore: Iterable[str] = ()
) -> StageBlock: ...
def stage(
    name: Any = None, /, *, number: int | None = None, key: Key | None = None, ignore: Iterable[str] = ()
) -> Any:
    """A stage of a pipeline, as a block or as a decorator.

    As a block it gives the open `Stage`. As a decorator every call of the function is a stage: path arguments
    are inputs, all others are config, returned paths are outputs.

    Args:
        name: The stage's name: letters, digits, `_`, `-`. A decorated function has its own as default.
        number: Its number in the job directory; default: the next one.
        key: Tells stages of one name apart and keeps its folder from run to run. For a decorator the name of
            an argument, or a callable that gets all arguments as a mapping.
        ignore: Arguments of a decorated function that are neither inputs nor config.

    Raises:
        StageNameError: The name or key cannot be a folder name.
        StageNumberError: The number belongs to another stage.
        DecorationError: The function cannot be a stage, such as a generator.

    Example:
        >>> with stage("demux") as st:  # doctest: +SKIP
        ...     st.track_input("movie.mp4", type="video")
    """
    if callable(name) or isinstance(name, staticmethod | classmethod):
        from otel_stage._decorate import decorate

        fn: Any = name
        return decorate(fn, None, None, None, frozenset())
    return StageBlock(name, number, key, ignore)


def current_stage() -> Stage:
    """The stage that is open here.

    Raises:
        StageError: No stage is open in this context.
    """
    context = otel_context.get_current()
    bare: Any = context.get(BARE_KEY)
    place = place_of(context)
    found: Stage | None = bare if bare is not None or place is None else place.stage
    if found is not None:
        return found
    if len(open_stages) == 1:
        return open_stages[0]
    raise StageError(
        "no stage is open here: call current_stage() inside `with stage(...)` or a function decorated with @stage; "
        "in a thread, wrap the function with otel_stage.wrap"
    )


def detach_quietly(token: Any) -> None:
    """Restore the context before; a block left in another context than it was entered in is no error of ours."""
    try:
        otel_context._RUNTIME_CONTEXT.detach(token)
    except Exception:  # a generator closed elsewhere, a runtime of somebody else's
        return


def _check_number(number: object) -> int | None:
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 999_999:
        raise StageNumberError(f"stage number must be an integer from 0 to 999999, not {ascii(number)[:40]}")
    return number

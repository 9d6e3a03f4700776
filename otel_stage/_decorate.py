"""`@stage`: a function's arguments and result as inputs, config and outputs.

By value, after defaults are bound: `os.PathLike` arguments that exist are inputs, also inside containers; a
`str` only where the annotation says path; `Annotated[Path, Output]` marks a destination; the rest is config.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, cast

from otel_stage._block import StageBlock
from otel_stage._environment import code_identity
from otel_stage._stage import Stage
from otel_stage.errors import DecorationError
from otel_stage.jobdir import check_name
from otel_stage.manifest import jsonable

P = ParamSpec("P")
R = TypeVar("R")
Role = Literal["input", "output", "intermediate"]
_DEEPEST = 8
_MOST_ITEMS = 100_000


class Input:
    """`Annotated[str, Input]`: this argument names an input, whatever its type."""


class Output:
    """`Annotated[Path, Output]`: this argument names a destination of the stage."""


class Intermediate:
    """`Annotated[Path, Intermediate]`: this argument names a cache or temporary file."""


_MARKS: dict[Any, Role] = {Input: "input", Output: "output", Intermediate: "intermediate"}


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What the signature says, worked out once."""

    signature: inspect.Signature
    marks: dict[str, Role]
    paths: frozenset[str]
    returns_path: bool
    left_out: frozenset[str]


def decorate(
    fn: Callable[P, R], name: str | None, number: int | None, key: Any, ignore: Collection[str],
    within: Any = None,
) -> Callable[P, R]:
    """Make every call of `fn` a stage; the signature stays what it was.

    Raises:
        DecorationError: `fn` is a generator, a class or no function, or `key`/`ignore` name no argument.
        StageNameError: The name cannot be a folder name.
    """
    _refuse(fn)
    title = check_name(name or getattr(fn, "__name__", ""), f"stage name (of {fn!r})" if name is None else "stage name")
    plan = _plan(fn, ignore)
    if isinstance(key, str) and key not in plan.signature.parameters:
        raise DecorationError(
            f"@stage(key={key!r}) on {title}: no such argument; key= takes one of "
            f"{', '.join(plan.signature.parameters) or '(none)'}, or a callable that gets all arguments"
        )
    code: list[Mapping[str, Any] | None] = []

    def opened(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[StageBlock, Mapping[str, Any] | None]:
        if not code:
            code.append(code_identity(fn))
        bound = _bind(plan, args, kwargs)
        return StageBlock(title, number, _key_of(key, bound), (), within, code[0]), bound

    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            block, bound = opened(args, kwargs)
            with block as st:
                _say_arguments(st, plan, bound)
                result = await fn(*args, **kwargs)
                _say_result(st, plan, result)
                return result

        return cast("Callable[P, R]", call_async)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        block, bound = opened(args, kwargs)
        with block as st:
            _say_arguments(st, plan, bound)
            result = fn(*args, **kwargs)
            _say_result(st, plan, result)
            return result

    return cast("Callable[P, R]", call)


def _refuse(fn: Any) -> None:
    what = getattr(fn, "__qualname__", None) or type(fn).__name__
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise DecorationError(
            f"@stage cannot go on the generator function {what}: a stage ends when its function returns, a generator "
            "goes on afterwards; use `with stage(...)` inside it, or return a list"
        )
    if isinstance(fn, type):
        raise DecorationError(f"@stage cannot go on the class {what}: put it on the method that does the work")
    if isinstance(fn, staticmethod | classmethod):
        raise DecorationError(
            f"@stage cannot go on a {type(fn).__name__} object: put @stage below @{type(fn).__name__}, next to the def"
        )
    if not callable(fn):
        raise DecorationError(f"@stage goes on a function, not on {type(fn).__name__}")


# --- what the signature says


def _plan(fn: Callable[..., Any], ignore: Collection[str]) -> _Plan:
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError) as err:
        raise DecorationError(f"@stage cannot read the signature of {fn!r}: {err}") from None
    unknown = [name for name in ignore if name not in signature.parameters]
    if unknown:
        raise DecorationError(
            f"@stage(ignore=...) names {unknown[0]!r}, which {getattr(fn, '__name__', fn)} does not take; it takes "
            + (", ".join(signature.parameters) or "nothing")
        )
    hints = _hints(fn, signature)
    marks: dict[str, Role] = {name: role for name, hint in hints.items() if (role := _mark(hint)) is not None}
    paths = frozenset(name for name, hint in hints.items() if _says_path(hint))
    left_out = set(ignore)
    first = next(iter(signature.parameters), None)
    if first in ("self", "cls"):
        left_out.add(first)
    return _Plan(signature, marks, paths, "return" in paths, frozenset(left_out))


def _hints(fn: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except Exception:
        # A name that is only imported for type checkers: what can be read from the text must do.
        raw = {name: p.annotation for name, p in signature.parameters.items()}
        raw["return"] = signature.return_annotation
        return {name: hint for name, hint in raw.items() if hint is not inspect.Parameter.empty}


def _mark(hint: Any) -> Role | None:
    if typing.get_origin(hint) is Annotated:
        for extra in hint.__metadata__:
            known = extra if isinstance(extra, type) else type(extra)
            if known in _MARKS:
                return _MARKS[known]
    if isinstance(hint, str) and "Annotated" in hint:
        for mark, role in _MARKS.items():
            if re.search(rf"\b{mark.__name__}\b", hint):
                return role
    return None


def _says_path(hint: Any) -> bool:
    if isinstance(hint, str):
        return re.search(r"\b(Pure)?(Posix|Windows)?Path(Like)?\b", hint) is not None
    if typing.get_origin(hint) in (Annotated, typing.Union, types.UnionType, list, tuple, dict, set, frozenset):
        return any(_says_path(part) for part in typing.get_args(hint) if not isinstance(part, str))
    origin = typing.get_origin(hint) or hint
    return isinstance(origin, type) and hasattr(origin, "__fspath__")


# --- what a call says


def _bind(plan: _Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any] | None:
    try:
        bound = plan.signature.bind(*args, **kwargs)
    except TypeError:
        # The call itself will raise the error that the user must see.
        return None
    bound.apply_defaults()
    flat: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if plan.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            flat.update(value)
        else:
            flat[name] = value
    return flat


def _key_of(key: Any, bound: Mapping[str, Any] | None) -> Any:
    if key is None or bound is None:
        return None
    value = key(bound) if callable(key) else bound.get(key)
    if isinstance(value, os.PathLike):
        stem = os.path.basename(os.fsdecode(value)).partition(".")[0]
        return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._") or "_"
    return value


def _say_arguments(st: Stage, plan: _Plan, bound: Mapping[str, Any] | None) -> None:
    if bound is None:
        return
    config: dict[str, Any] = {}
    try:
        for name, value in bound.items():
            if name in plan.left_out:
                continue
            role = plan.marks.get(name)
            strings = name in plan.paths or role is not None
            found = _Found(value, strings=strings)
            for path in found.paths:
                _say_path(st, name, role, path)
            if found.others or not found.paths:
                config[name] = jsonable(value)
        if config:
            st.set_config(config)
    except Exception as err:
        st._trouble("the arguments", err)


def _say_path(st: Stage, name: str, role: Role | None, path: Any) -> None:
    if role == "output":
        st.track_output(path)
    elif role == "intermediate":
        st.track_intermediate(path)
    elif role == "input" or os.path.lexists(path):
        st.track_input(path)
    else:
        st.add_warning(
            f"argument {name}: {os.fsdecode(path)} does not exist and is recorded as no input; "
            "mark a destination as Annotated[Path, Output]"
        )


def _say_result(st: Stage, plan: _Plan, result: Any) -> None:
    try:
        for path in _Found(result, strings=plan.returns_path).paths:
            # What the function itself has tracked has a type and metadata that a bare path lacks.
            if not st._artifacts.knows("output", path):
                st.track_output(path)
    except Exception as err:
        st._trouble("the result", err)


class _Found:
    """Paths in a value, and whether there is anything else; looked through once, and not without end."""

    def __init__(self, value: Any, *, strings: bool) -> None:
        self.paths: list[Any] = []
        self.others = False
        self._strings = strings
        self._left = _MOST_ITEMS
        self._seen: set[int] = set()
        self._look(value, 0)

    def _look(self, value: Any, depth: int) -> None:
        self._left -= 1
        if isinstance(value, os.PathLike):
            self.paths.append(value)
        elif isinstance(value, str):
            if self._strings and value:
                self.paths.append(value)
            else:
                self.others = True
        elif depth >= _DEEPEST or id(value) in self._seen:
            self.others = True
        else:
            empty = True
            for part in _parts(value):
                if empty:
                    empty = False
                    self._seen.add(id(value))
                if self._left <= 0:
                    self.others = True
                    return
                self._look(part, depth + 1)
            self.others = self.others or empty


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield getattr(value, field.name, None)

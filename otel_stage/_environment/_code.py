"""Which code ran: a hash of a function's source, or of the main script."""

import os
import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

_REMEMBERED = 4096
_functions: dict[int, tuple[CodeType, dict[str, str]]] = {}
_scripts: dict[str, dict[str, str]] = {}


def code_identity(fn: Callable[..., Any]) -> dict[str, str] | None:
    """Say which code a callable runs.

    Decorators that set ``__wrapped__``, partials, bound methods and callable objects are looked through to
    the function they run. The source is the file's as it lies there at the first call, so ask early.

    Args:
        fn: A function or something that runs one.

    Returns:
        ``{"kind": "function-source", "value": "sha256:…"}`` of the dedented source, ``{"kind": "bytecode",
        …}`` for a lambda and where there is no source (the value then depends on the Python version), or
        None for what is not written in Python.

    Example:
        >>> code_identity(lambda x: x)["kind"]
        'bytecode'
    """
    try:
        function = _function_of(fn)
        if function is None:
            return None
        code = function.__code__
        known = _functions.get(id(code))
        if known is None:
            if len(_functions) >= _REMEMBERED:
                _functions.clear()
            # The code object is kept beside its identity: a freed one would give its id to another.
            known = _functions[id(code)] = (code, _identity(function))
        return dict(known[1])
    except Exception:
        return None


def script_identity() -> dict[str, str] | None:
    """Say which main script this process runs.

    Returns:
        ``{"kind": "script", "path": …, "value": "sha256:…"}``, or None where there is no file (an
        interactive session, ``python -c``, an archive).
    """
    path = main_script()
    if path is None:
        return None
    known = _scripts.get(path)
    if known is None:
        import hashlib

        try:
            with open(path, "rb") as file:
                value = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        known = _scripts[path] = {"kind": "script", "path": shown, "value": f"sha256:{value}"}
    return dict(known)


def main_script() -> str | None:
    """Find the file that this process was started with.

    Returns:
        Its absolute path with links resolved, or None.
    """
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(path, str):
        return None
    try:
        path = os.path.realpath(path)
    except (OSError, ValueError):
        return None
    return path if os.path.isfile(path) else None


def _function_of(fn: Any) -> FunctionType | None:
    # Bounded, because __wrapped__ may lead in a circle.
    for _ in range(100):
        inner = getattr(fn, "__wrapped__", None)
        if inner is None and not isinstance(fn, FunctionType):
            # partial, then bound method, then an object that can be called.
            inner = getattr(fn, "func", None) or getattr(fn, "__func__", None)
            if inner is None and not isinstance(fn, type):
                inner = getattr(type(fn), "__call__", None)  # noqa: B004 - the function itself is wanted
        if inner is None or inner is fn:
            break
        fn = inner
    return fn if isinstance(fn, FunctionType) else None


def _identity(function: FunctionType) -> dict[str, str]:
    import hashlib

    source = _source(function)
    if source is not None:
        value = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        return {"kind": "function-source", "value": f"sha256:{value}"}
    value = hashlib.sha256(repr(_stable(function.__code__)).encode("utf-8", "surrogatepass")).hexdigest()
    return {"kind": "bytecode", "value": f"sha256:{value}"}


def _source(function: FunctionType) -> str | None:
    # A lambda's source is the whole line that it stands in, with whatever else is there.
    if function.__name__ == "<lambda>":
        return None
    # What exec made is called "<string>" too, and Python 3.13 would show it the text of `python -c`.
    if function.__code__.co_filename in {"<string>", "<stdin>"}:
        return None
    import inspect
    import textwrap

    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError, SyntaxError, IndexError):
        return None


def _stable(value: Any) -> Any:
    """Make a constant's ``repr`` the same in every process: no addresses, no order of sets, no file names."""
    if isinstance(value, CodeType):
        return (
            *(value.co_name, value.co_code.hex(), value.co_flags),
            *(value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount),
            *(value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars),
            tuple(_stable(const) for const in value.co_consts),
        )
    if isinstance(value, frozenset):
        return ("frozenset", sorted(repr(_stable(item)) for item in value))
    if isinstance(value, tuple):
        return tuple(_stable(item) for item in value)
    return value

"""Settings: one row each, and one function that says which value holds.

argument > `OTEL_STAGE_<NAME>` > `[tool.otel-stage]` in the nearest pyproject.toml upward > default.
Everything that OpenTelemetry has a variable for goes by OpenTelemetry's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from otel_stage.errors import SettingError


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("true or false")


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        word = "off" if value is False else str(value).strip().lower()
        if word not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return word

    return parse


def _seconds(low: float, high: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"seconds between {low} and {high}") from None
        if isinstance(value, bool) or not low <= number <= high:
            raise ValueError(f"seconds between {low} and {high}")
        return number

    return parse


def _path(value: Any) -> str:
    try:
        text = os.fsdecode(value)
    except TypeError:
        raise ValueError("a path") from None
    if not text:
        raise ValueError("a path that is not empty")
    return text


def _level(value: Any) -> str:
    word = str(value).strip().upper()
    if word not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ValueError("DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return word


def _optional_level(value: Any) -> str:
    return "" if value in ("", None) else _level(value)


def _names(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    try:
        return tuple(str(part).strip() for part in parts if str(part).strip())
    except TypeError:
        raise ValueError("names separated by commas") from None


def _checksum(value: Any) -> str:
    word = "off" if value in (False, None) else str(value).strip().lower()
    if word != "off":
        from otel_stage.checksum import ALGORITHMS

        if word not in ALGORITHMS:
            raise ValueError("one of off, " + ", ".join(ALGORITHMS))
    return word


class Row:
    """One setting: its name, how its value is read, its default and what it does."""

    __slots__ = ("default", "doc", "name", "parse")

    def __init__(self, name: str, parse: Callable[[Any], Any], default: Any, doc: str) -> None:
        self.name = name
        self.parse = parse
        self.default = default
        self.doc = doc


ROWS: tuple[Row, ...] = (
    Row("job_dir", _path, None, "the job directory; default: a fresh `ROOT/YYYY/MM/DD/<pipeline>/<n>`"),
    Row("root", _path, "out", "where fresh job directories are made"),
    Row("console", _one_of("plain", "off", "live"), "plain",
        "`plain`: INFO and above on stderr; `live`: also a line of progress on a terminal; `off`"),
    Row("checksum", _checksum, "sha256", "algorithm of hashlib for checksums of artifacts, or `off`"),
    Row("capture", _one_of("off", "sys", "fd"), "off",
        "also record what a stage prints, and still print it: `sys` for Python's print, `fd` for everything"),
    Row("strict", _flag, False, "raise what would be a warning of ours; for tests"),
    Row("sample_interval", _seconds(0.05, 3600), 1.0, "seconds between resource samples"),
    Row("resources", _flag, True, "measure what stages use"),
    Row("facts", _flag, True, "record git, packages, container and batch system"),
    Row("utc", _flag, False, "log lines in UTC instead of local time"),
    Row("milliseconds", _flag, False, "log lines with milliseconds"),
    Row("fsync", _flag, False, "wait for the disk when a manifest is written and a stage ends"),
    Row("otlp_shutdown_seconds", _seconds(0, 600), 2.0,
        "how long leaving a pipeline may wait for the network"),
    Row("library_level", _optional_level, "",
        "level of the root logger while a pipeline is open, so that libraries speak; default: unchanged"),
    Row("child_stdout_level", _level, "DEBUG", "level of a child process's stdout lines in stage.log"),
    Row("child_stderr_level", _level, "DEBUG", "level of a child process's stderr lines in stage.log"),
    Row("exporters", _names, ("stage_files",), "exporters by entry point, in this order"),
    Row("hold_gil", _flag, True,
        "keep the interpreter lock during small log writes on local disks while other threads run"),
)  # fmt: skip
_OTHER_VARIABLES = {"OTEL_STAGE_RUN_ID", "OTEL_STAGE_PORTABLE", "OTEL_STAGE_COMPLETE"}
_BY_NAME = {row.name: row for row in ROWS}
DEFAULT, PYPROJECT, ENVIRONMENT = "default", "pyproject.toml", "environment"
CONFIGURE, ARGUMENT = "configure()", "argument"


class Settings:
    """Values of all settings, as attributes, and where each comes from."""

    def __init__(self, values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
        self._values = dict(values)
        self.origins = dict(origins)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def given(self, *origins: str) -> dict[str, Any]:
        """The values that come from one of `origins`."""
        return {name: value for name, value in self._values.items() if self.origins[name] in origins}


_configured: dict[str, Any] = {}


def configure(**settings: Any) -> None:
    """Set settings for this process, below arguments and above the environment.

    Args:
        **settings: Any of the settings; None takes one back.

    Raises:
        SettingError: There is no such setting, or it does not take this value.

    Example:
        >>> configure(console="off", checksum="sha256")
    """
    for name, value in settings.items():
        _parse(name, value, "configure()")
    for name, value in settings.items():
        if value is None:
            _configured.pop(name, None)
        else:
            _configured[name] = value


def resolve(arguments: Mapping[str, Any] | None = None) -> Settings:
    """All settings, with the value that holds here and now.

    Raises:
        SettingError: There is no such setting, or a value is not understood; says where it was given.
    """
    arguments = arguments or {}
    for name in arguments:
        if name not in _BY_NAME:
            raise SettingError(_unknown(name, "argument"))
    _name_strangers()
    file_path, from_file = _pyproject(os.getcwd() if _cwd_exists() else "")
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for row in ROWS:
        variable = f"OTEL_STAGE_{row.name.upper()}"
        if arguments.get(row.name) is not None:
            raw, origin, where = arguments[row.name], ARGUMENT, "argument"
        elif row.name in _configured:
            raw, origin, where = _configured[row.name], CONFIGURE, "configure()"
        elif os.environ.get(variable):
            raw, origin, where = os.environ[variable], ENVIRONMENT, f"environment variable {variable}"
        elif row.name in from_file:
            raw, origin, where = from_file[row.name], PYPROJECT, file_path
        else:
            values[row.name], origins[row.name] = row.default, DEFAULT
            continue
        values[row.name], origins[row.name] = _parse(row.name, raw, where), origin
    return Settings(values, origins)


def _parse(name: str, raw: Any, where: str) -> Any:
    row = _BY_NAME.get(name)
    if row is None:
        raise SettingError(_unknown(name, where))
    if raw is None:
        return row.default
    try:
        return row.parse(raw)
    except ValueError as err:
        from otel_stage.redact import redactor

        shown = redactor().text(ascii(raw)[:80])
        raise SettingError(f"setting {name!r} cannot be {shown} ({where}): it takes {err}") from None


def _unknown(name: str, where: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "settings are " + ", ".join(_BY_NAME)
    return f"unknown setting {name!r} ({where}): {hint}"


@cache
def _name_strangers() -> None:
    """Say once that a variable looks like a setting and is none: it may be a typing error."""
    known = {f"OTEL_STAGE_{row.name.upper()}" for row in ROWS} | _OTHER_VARIABLES
    for name in sorted(os.environ):
        if name.startswith("OTEL_STAGE_") and name not in known:
            import logging

            text = _unknown(name.removeprefix("OTEL_STAGE_").lower(), f"environment variable {name}")
            logging.getLogger("otel_stage").warning("%s; it is ignored", text)


def _cwd_exists() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


@cache
def _pyproject(cwd: str) -> tuple[str, dict[str, Any]]:
    folder = cwd
    while folder:
        path = os.path.join(folder, "pyproject.toml")
        if os.path.isfile(path):
            return path, _table(path)
        parent = os.path.dirname(folder)
        folder = "" if parent == folder else parent
    return "", {}


def _table(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as f:
            data = f.read()
    except OSError:
        return {}
    if b"otel-stage" not in data:
        return {}
    import tomllib

    try:
        tool = tomllib.loads(data.decode()).get("tool", {})
        table = tool.get("otel-stage", {}) if isinstance(tool, dict) else tool
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise SettingError(f"{path} cannot be read: {err}") from None
    if not isinstance(table, dict):
        raise SettingError(f"{path}: [tool.otel-stage] must be a table of settings, not {ascii(table)[:40]}")
    for name in table:
        if name not in _BY_NAME:
            raise SettingError(_unknown(name, path))
    return dict(table)

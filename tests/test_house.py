"""The house rules that can be counted: sizes, imports, the public surface, docstrings, and what stays outside."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "otel_stage"
EXPORTERS = ROOT / "exporters" / "otel_stage_exporters"
LONGEST = 300


def sources(*folders: Path) -> list[Path]:
    """The Python files below folders."""
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def named(path: Path) -> str:
    """A path as the repository has it."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it; `from a import b` gives `a.b` as well as `a`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(module: str, *folders: Path) -> set[str]:
    """The files below folders that import a module or something below it."""
    return {
        named(path)
        for path in sources(*folders)
        if any(name == module or name.startswith(f"{module}.") for name in imports(path))
    }


def test_files_are_short() -> None:
    """A file of the library, the exporters, the benches or the page generators has at most 300 lines."""
    lengths = {
        named(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in sources(LIBRARY, EXPORTERS, ROOT / "bench", ROOT / "docs" / "_generate")
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_one_room_imports_the_sdk() -> None:
    """In the library only `otel_stage/_sdk/` imports the OpenTelemetry SDK, and the fakes that stand in for it."""
    found = importers("opentelemetry.sdk", LIBRARY)
    assert found
    assert [name for name in sorted(found) if not name.startswith(("otel_stage/_sdk/", "otel_stage/testing/"))] == []


def test_one_module_imports_the_provisional_logs_of_the_sdk() -> None:
    """In the exporters only `_otel.py` imports `opentelemetry.sdk._logs`, which is still provisional."""
    assert importers("opentelemetry.sdk._logs", EXPORTERS) == {"exporters/otel_stage_exporters/_otel.py"}


def test_nothing_imports_the_exporters() -> None:
    """The library loads exporters by entry point, ours as everyone's."""
    assert importers("otel_stage_exporters", LIBRARY) == set()


def test_the_public_surface() -> None:
    """`otel_stage` offers these names: one is added or taken away on purpose, here too."""
    import otel_stage

    assert sorted(otel_stage.__all__) == [
        "Input", "Intermediate", "OtelStageError", "Output", "Pipeline", "Stage", "__version__", "configure",
        "current_stage", "pipeline", "stage", "wrap",
    ]  # fmt: skip
    assert set(otel_stage.__all__) <= set(dir(otel_stage))


def public_of(kind: type) -> list[str]:
    """The public names that a class defines itself."""
    return sorted(name for name in vars(kind) if not name.startswith("_"))


def test_the_public_surface_of_the_handles() -> None:
    """`Pipeline` and `Stage` have these attributes and methods."""
    from otel_stage import Pipeline, Stage

    assert public_of(Pipeline) == [
        "add_config", "child_env", "dir", "join_process", "log", "name", "run_id", "set_config", "stage",
    ]  # fmt: skip
    assert public_of(Stage) == [
        "add_config", "add_error", "add_warning", "child_env", "dir", "id", "key", "log", "name", "number", "run",
        "set_config", "set_resources", "skip", "track_input", "track_intermediate", "track_output",
    ]  # fmt: skip


def test_every_error_is_ours() -> None:
    """Every error of the tree can be caught as `OtelStageError`, and is drawn in the module's docstring."""
    from otel_stage import OtelStageError, errors

    drawn = re.findall(r"\w+Error\b", (errors.__doc__ or "").partition("Once")[0])
    assert sorted(drawn) == sorted(errors.__all__)
    assert all(issubclass(getattr(errors, name), OtelStageError) for name in errors.__all__)


def public_modules() -> Iterator[str]:
    """Modules without an underscore in their path, loadable without extras."""
    for name in ("otel_stage", "otel_stage_exporters"):
        package = importlib.import_module(name)
        yield name
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not any(part.startswith("_") for part in module.name.split(".")) and not module.name.startswith("otel_stage.demo"):
                yield module.name


@pytest.mark.parametrize("name", sorted(public_modules()))
def test_what_is_public_says_what_it_is_for(name: str) -> None:
    """A public module, its public functions and classes, and their methods have docstrings."""
    module = importlib.import_module(name)
    without = [] if module.__doc__ else [name]
    for public in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
        thing = getattr(module, public)
        if not (inspect.isfunction(thing) or inspect.isclass(thing)) or not thing.__module__.startswith("otel_stage"):
            continue
        if not inspect.getdoc(thing):
            without.append(f"{name}.{public}")
        if inspect.isclass(thing):
            members = {n: m for n, m in vars(thing).items() if not n.startswith("_")}
            without += [
                f"{name}.{public}.{n}"
                for n, m in members.items()
                if (inspect.isfunction(m) or isinstance(m, property)) and not m.__doc__
            ]
    assert without == []


def test_every_module_says_what_it_is_for() -> None:
    """Every file of the library and the exporters begins with a docstring."""
    assert [named(p) for p in sources(LIBRARY, EXPORTERS) if not ast.get_docstring(ast.parse(p.read_text("utf-8")))] == []


def test_every_test_says_what_holds() -> None:
    """Every test has a docstring."""
    without = [
        f"{path.name}:{node.lineno} {node.name}"
        for path in sources(ROOT / "tests")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and path.name.startswith("test_")
        and node.col_offset in (0, 4)
        and not ast.get_docstring(node)
    ]
    assert without == []


def repository_files() -> Iterator[Path]:
    """Text files that are, or will be, in the repository."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        ).stdout  # fmt: skip
        paths = [ROOT / name for name in listed.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        # An unpacked source archive is no checkout.
        paths = [p for p in ROOT.rglob("*") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]
    for path in paths:
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".json", ".yaml", ".yml", ".txt", ".sh", ".cfg", ""}:
            yield path


def test_the_repository_stands_alone() -> None:
    """No file names a path or a paper of the place where it was written: a stranger could not follow it."""
    places = ["/work/" + "(main|shared|\\.lib)", "/tmp/" + "(v|docw)/", "/" + "farm/", "shared/" + "design", "shared/" + "checks"]
    papers = [rf"(?<![\w-]){name}\.md\b" for name in ("files", "house", "telemetry", "speed", "mistakes", "style", "brief", "seed")]
    talk = [r"\bissues? #\d", r"\bissue \d", r"\b(this|the|another|a later) " + r"session\b", r"\bthe " + r"lead\b", r"\bhelper " + r"session"]
    words = re.compile("|".join([*places, *papers, *talk]), re.IGNORECASE)
    found = []
    for path in repository_files():
        if path == Path(__file__):
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{named(path)}:{n}: {line.strip()[:100]}" for n, line in enumerate(text.splitlines(), 1) if words.search(line)]
    assert found == []

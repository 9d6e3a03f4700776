"""`@stage`: a decorated function stays the function that it was."""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import JobFiles

from otel_stage import OtelStageError, current_stage, pipeline, stage

if TYPE_CHECKING:
    pass  # type: ignore[import-not-found]

pytestmark = pytest.mark.usefixtures("fresh")


def test_the_function_stays_what_it_was() -> None:
    """Name, doc, signature and annotations are unchanged, for sync and async functions."""

    def plain(a: int, /, b: str = "x", *, c: Path | None = None) -> list[int]:
        """Says what it does."""
        return []

    async def waits(a: int) -> str:
        return ""

    for fn in (plain, waits):
        for wrapped in (stage(fn), stage()(fn), stage("other", key="a")(fn)):
            assert inspect.signature(wrapped) == inspect.signature(fn)
            assert wrapped.__annotations__ == fn.__annotations__
            assert (wrapped.__name__, wrapped.__qualname__, wrapped.__doc__, wrapped.__module__) == (
                fn.__name__, fn.__qualname__, fn.__doc__, fn.__module__,
            )  # fmt: skip
            assert inspect.iscoroutinefunction(wrapped) == inspect.iscoroutinefunction(fn)
            assert inspect.unwrap(wrapped) is fn


def test_exceptions_pass_unchanged(job: JobFiles) -> None:
    """The caller gets the very exception, and the traceback ends in the user's own line."""
    error = KeyError("x")

    @stage
    def boom() -> None:
        raise error

    with pipeline("p", job_dir=job.path), pytest.raises(KeyError) as caught:
        boom()
    assert caught.value is error
    assert error.__context__ is None
    assert traceback.extract_tb(error.__traceback__)[-1].name == "boom"
    assert job.stage("boom")["status"] == "failed"
    assert job.stage("boom")["errors"][0]["type"] == "KeyError"


def test_a_wrong_call_gets_pythons_own_error(job: JobFiles) -> None:
    """A call with missing arguments raises the function's own TypeError."""

    @stage
    def needs(audio: Path) -> None: ...

    with pipeline("p", job_dir=job.path), pytest.raises(TypeError, match=r"needs\(\) missing 1 required positional"):
        needs()  # type: ignore[call-arg]


def test_async_stages_keep_apart(job: JobFiles) -> None:
    """Coroutines that run at the same time are stages of their own, each with its own records."""

    @stage(key="name")
    async def fetch(name: str, turn: asyncio.Event, other: asyncio.Event) -> str:
        st = current_stage()
        turn.set()
        await other.wait()
        st.log.info("from %s", name)
        assert current_stage() is st
        return name

    async def main() -> list[str]:
        one, two = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(fetch("one", one, two), fetch("two", two, one))

    with pipeline("p", job_dir=job.path):
        assert asyncio.run(main()) == ["one", "two"]
    for name in ("one", "two"):
        assert [r.text for r in job.stage_log(f"fetch.{name}")] == [f"from {name}"]
        assert job.stage(f"fetch.{name}")["config"]["name"] == name


def test_generators_classes_and_method_objects_are_refused() -> None:
    """What cannot be a stage is refused at decoration, and the message says what to do instead."""

    def gen() -> Iterator[int]:
        yield 1

    async def agen() -> Any:
        yield 1

    with pytest.raises(OtelStageError, match=r"generator function .*gen.*with stage"):
        stage(gen)
    with pytest.raises(OtelStageError, match="generator"):
        stage("name")(agen)
    with pytest.raises(OtelStageError, match="below @staticmethod"):
        stage(staticmethod(lambda: None))
    with pytest.raises(OtelStageError, match="below @classmethod"):
        stage(classmethod(lambda cls: None))
    with pytest.raises(OtelStageError, match="class"):
        stage(type("Model", (), {}))
    with pytest.raises(OtelStageError, match="function"):
        stage("name")(42)  # type: ignore[type-var]
    with pytest.raises(OtelStageError, match="lambda"):
        stage(lambda: None)


def test_wrong_names_are_refused_at_decoration() -> None:
    """`key=` and `ignore=` that name no argument are errors which list the arguments there are."""

    def fn(sample: str) -> None: ...

    with pytest.raises(OtelStageError, match="'smaple'.*sample"):
        stage(key="smaple")(fn)
    with pytest.raises(OtelStageError, match="'verbose'.*sample"):
        stage(ignore=["verbose"])(fn)
    with pytest.raises(OtelStageError, match="a/b"):
        stage("a/b")(fn)


def test_methods_partials_and_callable_objects(job: JobFiles) -> None:
    """`@stage` below `@staticmethod` and `@classmethod` works, and so do partials with a name given."""

    class Tools:
        @staticmethod
        @stage
        def trim(n: int) -> int:
            return n

        @classmethod
        @stage
        def pad(cls, n: int) -> str:
            return cls.__name__

    def add(a: int, b: int) -> int:
        return a + b

    with pipeline("p", job_dir=job.path):
        assert Tools.trim(1) == 1
        assert Tools().pad(2) == "Tools"
        assert stage("add")(functools.partial(add, 1))(b=2) == 3
    assert job.folders == ["01_trim", "02_pad", "03_add"]
    assert job.stage("pad")["config"] == {"n": 2}


def test_the_code_of_the_function_is_identified(job: JobFiles) -> None:
    """`code` says what was run: the function's source by its sha256."""

    @stage
    def fn() -> None: ...

    with pipeline("p", job_dir=job.path):
        fn()
    code = job.stage("fn")["code"]
    assert code["kind"] == "function-source"
    assert code["value"].startswith("sha256:")


def test_calls_of_one_function_are_stages_of_one_name(job: JobFiles) -> None:
    """A function called twice, or by itself, is `fn` and `fn.2`."""

    @stage
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + down(n - 1)

    with pipeline("p", job_dir=job.path):
        assert down(1) == 1
    assert job.folders == ["01_down", "02_down.2"]
    assert job.stage("down.2")["otel"]["parent_span_id"] == job.stage("down")["otel"]["span_id"]


@pytest.mark.slow
def test_type_checkers_see_the_signature_unchanged(fresh: Path) -> None:
    """`mypy --strict` infers for a decorated function what it infers for the plain one."""
    api = pytest.importorskip("mypy.api")
    (fresh / "snippet.py").write_text(
        "from pathlib import Path\n"
        "from otel_stage import stage\n"
        "@stage\n"
        "def a(audio: Path, *, model: str = 'x') -> int: return 1\n"
        "@stage('b', key='n')\n"
        "async def b(n: int) -> str: return ''\n"
        "reveal_type(a)\n"
        "reveal_type(b)\n"
        "def f() -> int:\n"
        "    with stage('x'):\n"
        "        return 1\n"
    )
    out, _, code = api.run(["--strict", "--cache-dir", str(fresh / "cache"), str(fresh / "snippet.py")])
    out = out.replace("builtins.", "")
    assert "def (audio: pathlib.Path, *, model: str =) -> int" in out
    assert "def (n: int) -> typing.Coroutine[Any, Any, str]" in out
    # The last function fails for a checker that takes `with` for one that may swallow exceptions.
    assert code == 0, out

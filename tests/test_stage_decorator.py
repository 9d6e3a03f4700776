"""`@stage`: arguments and results by value, and a function that stays what it was."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest
from support import JobFiles

from otel_stage import Input, Intermediate, OtelStageError, Output, current_stage, pipeline, stage

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

pytestmark = pytest.mark.usefixtures("fresh")


def paths(manifest: dict[str, Any], role: str) -> list[str]:
    """The recorded paths of one role."""
    return [record["path"] for record in manifest[role]]


@pytest.fixture
def files(fresh: Path) -> list[Path]:
    """Three existing files."""
    made = [fresh / name for name in ("a.wav", "b.wav", "c.wav")]
    for path in made:
        path.write_text(path.name)
    return made


def test_paths_are_inputs_and_the_rest_is_config(job: JobFiles, files: list[Path]) -> None:
    """Existing path arguments are inputs, everything else is config, defaults included."""

    @stage
    def asr(audio: Path, /, *, model: str = "large-v2", beam: int = 5) -> Path:
        text = current_stage().dir / "segments.json"
        text.write_text("[]")
        return text

    with pipeline("p", job_dir=job.path):
        result = asr(files[0], beam=3)
    m = job.stage("asr")
    assert result == job.path / "01_asr/segments.json"
    assert paths(m, "inputs") == [str(files[0])]
    assert paths(m, "outputs") == ["01_asr/segments.json"]
    assert m["outputs"][0]["size_bytes"] == 2
    assert m["config"] == {"model": "large-v2", "beam": 3}
    assert m["status"] == "success"


@dataclasses.dataclass
class Sample:
    """A sample and its reads."""

    name: str
    reads: list[Path]
    meta: dict[str, Any]


def test_paths_inside_containers_are_inputs(job: JobFiles, files: list[Path]) -> None:
    """Lists, tuples, dicts and dataclasses are looked into, at any depth."""

    @stage
    def merge(many: list[Path], pair: Any, named: dict[str, Any], sample: Sample) -> None: ...

    a, b, c = files
    d, e = a.with_name("d"), a.with_name("e")
    d.touch()
    e.touch()
    with pipeline("p", job_dir=job.path):
        merge([a], (1, b), {"x": {"y": [c]}}, Sample("s1", [d], {"index": e, "depth": 30}))
    m = job.stage("merge")
    assert paths(m, "inputs") == [str(p) for p in (a, b, c, d, e)]
    assert m["config"]["sample"]["name"] == "s1"
    assert m["config"]["sample"]["meta"]["depth"] == 30


def test_a_string_is_a_path_only_where_the_annotation_says_so(job: JobFiles, files: list[Path]) -> None:
    """`str | Path` makes a string an input; a plain `str` that names a file is config."""
    name = files[0].name

    @stage
    def load(plain: str, either: str | Path, maybe: Optional[Path] = None, several: list[Path | str] = []) -> None:  # noqa: UP045
        ...

    with pipeline("p", job_dir=job.path):
        load(name, "b.wav", "c.wav", ["a.wav"])  # type: ignore[arg-type]
    m = job.stage("load")
    assert sorted(paths(m, "inputs")) == sorted(str(p) for p in files)
    assert m["config"]["plain"] == name
    assert "either" not in m["config"]


def test_marked_arguments_are_what_they_are_marked(job: JobFiles, files: list[Path]) -> None:
    """`Annotated[..., Output]`, `Intermediate` and `Input` decide, whether the file exists or not."""

    @stage
    def convert(
        source: Annotated[str, Input],
        target: Annotated[Path, Output],
        cache: Annotated[Path | None, Intermediate] = None,
    ) -> None:
        target.write_text("new")

    with pipeline("p", job_dir=job.path):
        convert("a.wav", files[1], files[2])
    m = job.stage("convert")
    assert paths(m, "inputs") == [str(files[0])]
    assert paths(m, "outputs") == [str(files[1])]
    assert m["outputs"][0]["size_bytes"] == 3
    assert paths(m, "intermediate_files") == [str(files[2])]
    assert m["warnings"] == []


def test_annotations_that_cannot_be_resolved_are_read_as_text(job: JobFiles, files: list[Path]) -> None:
    """A name imported for type checkers alone does not switch the marks and paths off."""

    @stage
    def convert(source: str | Path, target: Annotated[Path, Output], other: Unknown = None) -> None:
        target.write_text("new")

    with pipeline("p", job_dir=job.path):
        convert("a.wav", job.path / "t.txt")
    m = job.stage("convert")
    assert paths(m, "inputs") == [str(files[0])]
    assert paths(m, "outputs") == ["t.txt"]
    assert m["config"] == {"other": None}


def test_an_unmarked_path_that_does_not_exist_is_a_warning(job: JobFiles, fresh: Path) -> None:
    """It is no input, and the warning names the argument and how to mark a destination."""

    @stage
    def write(target: Path) -> None:
        target.write_text("x")

    with pipeline("p", job_dir=job.path):
        write(fresh / "new.txt")
    m = job.stage("write")
    assert m["inputs"] == []
    (warning,) = m["warnings"]
    assert "target" in warning["message"]
    assert "Output" in warning["message"]


def test_returned_paths_are_outputs_also_in_containers(job: JobFiles) -> None:
    """Paths in a returned list, tuple or dict are outputs; other values and plain strings are not."""

    @stage
    def split() -> dict[str, Any]:
        out = current_stage().dir
        for name in "xyz":
            (out / name).write_text(name)
        return {"left": out / "x", "right": [(out / "y", 3)], "text": str(out / "z")}

    @stage
    def say() -> str | Path:
        return str(Path("01_split/x"))

    with pipeline("p", job_dir=job.path):
        result = split()
        say()
    assert paths(job.stage("split"), "outputs") == ["01_split/x", "01_split/y"]
    assert result["text"].endswith("z")
    assert len(job.stage("say")["outputs"]) == 1


def test_self_and_ignored_names_stay_out(job: JobFiles, files: list[Path]) -> None:
    """`self` and the names in `ignore=` are neither inputs nor config."""

    class Model:
        secret_state = "weights"

        @stage(ignore=["verbose", "scratch"])
        def apply(self, audio: Path, scratch: Path, *, verbose: bool = False, beam: int = 1) -> Model:
            return self

    model = Model()
    with pipeline("p", job_dir=job.path):
        assert model.apply(files[0], files[1], verbose=True) is model
    m = job.stage("apply")
    assert paths(m, "inputs") == [str(files[0])]
    assert m["config"] == {"beam": 1}


def test_star_arguments(job: JobFiles, files: list[Path]) -> None:
    """`*args` and `**kwargs` go by the same rules; keywords stand under their own names."""

    @stage
    def cat(*parts: Path, **options: Any) -> int:
        return len(parts)

    with pipeline("p", job_dir=job.path):
        assert cat(*files, sep="-", header=files[0]) == 3
    m = job.stage("cat")
    assert paths(m, "inputs") == [str(p) for p in files]
    assert m["config"] == {"sep": "-"}


def test_values_without_a_json_form_are_their_types_name(job: JobFiles) -> None:
    """An object in config is its type's name, never its repr, which may hold secrets."""

    class Client:
        def __repr__(self) -> str:
            return "Client(token=hunter2hunter2)"

    @stage
    def fetch(client: Any, fn: Any, password: str) -> None: ...

    with pipeline("p", job_dir=job.path):
        fetch(Client(), lambda: None, "correct-horse-battery")
    config = job.stage("fetch")["config"]
    assert "Client" in config["client"]
    raw = job.everything()
    assert b"hunter2" not in raw
    assert b"correct-horse" not in raw


def test_key_names_an_argument_or_is_a_callable(job: JobFiles, files: list[Path]) -> None:
    """Each sample has its own folder, by an argument's value or by what a callable makes of all arguments."""

    @stage("align", key="sample")
    def by_name(sample: str, depth: int = 1) -> None: ...

    @stage("sort", key=lambda args: f"{args['sample']}-{args['depth']}")
    def by_callable(sample: str, depth: int = 1) -> None: ...

    @stage("index", key="path")
    def by_path(path: Path) -> None: ...

    with pipeline("p", job_dir=job.path):
        by_name("A")
        by_name("B")
        by_callable("A", depth=30)
        by_path(files[0])
    assert job.folders == ["01_align.A", "02_align.B", "03_sort.A-30", "04_index.a"]
    assert (job.stage("align.B")["stage"], job.stage("align.B")["key"]) == ("align", "B")


def test_a_key_that_is_no_folder_name_stops_the_call(job: JobFiles) -> None:
    """A hostile value is a clear error before the function runs and before a folder is made."""
    ran = []

    @stage(key="sample")
    def align(sample: str) -> None:
        ran.append(sample)

    with pipeline("p", job_dir=job.path), pytest.raises(OtelStageError, match=r"\.\./x"):
        align("../x")
    assert ran == []
    assert job.folders == []

"""The README and every page under `docs/` say what holds: their blocks run, their links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support import clean_env

ROOT = Path(__file__).parents[1]
# The tutorial is one long walk; tests/test_demo_run.py takes it from beginning to end.
WALKED = {"docs/tutorial/first-pipeline.md"}
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if not path.name.startswith(".")
)

SPEECH = """It is a truth universally acknowledged
that a speech of more than five minutes
is a speech that nobody remembers
"""

# What the pages of `<!-- run in job -->` blocks look at: a job with a directory as output and a failed stage.
JOB = """
from pathlib import Path
from otel_stage import pipeline, stage

with pipeline("pages", job_dir="job", console="off"):
    with stage("fetch") as st:
        text = st.track_input("speech.txt")
        st.track_output(st.dir / "copy.txt").write_text(text.read_text())
        parts = st.track_output(st.dir / "parts")
        parts.mkdir()
        (parts / "a.txt").write_text("a")
        st.set_config(encoding="utf-8")
    try:
        with stage("fail"):
            raise RuntimeError("no such model")
    except RuntimeError:
        pass
"""

# Each block is a file of its own, run as the main module, so that sources are found and pools can import it.
RUN = """
import runpy, sys, traceback
for path in sys.argv[1:]:
    try:
        runpy.run_path(path, run_name="__main__")
    except BaseException:
        traceback.print_exc()
        sys.exit(f"failed: {path}")
"""


class Block(NamedTuple):
    """A fenced block: its language, its text, the line of its fence, and the comment right before it."""

    language: str
    text: str
    line: int
    comment: str


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    fence, comment, held, start = "", "", list[str](), 0
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        stripped = line.strip()
        if fence:
            if stripped == "```":
                indent = len(held[0]) - len(held[0].lstrip()) if held else 0
                yield Block(fence[3:], "\n".join(text[indent:] for text in held) + "\n", start, comment)
                fence, comment = "", ""
            else:
                held.append(line)
        elif stripped.startswith("```"):
            fence, held, start = stripped, [], number
        elif found := re.fullmatch(r"<!-- (.*) -->", stripped):
            comment = found[1]
        elif stripped:
            comment = ""


def runnable(page: str, language: str) -> list[Block]:
    """The blocks of a language that are to be run as they stand."""
    return [block for block in blocks(page) if block.language == language and not block.comment.startswith("skip: ")]


def scratch(folder: Path) -> dict[str, str]:
    """Put the example's input into a folder, and give the environment to run in."""
    (folder / "speech.txt").write_text(SPEECH, encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return clean_env({"PATH": path})


# Examples of the reference are those of docstrings: pieces, not programs.
WITH_PYTHON = [
    page for page in PAGES
    if page not in WALKED and not page.startswith("docs/reference/") and runnable(page, "python")
]  # fmt: skip


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_blocks_run(page: str, tmp_path: Path) -> None:
    """Every block of Python runs as it stands, in a folder that holds nothing but a text."""
    env = scratch(tmp_path)
    files = []
    for block in runnable(page, "python"):
        path = tmp_path / f"line_{block.line}.py"
        path.write_text(block.text, encoding="utf-8")
        files.append(path.name)
    (tmp_path / "run_blocks.py").write_text(RUN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "run_blocks.py", *files], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{page}\n{done.stdout}\n{done.stderr}"


def shell(block: Block, cwd: Path, env: dict[str, str]) -> None:
    """Run a shell block; it must end with 0 and print something."""
    missing = [tool for tool in ("bash", "jq", "sha256sum") if tool in f"bash {block.text}" and not shutil.which(tool)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text], cwd=cwd, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"line {block.line}\n{block.text}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip(), f"line {block.line} prints nothing"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("page", [p for p in PAGES if any(b.comment.startswith("run") for b in blocks(p))])
def test_marked_shell_blocks_run(page: str, tmp_path: Path) -> None:
    """Every shell block with the comment `run` before it works with the real tools, in a job directory if it says so."""
    env = scratch(tmp_path)
    marked = [block for block in blocks(page) if block.comment in ("run", "run in job")]
    assert all(block.language == "bash" for block in marked)
    if any(block.comment == "run in job" for block in marked):
        subprocess.run([sys.executable, "-c", JOB], cwd=tmp_path, env=env, check=True, timeout=60)
    for block in marked:
        shell(block, tmp_path / "job" if block.comment == "run in job" else tmp_path, env)


def test_comments_before_blocks_are_known() -> None:
    """A comment before a block is one that the tests understand: `run`, `run in job`, or `skip:` with a reason."""
    for page in PAGES:
        for block in blocks(page):
            known = block.comment in ("", "run", "run in job") or re.match(r"skip: \S+", block.comment)
            assert known or "generated by" in block.comment or block.comment == "bench", f"{page}:{block.line}"


def test_few_blocks_are_left_out() -> None:
    """Hardly any block of Python is marked as one that cannot run."""
    skipped = [f"{page}:{b.line}" for page in PAGES for b in blocks(page) if b.comment.startswith("skip: ")]
    assert len(skipped) <= 3, skipped


def test_the_reference_is_up_to_date() -> None:
    """The pages of docs/reference are what the code says; `make docs` writes them anew."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs/_generate/reference.py", "--check"], capture_output=True, text=True, timeout=60,
        env=clean_env(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_reference_is_noticed(tmp_path: Path) -> None:
    """`--check` names a page that differs from the code by one word, and exits with 1."""
    copy = tmp_path / "docs"
    shutil.copytree(ROOT / "docs" / "_generate", copy / "_generate")
    shutil.copytree(ROOT / "docs" / "reference", copy / "reference")
    page = copy / "reference" / "settings.md"
    page.write_text(page.read_text(encoding="utf-8") + "word\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, copy / "_generate/reference.py", "--check"], capture_output=True, text=True, timeout=60,
        env=clean_env(),
    )  # fmt: skip
    assert done.returncode == 1
    assert "settings.md is stale" in done.stdout


def test_the_reference_names_everything_public() -> None:
    """Every public name, setting and command has its place in the reference."""
    import otel_stage
    from otel_stage._settings import ROWS
    from otel_stage.cli import _COMMANDS

    api, settings, cli = (
        (ROOT / "docs/reference" / name).read_text(encoding="utf-8") for name in ("api.md", "settings.md", "cli.md")
    )
    assert [name for name in otel_stage.__all__ if name not in api and name != "__version__"] == []
    assert [row.name for row in ROWS if f"| `{row.name}` |" not in settings] == []
    assert [name for name in _COMMANDS if f"## otel-stage {name}" not in cli] == []


LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def headings(path: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    texts = [line.lstrip("#").strip() for line in lines if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", PAGES)
def test_internal_links_lead_somewhere(page: str) -> None:
    """Every link to a file or a heading of this repository finds it."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        if not path.exists() or (anchor and anchor not in headings(path)):
            broken.append(target)
    assert broken == []


def test_every_page_can_be_reached() -> None:
    """From the README every page can be reached by links."""
    seen, todo = set[str](), ["README.md"]
    while todo:
        page = todo.pop()
        if page in seen or not page.endswith(".md") or not (ROOT / page).is_file():
            continue
        seen.add(page)
        for target in LINK.findall((ROOT / page).read_text(encoding="utf-8")):
            name = target.partition("#")[0]
            if name and not re.match(r"[a-z]+:", target):
                todo.append(os.path.relpath((ROOT / page).parent / name, ROOT).replace(os.sep, "/"))
    assert set(PAGES) - seen == set()


def test_pages_name_no_machine() -> None:
    """No page holds a path of the machine that it was written on."""
    words = re.compile("|".join(["/work/" + "(main|shared)", "/tmp/" + "v/", "/farm" + "/", "/root" + "/"]))
    found = [
        f"{page}:{n}"
        for page in PAGES
        for n, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1)
        if words.search(line)
    ]
    assert found == []

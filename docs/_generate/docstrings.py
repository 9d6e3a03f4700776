"""Google-style docstrings, and other short texts of the code, as Markdown."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator

_SECTIONS = ("Args", "Returns", "Raises", "Example", "Examples", "Attributes", "Yields", "Definitions")
_TITLES = {"Args": "Arguments"}
_ITEM = re.compile(r"(\*{0,2}[\w.]+): +(.*)", re.DOTALL)


def first_line(doc: str | None) -> str:
    """The one line of purpose."""
    return " ".join((doc or "").strip().split("\n\n")[0].split())


def cell(text: str) -> str:
    """`text` as it may stand in a table."""
    text = " ".join(text.split()).replace("|", "\\|")
    # Outside code, Markdown takes <word> for an HTML tag.
    return text if "`" in text else text.replace("<", "&lt;")


def markdown(doc: str, leave_out: Collection[str] = ()) -> str:
    """A docstring, its sections as lists and code; items named in `leave_out` are not shown."""
    parts: list[str] = []
    for title, body in _sections(doc):
        if not title:
            parts.append(body)
        elif title.startswith("Example"):
            code = re.sub(r"\s*# doctest: .*", "", body)
            parts.append(f"```pycon\n{code}\n```")
        else:
            items = [_item(item) for item in _items(body) if item.split(":")[0] not in leave_out]
            parts.append(f"**{_TITLES.get(title, title)}**\n\n" + "\n".join(items))
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def _sections(doc: str) -> Iterator[tuple[str, str]]:
    title, lines, fenced = "", list[str](), False
    for line in doc.splitlines():
        fenced ^= line.startswith("```")
        name = line.rstrip(":")
        if not fenced and line.endswith(":") and name in _SECTIONS:
            yield title, _body(title, lines)
            title, lines = name, []
            continue
        if title and line and not line.startswith(" "):
            yield title, _body(title, lines)
            title, lines = "", []
        lines.append(line)
    yield title, _body(title, lines)


def _body(title: str, lines: list[str]) -> str:
    text = "\n".join(lines)
    return textwrap.dedent(text).strip("\n") if title else text.strip("\n")


def _items(body: str) -> Iterator[str]:
    """What begins at column 0, with its continuation lines joined."""
    item = ""
    for line in body.splitlines():
        if line.startswith(" ") or not line or not item:
            item = f"{item} {line.strip()}".strip()
        elif _ITEM.match(line) or line.startswith("- "):
            yield item
            item = line
        else:
            item = f"{item} {line.strip()}"
    if item:
        yield item


def _item(item: str) -> str:
    item = item.removeprefix("- ")
    match = _ITEM.fullmatch(item)
    return f"- `{match[1]}`: {match[2]}" if match else f"- {item}"

"""Secrets that show by themselves: known token shapes, private keys, schemes, URL user information.

Each pattern is linear in the length of the text: runs are matched possessively, or are bounded, or are
consumed whole whether or not they turn out to be secret.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from otel_stage.redact._suspicion import MASK

__all__ = ["mask_shapes"]

# A token starts where no word goes on; after `\n` as two characters (a repr, a JSON string) it starts too.
_START: Final = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))"
_SHAPES: Final = re.compile(
    _START + r"""(?:
      (?P<jwt>eyJ[\w\-]{8,}+ (?P<rest>\.[\w\-]{4,}+ (?:\.[\w\-]*+){0,3})?)
    | A[KSB]IA[A-Z0-9]{16} (?![A-Za-z0-9])
    | gh[oprsu]_[A-Za-z0-9]{20,}+ | github_pat_[A-Za-z0-9_]{20,}+
    | gl(?:pat|dt|rt|ptt|cbt|ft|soat|imt|agent|oas)-[\w\-.]{16,}+
    | xox[a-z](?:\.xox[a-z])?-[\w\-]{10,}+ | xapp-[\w\-]{10,}+
    | AIza[\w\-]{30,}+
    | sk-(?=[\w\-]{0,99}?[0-9])[\w\-]{20,}+
    | hf_[A-Za-z0-9]{20,}+
    | [prs]k_(?:live|test)_[A-Za-z0-9]{10,}+ | whsec_[A-Za-z0-9+/=]{16,}+
    | npm_[A-Za-z0-9]{20,}+
    | pypi-(?=[\w\-]{0,99}?[A-Z])[\w\-]{16,}+
    )""",
    re.VERBOSE | re.ASCII,
)  # fmt: skip
_AWS_ID: Final = re.compile(_START + r"A[KSB]IA[A-Z0-9]{16}(?![A-Za-z0-9])", re.ASCII)
_AWS_SECRET: Final = re.compile(
    r"(?:(?<![A-Za-z0-9/+])|(?<=\\[nrt]))(?=[A-Za-z/+]{0,39}[0-9])(?=[a-z0-9/+]{0,39}[A-Z])"
    r"[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
)
# A block cut off before its end is eaten to the end of the text: what follows is the rest of the key.
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----"
    r"[\s\S]*?(?:-----END [A-Z0-9 ]{0,40}?PRIVATE KEY(?: BLOCK)?-----|\Z)"
)
_SCHEMED: Final = re.compile(
    r"(?P<scheme>[Bb]earer|BEARER|[Bb]asic|BASIC)(?P<gap>[ \t]++|%20|\+)(?P<token>[\w\-.~+/]{6,}+=*+)",
    re.ASCII,
)
_URL: Final = re.compile(r"""(:(?://|\\/\\/))([^\s/?"'<>@:\\]*+)(:[^\s/?"'<>\\]*)?@""")


def mask_shapes(s: str) -> tuple[str, int]:
    """Mask whatever looks like a secret by itself, once over.

    Returns:
        The text, and how many values were replaced by the mask.
    """
    count = 0

    def shape(m: re.Match[str]) -> str:
        nonlocal count
        if m["jwt"] and not m["rest"]:
            return m[0]
        count += 1
        return MASK

    def schemed(m: re.Match[str]) -> str:
        nonlocal count
        if not _credential(m["scheme"], m["token"]):
            return m[0]
        count += 1
        return f"{m['scheme']}{m['gap']}{MASK}"

    def url(m: re.Match[str]) -> str:
        nonlocal count
        user, password = m[2], (m[3] or "")[1:]
        if password and password != MASK:
            count += 1
            return f"{m[1]}{user}:{MASK}@"
        if password or not user or user == MASK or not _token_user(s, m):
            return m[0]
        count += 1
        return f"{m[1]}{MASK}{m[3] or ''}@"

    if "PRIVATE KEY" in s:
        s, n = _PEM.subn(MASK, s)
        count += n
    if "IA" in s and _AWS_ID.search(s):
        # Forty characters of base64 are a secret only in the company of the id they belong to.
        s, n = _AWS_SECRET.subn(MASK, s)
        count += n
    s = _SHAPES.sub(shape, s)
    s = _SCHEMED.sub(schemed, s)
    if "@" in s:
        s = _URL.sub(url, s)
    return s, count


def _credential(scheme: str, token: str) -> bool:
    """Tell a credential from the words that follow "basic" and "bearer" in a sentence."""
    if scheme.lower() == "basic":
        try:
            return b":" in binascii.a2b_base64(token + "=" * (-len(token) % 4))
        except ValueError:
            return False
    # A capital beyond the first letter, or a digit, is no English word.
    return len(token) >= 20 or token[1:] != token[1:].lower() or any(c.isdigit() for c in token)


def _token_user(s: str, m: re.Match[str]) -> bool:
    """Tell a token that stands alone before the @ from a mere user name, as in ssh://git@host."""
    scheme = s[max(0, m.start() - 12) : m.start()].lower()
    return scheme.endswith(("http", "https")) or (len(m[2]) >= 20 and any(c.isdigit() for c in m[2]))

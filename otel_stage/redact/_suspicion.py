"""Whether a text could hold a secret at all: a few substring tests, before any pattern is even compiled."""

from __future__ import annotations

from typing import Final

from otel_stage.redact._names import STEMS

__all__ = ["MASK", "escaped_json", "suspicious"]

MASK: Final = "***"


def suspicious(s: str) -> bool:
    """Tell cheaply whether any pattern, here or in `_keyed`, could match; never False when one would."""
    dash = "-" in s
    if dash or "=" in s or ":" in s:
        low = s.lower()
        for stem in STEMS:
            if stem in low:
                return True
        if "@" in s and ("//" in s or "\\/" in s):
            return True
        if dash and (
            "sk-" in s or "gl" in s or "xox" in s or "xapp-" in s or "pypi-" in s or "PRIVATE KEY" in s
        ):
            return True
    if "_" in s and (
        "hf_" in s
        or "npm_" in s
        or "k_live_" in s
        or "k_test_" in s
        or "whsec_" in s
        or "github_pat_" in s
        or ("gh" in s and ("ghp_" in s or "gho_" in s or "ghu_" in s or "ghs_" in s or "ghr_" in s))
    ):
        return True
    return (
        "eyJ" in s
        or "IA" in s
        or "AIza" in s
        or "earer" in s
        or "EARER" in s
        or "asic" in s
        or "ASIC" in s
    )  # fmt: skip


def escaped_json(s: str) -> bool:
    """Tell a JSON document whose escapes could hide what the patterns look for."""
    return ("\\u" in s or "\\/" in s) and s.lstrip()[:1] in ("{", "[")

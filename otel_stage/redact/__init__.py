"""Masking: what keeps secrets inside the process.

One rule for everything that leaves it, be it a log line, a manifest, a span or a journal line:

- by name: what stands under `password`, `api_key`, `Authorization`, `session_id`, … (`is_secret_key`);
- by shape: AWS, GitHub, GitLab, Slack, Google, OpenAI, Anthropic, Hugging Face, Stripe, npm and PyPI tokens,
  JSON web tokens, private keys, `Bearer …`, `Basic …`, the password in a URL, signatures in its query;
- by value: whatever an environment variable with a secret name holds, also percent-encoded or JSON-escaped.

The mask is always `***`: it tells neither the secret nor its length. What is masked once stays as it is.
"""

from __future__ import annotations

import os
import time

from otel_stage.redact._names import is_secret_key
from otel_stage.redact._redactor import Redactor
from otel_stage.redact._suspicion import MASK

__all__ = ["MASK", "Redactor", "is_secret_key", "redactor"]


class _Shared:
    """The redactor of this process, and when it last looked at the environment."""

    redactor: Redactor | None = None
    environ: dict[str, str] | None = None
    next_look: float = 0.0
    count: int = -1


def redactor() -> Redactor:
    """Give the redactor that the whole process shares; it learns new secret variables.

    Ask for it each time rather than keep it: asking is what makes it look at the environment, at once when the
    number of variables is another, else within a second.
    """
    shared = _Shared.redactor
    now = time.monotonic()
    if shared is not None and now < _Shared.next_look and len(os.environ) == _Shared.count:
        return shared
    _Shared.count = len(os.environ)
    _Shared.next_look = now + 1.0
    try:
        environ = dict(os.environ)
    except Exception:
        environ = {}  # changed by another thread meanwhile
    if shared is None:
        shared = _Shared.redactor = Redactor(environ)
    elif environ != _Shared.environ:
        shared.refresh(environ)
    _Shared.environ = environ
    return shared

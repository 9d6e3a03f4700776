"""Which names say that their value is a secret: words, not substrings.

A name is split into words (snake, kebab, dotted and camel case), so that `authToken` and `db.password`
are secret while `author`, `tokenizer`, `primary_key` and `max_tokens` are not.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

__all__ = ["STEMS", "is_line_key", "is_secret_key", "is_secret_query"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STEMS: Final = (
    "pass", "pwd", "secret", "token", "key", "cred", "auth", "cookie", "sess", "conn", "sig", "jwt", "bearer",
)  # fmt: skip
"""Every secret name holds one of these, in lower case: the cheap test before any splitting."""

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_STRONG: Final = _words(
    "password passwords passwd passwds pwd passphrase passphrases passcode passkey secret secrets "
    "credential credentials cred creds sshpass dbpass userpass passin passout"
)
# Names that people write in one piece: PGPASSWORD, clientsecret, x-authtoken.
_JOINED: Final = (
    "password", "passwd", "passphrase", "secret", "credentials", "apikey", "secretkey", "accesskey",
    "privatekey", "authkey", "authtoken", "accesstoken", "refreshtoken", "bearertoken", "sessiontoken",
    "idtoken", "sessionid", "sessid", "sessionkey", "accountkey", "signingkey", "encryptionkey", "masterkey",
    "connectionstring", "connstring", "connstr",
)  # fmt: skip
# What stands after a secret's name when the value is about the secret, not the secret.
_ABOUT: Final = _words(
    "age agent algorithm alias arn attempts attr column count counts dir directory enabled endpoint error "
    "errors exists expiration expires expiry expired field file filename files folder format hint index "
    "label len length lifetime limit limits manager max method min minutes mode name names optional path "
    "paths pattern policy position prompt provider ref required reset rotation rule rules seconds size "
    "source status store strength timeout ttl type types uri url urls usage valid version"
)
_NEUTRAL: Final = _words("value val env var b64 base64 b hex header headers raw plain")
_VENDORS: Final = _words(
    "anthropic aws azure cohere comet datadog dd discord docker gcp gh github gitlab gl groq heroku hf "
    "huggingface mailgun mistral neptune ngrok npm nvidia openai openrouter pypi replicate sendgrid "
    "sentry slack stripe telegram twilio vault wandb"
)
_KEY_OF: Final = _VENDORS | _words(
    "access account admin aes api app application auth client connection consumer crypto decryption "
    "deploy encrypt encryption hmac jwt license master private rsa secret service session shared sign "
    "signing ssh ssl subscription tls webhook"
)
_TOKEN_OF: Final = _VENDORS | _words(
    "access api app auth bearer bot csrf deploy id jwt login oauth oauth2 personal refresh secret "
    "security service session sso user web xsrf"
)
# A model's tokens and a page's cursor: everyday words of pipelines.
_TOKEN_NOT: Final = _words(
    "audio begin bos chars cls continuation current eos end first image input last mask max mean min n "
    "next num number output pad page per prev previous prompt sep special start stop sync target text "
    "time total unk video vocab word"
)
_PASS_OF: Final = _words(
    "admin app auth basic db database email ftp http https ldap login mail mongo my mysql pg postgres "
    "postgresql proxy rabbitmq redis root service sftp smtp sql ssh user username vnc wifi"
)
_PAIRS: Final = frozenset(
    [(a, b) for a in ("connection", "conn") for b in ("string", "strings", "str")]
    + [(a, b) for a in ("session", "sess") for b in ("id", "key", "cookie", "token")]
    + [(a, b) for a in ("amz", "goog", "access") for b in ("signature", "sig")]
)
_QUERY: Final = frozenset(["sig", "signature", "x-amz-signature", "x-goog-signature"])
_LINE: Final = ("authorization", "cookie", "passphrase", "string")

_KNOWN: dict[str, bool] = {}


def is_secret_key(name: str) -> bool:
    """Tell whether a value under this name is to be masked.

    Args:
        name: A mapping key, option, header or environment variable; its case and separators do not matter.

    Example:
        >>> is_secret_key("dbPassword"), is_secret_key("X-Api-Key"), is_secret_key("max_tokens")
        (True, True, False)
    """
    known = _KNOWN.get(name)
    if known is None:
        known = _judge(name)
        # Bounded: names come from user data too.
        if len(_KNOWN) < 4096 and len(name) <= 128:
            _KNOWN[name] = known
    return known


def is_secret_query(name: str) -> bool:
    """Tell whether a URL query parameter is a secret by a name that elsewhere would say nothing (`sig`)."""
    return name.lower() in _QUERY


def is_line_key(name: str) -> bool:
    """Tell whether a header-like name has a value that may hold spaces, up to the end of its line."""
    return name.lower().endswith(_LINE)


def _judge(name: str) -> bool:
    low = name.lower()
    if not any(stem in low for stem in STEMS):
        return False
    words = [word.lower() for word in _WORD.findall(name)]
    while len(words) > 1 and (words[-1] in _NEUTRAL or words[-1].isdecimal()):
        words.pop()
    if not words:
        return False
    last = words[-1]
    before = words[-2] if len(words) > 1 else ""
    if last in _ABOUT:
        return False
    if last == "token":
        return before not in _TOKEN_NOT
    if last in ("authorization", "cookie", "cookies", "auth", "jwt", "bearer"):
        return True
    if last == "pass" and before in _PASS_OF:
        return True
    if any(word in _STRONG or word.endswith(_JOINED) for word in words):
        return True
    if last == "key" and "azure" in words:
        return True
    return any(
        (b in ("key", "keys") and a in _KEY_OF)
        or (b in ("token", "tokens") and a in _TOKEN_OF)
        or (a, b) in _PAIRS
        for a, b in pairwise(words)
    )

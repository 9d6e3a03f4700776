"""Masking: no secret leaves, nothing else is eaten, JSON stays JSON, and the ordinary message pays nothing."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from otel_stage import redact
from otel_stage.redact import MASK, Redactor, is_secret_key
from otel_stage.redact._keyed import mask_keyed
from otel_stage.redact._names import STEMS
from otel_stage.redact._shapes import mask_shapes
from otel_stage.redact._suspicion import suspicious

SECRET_NAMES = """
password passwd PWD pwd passphrase secret token api_key apikey api-key apiKey APIKey X-Api-Key access_key accessKeyId
aws_secret_access_key private_key client_secret credential credentials authorization Proxy-Authorization auth_token
authToken cookie set-cookie Set-Cookie session_id sessionId JSESSIONID connection_string ConnectionStrings DB_PASS
PGPASSWORD MYSQL_PWD SSHPASS db.password stage.config.api_key AccountKey SharedAccessKey hf_token GITHUB_TOKEN_ORG
OPENAI_KEY AZURE_STORAGE_KEY password2 dbPASSWORD api_keys access_tokens jwt _auth basic_auth SECRET_KEY signing_key
X-Amz-Security-Token X-Amz-Signature X-Amz-Credential secret_id refresh_token csrf_token password_hash --password
""".split()
OTHER_NAMES = """
author authors authority authored authentic authenticated auth_method authorization_url tokenizer tokens max_tokens
num_tokens token_count token_ids token_type token_limit eos_token pad_token eos_token_id next_page_token total_tokens
keyboard key keys monkey primary_key cache_key public_key keyframe keywords secretary passenger compass bypass passed
first_pass two_pass cookie_jar_path session connection connection_timeout signal signature design password_file
password_length min_password_length api_key_name credentials_file OLDPWD GPG_KEY
""".split()

AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabc+/=\n-----END RSA PRIVATE KEY-----"
SHAPES = [
    "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE", "ghp_" + "a1B2" * 9, "gho_" + "a1B2" * 9, "ghs_" + "a1B2" * 9,
    "github_pat_" + "a1B2_" * 8, "glpat-" + "x1Y2z3-_" * 3, "xoxb-123456789012-abcdefABCDEF", "AIza" + "Sy0-_" * 7,
    "sk-" + "a1B2" * 12, "sk-ant-api03-" + "a1B2-_" * 6, "sk-proj-" + "a1B2" * 9, "hf_" + "aBcDeFgH" * 4,
    "sk_live_" + "a1B2" * 6, "npm_" + "a1B2" * 9, "pypi-AgEIcHlwaS5vcmc" + "a1B2" * 9, JWT, PEM,
]  # fmt: skip


@pytest.fixture
def r() -> Redactor:
    """Give a redactor that knows no environment."""
    return Redactor({})


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_secret_names_are_known_in_every_spelling(name: str) -> None:
    """Snake, kebab, dotted and camel case name the same secrets."""
    assert is_secret_key(name)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_names_that_merely_contain_a_secret_word_are_not_secret(name: str) -> None:
    """Nothing is eaten because "auth", "key", "pass" or "token" occurs in its name."""
    assert not is_secret_key(name)
    assert Redactor({}).text(f"{name}=value, {name}: value") == f"{name}=value, {name}: value"
    assert Redactor({}).value(name, "value") == "value"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password=hunter2 next", "password=*** next"),
        ("password: hunter2, user: bob", "password: ***, user: bob"),
        ("password=hun,ter;2) user=bob", "password=***) user=bob"),
        ('{"password": "hunter 2", "n": 1}', '{"password": "***", "n": 1}'),
        ("{'password': 'hunter 2', 'n': 1}", "{'password': '***', 'n': 1}"),
        (r"{'password': 'it\'s hunter2', 'n': 1}", "{'password': '***', 'n': 1}"),
        ('{"password": 12345, "n": 1}', '{"password": "***", "n": 1}'),
        (r'body {\"password\": \"hunter \\\" 2\", \"n\": 1}', r"body {\"password\": \"***\", \"n\": 1}"),
        ('password="never closed\nnext line', 'password="***\nnext line'),
        ("password='''it's hunter2''' next", "password='''***''' next"),
        ("token=b'hunter2' next", "token=b'***' next"),
        ("password => 'hunter2'", "password => '***'"),
        ("password: str = 'hunter2'", "password: ***"),
        ("password: str | None = 'hunter2'", "password: ***"),
        ("password = token = 'hunter 2'", "password = ***"),
        ("password: token: hunter2", "password: ***"),
        ("os.environ['API_KEY'] = 'hunter2'", "os.environ['API_KEY'] = '***'"),
        ("first line\\npassword=hunter2", "first line\\npassword=***"),
        ("credentials={'user': 'bob', 'pw': 'hunter)2'} n=1", "credentials=*** n=1"),
        ("API key: hunter2", "API key: ***"),
        ("Authorization: Bearer hunter2 ok", "Authorization: Bearer *** ok"),
        ("authorization: Digest a=hunter2, b=hunter2\nnext", "authorization: ***\nnext"),
        ('-H "Authorization: Foo hunter2" http://x', '-H "Authorization: ***" http://x'),
        ("-H 'X-Api-Key: hunter 2' http://x", "-H 'X-Api-Key: ***' http://x"),
        ("Cookie: a=hunter2; b=hunter2\nnext", "Cookie: ***\nnext"),
        ("got Bearer abc123hunter2", "got Bearer ***"),
        ("Proxy Basic " + base64.b64encode(b"bob:hunter2").decode() + " sent", "Proxy Basic *** sent"),
        ("postgres://bob:hunter2@db/x", "postgres://bob:***@db/x"),
        ("postgres://bob:hun@ter2@db/x", "postgres://bob:***@db/x"),
        ("redis://:hunter2@db", "redis://:***@db"),
        ("https://token:hunter2@host/x", "https://token:***@host/x"),
        ("https://hunter2token@github.com/x.git", "https://***@github.com/x.git"),
        (r"https:\/\/bob:hunter2@host", r"https:\/\/bob:***@host"),
        ("https://h/?api_key=hunter2&x=1", "https://h/?api_key=***&x=1"),
        ("https://h/?x=1&sig=hunter2&y=2", "https://h/?x=1&sig=***&y=2"),
        ("https://s3/?X-Amz-Signature=hunter2&X-Amz-Date=2025", "https://s3/?X-Amz-Signature=***&X-Amz-Date=2025"),
        ("Server=x;Uid=sa;Pwd=hunter2;Database=y", "Server=x;Uid=sa;Pwd=***;Database=y"),
        ("mysql --password hunter2 -u root", "mysql --password *** -u root"),
        ("Command '['mysql', '--password', 'hunter2']' failed", "Command '['mysql', '--password', '***']' failed"),
        (f"id AKIAIOSFODNN7EXAMPLE with {AWS_SECRET}", "id *** with ***"),
    ],
)
def test_secrets_in_text_are_masked_and_the_rest_stays(r: Redactor, text: str, expected: str) -> None:
    """Neither quotes, escapes, spaces nor separators defeat the rule, and what stands around a secret survives."""
    assert r.text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "Processing chunk 12 of 5000, 3 items", "epoch=3 loss=0.25 lr=1e-4", "by author: Bob, authority=x",
        "Basic usage of bearer authentication", "https://auth:8080/token", "ssh://git@github.com/x", "std::token::Foo",
        "token: null, password=None, secret: false", "PWD=/home/bob HOME=/home/bob", "sha256:" + "0" * 64,
        "task-level sk-learn hf_hub npm_config eyJust", "Kept 12 tokens, 3 keys", "a@b.c: hello", "password=***",
        "Unexpected token: }", "-----BEGIN CERTIFICATE-----", "commit " + "a1" * 20, '{"key":null,"token":true}',
    ],
)  # fmt: skip
def test_text_without_secrets_is_the_same_object(r: Redactor, text: str) -> None:
    """Nothing is copied, changed or counted when there is nothing to mask."""
    assert r.text(text) is text
    assert r.count == 0


@pytest.mark.parametrize("secret", SHAPES, ids=lambda s: s[:8])
@pytest.mark.parametrize("around", ["{}", "got {}, then", "'{}'", "x={}", "(a){}(b)", "line\\n{}"])
def test_known_token_shapes_are_masked_wherever_they_stand(r: Redactor, secret: str, around: str) -> None:
    """A token is known by its shape alone, with no telling name beside it."""
    assert r.text(around.format(secret)) == around.format(MASK)
    assert r.count == 1


def test_a_private_key_that_was_cut_off_is_masked_to_the_end(r: Redactor) -> None:
    """Half a key is still a secret."""
    assert r.text("key:\n" + PEM[:60]) == "key:\n***"


def test_values_of_secret_variables_are_masked_in_every_spelling() -> None:
    """The value itself, percent-encoded, and as JSON or a repr escapes it."""
    value = 'p"ä ss/wörd\\'
    r = Redactor({"SERVICE_TOKEN": value, "NAME": "harmless value"})
    for form in (value, quote(value), quote(value, safe=""), quote(value, safe="").lower(), repr(value)[1:-1],
                 json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):  # fmt: skip
        assert r.text(f"see {form} there") == "see *** there"
    assert r.text("a harmless value") == "a harmless value"


def test_passwords_inside_url_variables_are_known() -> None:
    """DATABASE_URL has no secret name, but its password must not show up elsewhere either."""
    assert Redactor({"DATABASE_URL": "postgres://bob:hunter22@db/x"}).text("tried hunter22") == "tried ***"


def test_a_multi_line_secret_is_known_line_by_line() -> None:
    """A child that prints a key prints it in lines, and each is a record of its own."""
    r = Redactor({"DEPLOY_KEY": "-----BEGIN X-----\nAAAABBBBCCCCDDDDEEEE\n-----END X-----"})
    assert r.text("AAAABBBBCCCCDDDDEEEE") == MASK


@pytest.mark.parametrize("value", ["true", "1", "abc", "secret", "default", "123456", "/", os.path.expanduser("~"), "/usr"])
def test_trivial_values_of_secret_variables_are_left_alone(value: str) -> None:
    """A word, a small number or an existing path in a secret variable does not blank out the whole log."""
    text = f"a {value} b"
    assert Redactor({"MY_SECRET": value, "PWD": os.getcwd()}).text(text) is text


def test_a_secret_can_be_added_and_stays_known_when_its_variable_goes() -> None:
    """Programs take a token out of the environment as soon as they have read it."""
    r = Redactor({"A_TOKEN": "first-secret"})
    r.refresh({"B_TOKEN": "second-secret"})
    r.add_secret("third one")
    r.add_secret("x")
    assert r.text("first-secret second-secret third one x") == "*** *** *** x"


def test_the_longer_of_two_nested_secrets_goes_whole() -> None:
    """A secret that contains another leaves no tail."""
    assert Redactor({"A_TOKEN": "abcdef", "B_TOKEN": "abcdef-ghijkl"}).text("abcdef-ghijkl abcdef") == "*** ***"


def test_values_are_masked_by_key_and_everything_below_it(r: Redactor) -> None:
    """A secret name covers the whole tree below; absence, switches and empty text tell nothing and stay."""
    value = {
        "model": "large-v2",
        "n": [1, 2.5, None],
        "db": {"password": "x", "port": 5432, "url": "pg://u:p@h"},
        "credentials": {"user": "bob", "pins": [1, (2, "a")], "set": True, "none": None, "empty": ""},
        "api_key": 12345,
        "password": None,
    }
    assert r.value("config", value) == {
        "model": "large-v2",
        "n": [1, 2.5, None],
        "db": {"password": MASK, "port": 5432, "url": "pg://u:***@h"},
        "credentials": {"user": MASK, "pins": [MASK, (MASK, MASK)], "set": True, "none": None, "empty": ""},
        "api_key": MASK,
        "password": None,
    }
    assert r.count == 7
    assert value["api_key"] == 12345
    assert r.value("token", "abc") == MASK
    assert r.mapping({"a": "token=x"}) == {"a": "token=***"}
    assert r.value("", {"x" * 9 + SHAPES[0]: 1}) != {}


def test_a_harmless_value_comes_back_as_the_same_object(r: Redactor) -> None:
    """Nothing is copied when nothing is masked."""
    value = {"a": [1, {"b": ("c", None)}], 3: "d"}
    assert r.value("config", value) is value


def test_a_secret_as_a_mapping_key_is_masked(r: Redactor) -> None:
    """Some configs are keyed by token."""
    assert r.mapping({SHAPES[2]: 1}) == {MASK: 1}


def test_values_too_deep_to_examine_are_masked(r: Redactor) -> None:
    """What cannot be looked at does not leave."""
    deep: Any = "hunter2"
    for _ in range(500):
        deep = [deep]
    assert "hunter2" not in json.dumps(r.value("", deep))


def test_argument_lists_are_masked(r: Redactor) -> None:
    """Options apart and joined, assignments, headers, curl's user and URLs, spaces in the value included."""
    args = [
        "curl", "-u", "bob:hunter2", "-H", "Authorization: Bearer hunter2", "--header", "X-Api-Key: hunter 2",
        "--password", "hunter2", "-token", "hunter2", "--password=hunter 2", "API_KEY=hunter 2", "-e", "--env=DB_PASSWORD=hunter 2",
        "https://bob:hunter2@host/?token=hunter2", "--password", "--verbose", "n=3", "--tokens", "hunter", "author=bob",
    ]  # fmt: skip
    assert r.argv(args) == [
        "curl", "-u", "bob:***", "-H", "Authorization: Bearer ***", "--header", "X-Api-Key: ***",
        "--password", "***", "-token", "***", "--password=***", "API_KEY=***", "-e", "--env=DB_PASSWORD=***",
        "https://bob:***@host/?token=***", "--password", "--verbose", "n=3", "--tokens", "hunter", "author=bob",
    ]  # fmt: skip
    assert r.count == 10
    assert r.value("argv", ["x", "--password", "hunter2"]) == ["x", "--password", MASK]
    assert r.argv(["docker", "run", "-u", "1000:1000"]) == ["docker", "run", "-u", "1000:1000"]


def test_the_mask_tells_nothing(r: Redactor) -> None:
    """Secrets of different length and kind leave the same mark."""
    assert {r.text(f"password={'x' * n}") for n in (1, 10, 1000)} == {"password=***"}


def test_a_journal_line_keeps_its_form(r: Redactor) -> None:
    """Nested secrets, numbers, JSON within JSON and escapes: the line stays JSON and the rest stays as it was."""
    inner = json.dumps({"password": 'a "quoted" one', "n": 1})
    line = {"event": "x", "credentials": {"pin": 12345}, "body": inner, "api_key": 1.5, "f": 1e-7, "big": 2**70, "u": "ü\u2028"}
    for raw in (json.dumps(line), json.dumps(line, separators=(",", ":"), ensure_ascii=False), json.dumps(line) + "\n"):
        out = r.text(raw)
        assert json.loads(out) == line | {
            "credentials": {"pin": MASK}, "api_key": MASK, "body": json.dumps({"password": MASK, "n": 1}),
        }  # fmt: skip
        assert out.endswith("\n") == raw.endswith("\n")


def test_unicode_escapes_do_not_hide_a_secret(r: Redactor) -> None:
    """A JSON document may spell any character as an escape."""
    out = r.text(r'{"pass\u0077ord":"hunter2","x":"\u0067hp_a1B2a1B2a1B2a1B2a1B2","lone":"\ud800"}')
    assert json.loads(out) == {"password": MASK, "x": MASK, "lone": "\ud800"}
    assert json.loads(r.text(r'["\u0067\u0068p\u005fa1B2a1B2a1B2a1B2a1B2"]')) == [MASK]


def test_counts_are_kept_across_threads(r: Redactor) -> None:
    """No masked value is lost from the count, whoever masked it."""
    threads = [threading.Thread(target=lambda: [r.text("password=x") for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert r.count == 2000


def test_the_shared_redactor_sees_a_new_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is set while the program runs is masked once the next look is due."""
    assert redact.redactor() is redact.redactor()
    monkeypatch.setenv("LATE_TOKEN", "a-late-secret-value")
    monkeypatch.setattr(redact._Shared, "next_look", 0.0)
    assert redact.redactor().text("a-late-secret-value") == MASK


def test_masking_imports_little() -> None:
    """A program that only masks pays for no OpenTelemetry and no URL parser."""
    code = "import sys, otel_stage.redact; sys.exit(any(m.startswith(('opentelemetry', 'urllib', 'msgspec')) for m in sys.modules))"
    environ = {k: v for k, v in os.environ.items() if not is_secret_key(k)}
    assert subprocess.run([sys.executable, "-S", "-c", code], env=environ | {"PYTHONPATH": os.pathsep.join(sys.path)}).returncode == 0


# Properties

FRAGMENTS = st.sampled_from(
    ["token", "password", "Cookie", "Authorization", "api ", "key", "=", ":", " ", '"', "'", "\\", "\n", "\\n", "[", "]",
     "{", "}", "(", ")", ",", "a", "|", "<", "--", "-", "&", "?sig", "https://", "//", "@", "eyJ", "sk-", "Bearer ", "basic ",
     ".", "_", "AKIA", "IOSFODNN7EXAMPLE", "-----BEGIN PRIVATE KEY-----", "`", "hf_", "***", "1", "null", "é", "abcdefghij0"]
)  # fmt: skip
HOSTILE = st.lists(FRAGMENTS, max_size=14).map("".join) | st.text(max_size=60)
WORDS = st.text("abcdefghijklmno ", min_size=1, max_size=12)
TOKEN = st.text("QRSTUVWXYZ23456789!$%/+", min_size=8, max_size=20).map(lambda t: "Zq" + t)


@settings(max_examples=400, deadline=None)
@given(HOSTILE)
def test_masking_twice_is_masking_once(text: str) -> None:
    """What was masked stays as it is and is not counted again."""
    r = Redactor({"X_TOKEN": "abcdefghij"})
    once = r.text(text)
    count = r.count
    assert r.text(once) == once
    assert r.count == count


@settings(max_examples=400, deadline=None)
@given(HOSTILE)
def test_the_cheap_tests_never_cause_a_miss(text: str) -> None:
    """Whatever the patterns would mask passes the test that decides whether to run them."""
    if mask_shapes(text)[1] or mask_keyed(text)[1]:
        assert suspicious(text)
        assert Redactor({}).text(text) != text


@given(st.text("aAbBpPsSwWoOrRdDtTkKeEnN_-.yYuUhHcCiIgG1", max_size=24))
def test_every_secret_name_has_one_of_the_stems(name: str) -> None:
    """The list that the cheap test goes by is complete."""
    if is_secret_key(name):
        assert any(stem in name.lower() for stem in STEMS)


@given(WORDS, TOKEN, st.sampled_from(["password", "apiKey", "X-Auth-Token", "db.secret"]), st.sampled_from(["'", '"', ""]))
def test_no_secret_survives_any_quoting(before: str, secret: str, name: str, mark: str) -> None:
    """Plain, quoted, as a dict's repr, as JSON, and as JSON within JSON within a message."""
    r = Redactor({})
    texts = [
        f"{before} {name}={mark}{secret}{mark} after",
        f"{before} {name}: {mark}{secret}{mark}\nafter",
        str({"n": 1, name: secret, "m": before}),
        json.dumps({"n": 1, name: secret, "m": before}),
        "got " + json.dumps({"body": json.dumps({name: secret, "m": before})}),
        "got " + json.dumps({"body": json.dumps({"b": json.dumps({name: f'{secret}" {secret}'})})}),
        str(["prog", f"--{name}", secret]),
    ]
    for text in texts:
        assert secret not in r.text(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(WORDS, JSON, max_size=5), TOKEN, st.sampled_from(["password", "api-key"]), st.booleans(), st.data())
def test_json_lines_stay_json_and_other_fields_stay(
    other: dict[str, Any], secret: str, name: str, compact: bool, data: st.DataObject
) -> None:
    """A masked journal line is the same object with the secret gone, also when the secret stands in free text."""
    assume(secret not in json.dumps(other))
    # A drawn word may be a secret name by itself: what stands there is no "other field".
    assume(Redactor({}).mapping(other) == other)
    r = Redactor({"ENV_TOKEN": secret})
    text = data.draw(st.sampled_from([f"it was {secret} there", f"q\"'\\ {secret}", f"{name}={secret}"]))
    line = other | {"Note": text, name: data.draw(st.sampled_from([secret, 17, [secret, {"Deep": secret}]]))}
    raw = json.dumps(line, separators=(",", ":") if compact else None, ensure_ascii=data.draw(st.booleans()))
    out = r.text(raw)
    parsed = json.loads(out)
    assert {k: parsed[k] for k in other if k != name} == {k: other[k] for k in other if k != name}
    assert json.dumps(secret)[1:-1] not in out
    assert parsed["Note"] == text.replace(secret, MASK)
    assert r.text(out) == out
    assert r.mapping(line) == parsed


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(HOSTILE, HOSTILE | st.lists(HOSTILE, max_size=3), max_size=3), st.booleans())
def test_a_json_text_is_masked_as_the_value_it_stands_for(value: dict[str, Any], compact: bool) -> None:
    """Masking the text of a document and masking the document itself come to the same."""
    raw = json.dumps(value, separators=(",", ":") if compact else None)
    assert json.loads(Redactor({}).text(raw)) == Redactor({}).mapping(value)


@pytest.mark.parametrize(
    "unit",
    ["a", "a=b ", "token=a ", 'token="a" ', 'token="', "token=[ ", "token=['a\n", 'token=\\"', "eyJaaaaaaaaa-", "://a:b",
     "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "password ", "token = ", "'--token', ", "_token", "Basic abcdef", '"token=a'],
)  # fmt: skip
def test_hostile_text_takes_time_in_proportion(r: Redactor, unit: str) -> None:
    """Five times the text takes about five times as long, not twenty-five times."""

    def best(size: int) -> float:
        text = "token: " + unit * (size // len(unit))
        times = []
        for _ in range(3):
            start = time.process_time()
            r.text(text)
            times.append(time.process_time() - start)
        return min(times)

    assert best(100_000) < 12 * best(20_000) + 0.002

"""Masking: no form of a secret survives in a text, a structure or a stream, and everything else stays as it was."""

from __future__ import annotations

import base64
import html
import json
import re
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, quote_plus

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from osiris_core.redaction import MASK, Redactor, has_url_password, is_secret_field

SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=6, max_size=40).filter(
    lambda text: len(set(text)) > 3 and not text.isspace() and "*" not in text
)
AROUND = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def written(secret: str, before: str, after: str) -> dict[str, str]:
    """The secret as other programs write it, between other text."""
    raw = secret.encode()
    whole = f"{before}{secret}{after}"
    return {
        "clear": whole,
        "url": f"{before}{quote(secret, safe='')}{after}",
        "url, lower": f"{before}{re.sub('%..', lambda hit: hit[0].lower(), quote(secret, safe=''))}{after}",
        "path": f"{before}{quote(secret)}{after}",
        "form": f"{before}{quote_plus(secret)}{after}",
        "json": json.dumps(whole),
        "json, not ascii": json.dumps(whole, ensure_ascii=False),
        "json in json": json.dumps(json.dumps(whole)),
        "repr": repr(whole),
        "ascii": ascii(whole),
        "bytes": repr(whole.encode()),
        "hex": f"{before}{raw.hex()}{after}",
        "UTF-8 read as Latin-1": f"{before}{raw.decode('latin-1')}{after}",
        "sql": f"{before}{secret.replace(chr(39), chr(39) * 2)}{after}",
        "html": html.escape(whole),
        "base64": base64.b64encode(before.encode() + raw + after.encode()).decode(),
        "base64, url": base64.urlsafe_b64encode(before.encode() + raw + after.encode()).decode(),
    }


@given(SECRETS, AROUND, AROUND)
def test_no_form_survives(secret: str, before: str, after: str) -> None:
    """Written in any usual way, at any place of a text, a secret is not in the masked text."""
    assume(secret not in before + after)
    redactor = Redactor([secret])
    assume(redactor.text(secret) == MASK)
    for form, text in written(secret, before, after).items():
        assert MASK in redactor.text(text), form
        assert secret not in redactor.text(text), form
        assert secret.encode() not in redactor.data(text.encode()), form
        assert MASK in redactor.data(text.encode()).decode(), form
        masked = redactor.value({"a": [text, {text: (text,)}]})
        assert secret not in json.dumps(masked, ensure_ascii=False), form


TOKEN = "github_pat_11ABCDEFG0aZ9yX8wV7uT6_sR5qP4oN3mL2kJ1iH0gF9eD8cB7aZ6yX5wV4uT3sR2qP1oN0mL9kJ8iH7gF6eD5"


def broken(text: str, width: int, end: str) -> str:
    return end.join(text[at : at + width] for at in range(0, len(text), width)) + end


def in_lines(before: str, width: int, end: str) -> dict[str, str]:
    """The token behind other text, encoded and broken into lines."""
    raw = f"{before}{TOKEN} and more".encode()
    return {
        "base64": broken(base64.b64encode(raw).decode(), width, end),
        "hex": broken(raw.hex(), width, end),
        "HEX": broken(raw.hex().upper(), width, end),
    }


@given(st.integers(0, 90), st.integers(16, 80), st.sampled_from(["\n", "\r\n"]))
def test_no_form_survives_in_lines(before: int, width: int, end: str) -> None:
    """A long secret is masked in base64 and hex also where a program broke them into lines."""
    redactor = Redactor([TOKEN])
    for form, text in in_lines("x" * before, width, end).items():
        text = f"é log line\n{text}another line\n"
        masked = redactor.text(text)
        assert masked.startswith("é log line\n"), form
        assert masked.endswith("another line\n"), form
        aligned = base64.b64encode(b"x" * (before % 3) + TOKEN.encode()).decode()[4:-4]
        plain = aligned if form == "base64" else TOKEN.encode().hex()
        left = "".join(masked.split()).lower()
        assert not any(plain[at : at + 12].lower() in left for at in range(len(plain) - 12)), form
        assert redactor.data(text.encode()).decode() == masked, form


@given(st.integers(0, 90), st.integers(16, 80), st.lists(st.integers(0, 90), max_size=12), st.booleans())
def test_a_stream_of_lines_cut_anywhere(before: int, width: int, cuts: list[int], crlf: bool) -> None:
    """However the lines of an encoded secret arrive in pieces, the joined output is that of masking them at once."""
    redactor = Redactor([TOKEN])
    for text in in_lines("x" * before, width, "\r\n" if crlf else "\n").values():
        whole = rest = f"ready\n{text}done\n".encode()
        stream, found = redactor.stream(), b""
        for cut in cuts:
            found, rest = found + stream.feed(rest[:cut]), rest[cut:]
        assert found + stream.feed(rest) + stream.finish() == redactor.data(whole)


def test_a_line_does_not_wait_for_the_next() -> None:
    """What only ends as a secret begins is handed on with the end of its line."""
    stream = Redactor([TOKEN]).stream()
    for char in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789":
        assert stream.feed(f"line {char}\n".encode()) == f"line {char}\n".encode()


@given(st.lists(SECRETS, min_size=1, max_size=4), st.lists(st.integers(0, 60), max_size=12), AROUND)
def test_a_stream_cut_anywhere_is_masked_as_a_whole(secrets: list[str], cuts: list[int], between: str) -> None:
    """However bytes arrive in pieces, the joined output is that of masking them at once."""
    redactor = Redactor(secrets)
    whole = between.join(["", *secrets, *secrets[::-1], ""]).encode()
    stream = redactor.stream()
    found, rest = b"", whole
    for cut in cuts:
        found, rest = found + stream.feed(rest[:cut]), rest[cut:]
    found += stream.feed(rest) + stream.finish()
    assert found == redactor.data(whole)
    assert not any(secret.encode() in found for secret in secrets if redactor.text(secret) == MASK)


def test_a_stream_byte_by_byte_with_one_secret_a_prefix_of_another() -> None:
    """The longer secret wins also when its end arrives last."""
    stream = Redactor(["hunter2", "hunter2-and-more"]).stream()
    pieces = [stream.feed(bytes([byte])) for byte in b"a hunter2-and-more b hunter2 c"]
    assert b"".join(pieces) + stream.finish() == b"a *** b *** c"


def test_a_stream_holds_back_the_beginning_of_a_secret() -> None:
    """What cannot be the start of a secret is handed on at once: a line is seen when it is printed."""
    stream = Redactor(["hunter2-hunter2"]).stream()
    assert stream.feed(b"ready\n") == b"ready\n"
    assert stream.feed(b"x" * 10_000) == b"x" * 10_000
    assert stream.feed(b"a hunter2") == b"a "
    assert stream.feed(b"-hunters, and hu") == b"hunter2-hunters, and "
    assert stream.feed(b"nter2-hunter2.") == b"***."
    assert Redactor().stream().feed(b"abc") == b"abc"


def test_one_secret_inside_another() -> None:
    """A secret that is a part of another leaves nothing of the longer one."""
    redactor = Redactor(["abcdef", "xxabcdefyy", "abcdefzz"])
    assert redactor.text("xxabcdefyy abcdef abcdefzz") == "*** *** ***"


@pytest.mark.parametrize("value", ["1", "true", "test", "", "     ", "------", "localhost", "Password", "00000000"])
def test_short_and_common_values_change_no_report(value: str) -> None:
    """A value that stands everywhere is not searched for."""
    redactor = Redactor([value])
    report = {"status": "test", "rows": 1, "ok": True, "line": "------ localhost 00000000", "run_id": "1-test"}
    assert redactor.value(report) == report
    assert redactor.text(f"x{value}x") == f"x{value}x"


def test_short_values_are_masked_by_their_field() -> None:
    """What cannot be searched for is masked where it stands under a secret's name, whatever its type."""
    value = {"password": "1", "api_key": 7, "nested": {"client_secret": ["x"], "token": {"a": 1}}, "port": 1}
    masked = {"password": MASK, "api_key": MASK, "nested": {"client_secret": MASK, "token": MASK}, "port": 1}
    assert Redactor().value(value) == masked
    assert Redactor().value("1", "password") == MASK


def test_a_reference_under_a_secret_field_stays() -> None:
    """`${NAME}` is no value, None says that there is none, and a flag tells nothing; a default is a value."""
    value = {"password": "${DB_PASSWORD}", "token": None, "secret": True}
    assert Redactor().value(value) == value
    assert Redactor().value({"password": "${A}literal}"}) == {"password": MASK}
    assert Redactor().value({"password": "${A}${B}"}) == {"password": MASK}


SECRET_FIELDS = """password PASSWORD MYSQL_PASSWORD PGPASSWORD db.password userPassword passwd passphrase pwd DB_PASS
secret client_secret clientSecret SECRET_KEY token access_token accessToken X-Auth-Token api_key apikey apiKey X-Api-Key
AWS_SECRET_ACCESS_KEY private_key service_role_key anon_key authorization Authorization dsn DATABASE_DSN credentials
connection_string account_key secrets STRIPE_KEY OPENAI_KEY
DB_PW pw GITHUB_PAT pat githubPat passcode DOOR_PASSCODE SECRET_KEY_BASE""".split()  # noqa: SIM905
PLAIN_FIELDS = """key KEY PRIMARY_KEY keys primary_key foreign_key sort_key cache_key business_key row_key
tokens tokens_per_s path patch pattern compat passcode_length
token_count author authority passed bypass compass pass_rate secret_names secretary monkey turnkey dsn_count rows_read
step_id run_id session_id event status sha256 fingerprint path name value bucket keyboard password_file_count""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", SECRET_FIELDS)
def test_secret_fields(name: str) -> None:
    """Fields that hold secrets by custom are known, in every usual spelling."""
    assert is_secret_field(name)


@pytest.mark.parametrize("name", PLAIN_FIELDS)
def test_plain_fields(name: str) -> None:
    """Names that only look like them are left alone."""
    assert not is_secret_field(name)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mysql://root:hunter2@db:3306/x", "mysql://root:***@db:3306/x"),
        ("a postgresql+psycopg://u:p%40ss@h/d b", "a postgresql+psycopg://u:***@h/d b"),
        ("redis://:pw@h", "redis://:***@h"),
        ("connect mysql://u:p@sswordX99@h/db failed", "connect mysql://u:***@h/db failed"),
        ("mysql://u:p@@h and me@example.org", "mysql://u:***@h and me@example.org"),
        ('["a://u:pw@h", "b://u:pw@h"]', '["a://u:***@h", "b://u:***@h"]'),
        ("https://host:8080/path?mail=me@example.org", "https://host:8080/path?mail=me@example.org"),
        ("mysql://u:${PW}@h", "mysql://u:${PW}@h"),
        ("https://user@host/", "https://user@host/"),
        ("no url: a@b", "no url: a@b"),
    ],
)
def test_passwords_in_urls_are_masked_unasked(text: str, masked: str) -> None:
    """The password in a URL is masked though nobody declared it; the rest of the URL stays readable."""
    assert Redactor().text(text) == masked
    assert has_url_password(text) == (text != masked)


@pytest.mark.parametrize(
    ("secret", "part"),
    [
        ("mysql://root:hunter2%40x@db/x", "hunter2%40x"),
        ("mysql://root:hunter2%40x@db/x", "hunter2@x"),
        ("host=db user=me password=hunter2 port=1", "hunter2"),
        ("Server=x;Pwd='hunter two';", "hunter two"),
        (json.dumps({"type": "service_account", "private_key": "-----BEGIN\nMIIabcdef\n-----END"}), "MIIabcdef"),
        ("-----BEGIN KEY-----\r\nMIIabcdef123\r\n-----END KEY-----\r\n", "MIIabcdef123"),
        ("hunter2-with-newline\n", "hunter2-with-newline"),
        ("mysql://u:p@sswordX99@h/db", "p@sswordX99"),
        (json.dumps({"installed": [{"client_secret": "zzz999zzz"}]}), "zzz999zzz"),
        (json.dumps({"secret": {"value": "zzz999zzz"}}), "zzz999zzz"),
        (json.dumps([{"private_key": "-----BEGIN\nQUJDREVGR0g=\n-----END"}]), "QUJDREVGR0g="),
    ],
)
def test_what_is_secret_inside_of_a_secret(secret: str, part: str) -> None:
    """A message shows the password of a DSN or a line of a key: those are masked as well."""
    assert part not in Redactor([secret]).text(f"Access denied with {part}.")


def test_a_project_name_in_a_service_account_is_no_secret() -> None:
    """Only the secret fields of a JSON secret are searched for one by one."""
    secret = json.dumps({"project_id": "production-eu", "private_key": "abcdefghijkl"})
    assert Redactor([secret]).text("production-eu abcdefghijkl") == "production-eu ***"


def test_numbers_stay_numbers() -> None:
    """A secret of digits masks texts, never a number: counts are true and JSON stays JSON."""
    redactor = Redactor(["123456"])
    event = {"rows": 123456, "ratio": 123456.5, "text": "pin 123456", "ok": True, "none": None}
    assert redactor.value(event) == {**event, "text": "pin ***"}


def test_bytes_that_are_no_text() -> None:
    """A secret of bytes that are not UTF-8, as an environment variable may hold it, is masked in every form."""
    raw = b"p\xff\xfessw\xf6rd!"
    redactor = Redactor([raw.decode("utf-8", "surrogateescape")])
    assert redactor.data(b"x" + raw + b"y") == b"x***y"
    assert raw not in redactor.data(raw * 2)
    assert redactor.text(raw.decode("utf-8", "surrogateescape")) == MASK
    assert redactor.text(quote(raw)) == MASK
    assert MASK in redactor.text(base64.b64encode(b"user:" + raw).decode())
    assert Redactor(["lone \ud800 surrogate"]).text("a lone \ud800 surrogate") == "a ***"
    assert Redactor(["hunter2"]).value(bytearray(b"\xff hunter2")) == "\ufffd ***"


class Angry:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_objects_become_masked_text() -> None:
    """An object that is no JSON is written as its text, and that is masked as well; none makes it fail."""
    redactor = Redactor(["hunter2"])
    found = redactor.value(
        {
            "error": ValueError("bad hunter2"),
            "path": PurePosixPath("/hunter2"),
            "number": Decimal("1.50"),
            "count": np.int64(5),
            "angry": Angry(),
            "set": {"hunter2"},
            (1, "hunter2"): 1,
        }
    )
    assert "hunter2" not in json.dumps(found)
    assert found["number"] == "1.50"
    assert found["count"] == 5
    assert "Angry" in found["angry"]


def test_a_structure_that_contains_itself_ends() -> None:
    """A circular structure comes out finite."""
    circular: dict[str, Any] = {"a": 1}
    circular["self"] = [circular]
    json.dumps(Redactor().value(circular))


def test_made_of_nothing_it_changes_nothing() -> None:
    """Without secrets every text without a URL's password is handed back as it was, and repeats are harmless."""
    assert Redactor(["", ""]).text("a") == "a"
    assert Redactor().data(b"a") == b"a"
    assert Redactor(["hunter2", "hunter2"]).text("hunter2") == MASK

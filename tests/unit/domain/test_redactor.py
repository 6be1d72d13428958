"""The redactor: what it takes for a secret, and that it fails closed."""

from __future__ import annotations

import asyncio

import pytest

from deeper_tasks.domain.redactor import Redactor


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("password=hunter2", "password=***"),
        ("password = 'hun ter2' for bob", "password = '***' for bob"),
        ('{"password": "hun\\"ter2", "user": "bob"}', '{"password": "***", "user": "bob"}'),
        ('{\\"password\\": \\"hunter2\\"}', '{\\"password\\": \\"***\\"}'),
        ("password=b'hunter2'", "password=b'***'"),
        ("Login(user='bob', password='hunter2', n=1)", "Login(user='bob', password='***', n=1)"),
        ("passwords=['hunter2', 'hunter3'], n=1", "passwords=***, n=1"),
        ("assert token == 'hunter2'", "assert token == '***'"),
        ("db_password: hunter2, n: 1", "db_password: ***, n: 1"),
        ("accessToken=hunter2", "accessToken=***"),
        ("AWS_SECRET_ACCESS_KEY=hun/ter+2==", "AWS_SECRET_ACCESS_KEY=***"),
        ("X-Api-Key: hunter2\nHost: x", "X-Api-Key: ***\nHost: x"),
        ("Authorization: Basic hunter 2\nHost: x", "Authorization: ***\nHost: x"),
        ("{'Authorization': 'Bearer hunter2', 'Accept': 'x'}", "{'Authorization': '***', 'Accept': 'x'}"),
        ("[(b'authorization', b'hunter2'), (b'a', b'b')]", "[(b'authorization', b'***'), (b'a', b'b')]"),
        ("Cookie: id=hunter2; other=hunter3\nHost: x", "Cookie: ***\nHost: x"),
        ('environ["SECRET"] = "hunter2"', 'environ["SECRET"] = "***"'),
        ("Key (email, token)=(a@b.c, hunter2) already exists.", "Key (email, token)=*** already exists."),
        ("postgresql://shop:hunter2@db:5432/shop?n=1", "postgresql://***@db:5432/shop?n=1"),
        ("https://hunter2@example.com/x", "https://***@example.com/x"),
        ("GET /x?n=1&token=hunter2&m=2", "GET /x?n=1&token=***&m=2"),
        ("mysql --password hunter2 --user bob", "mysql --password *** --user bob"),
        ("['mysql', '--password', 'hunter2']", "['mysql', '--password', '***']"),
        (
            "password\n  Input should be a valid integer [type=int_parsing, input_value='hunter2', input_type=str]",
            "password\n  Input should be a valid integer [type=int_parsing, input_value='***', input_type=str]",
        ),
        ("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\nrest", "***\nrest"),
        ("sent Bearer aGVsbG8gaGVsbG8gaGVs.b28", "sent ***"),
        ("cut: password='hunter2", "cut: password='***"),
        ("İ password=hunter2", "İ password=***"),
        ("PASSWORD=hunter2", "PASSWORD=***"),
        ("user=bob pass=hunter2", "user=bob pass=***"),
        ("SMTP_PASS: hunter2", "SMTP_PASS: ***"),
        ("db-pass='hunter2'", "db-pass='***'"),
        ("{'pass': 'hunter2'}", "{'pass': '***'}"),
        ("curl --pass hunter2 --user bob", "curl --pass *** --user bob"),
        ("Passwort=hunter2, passcode: hunter3", "Passwort=***, passcode: ***"),
        # What only looks a little like it stays.
        ("bypass=1, compass: north, passed: 3, passport=X1", "bypass=1, compass: north, passed: 3, passport=X1"),
        ("    if ok: pass\n    else: pass\n", "    if ok: pass\n    else: pass\n"),
        ("max_tokens=100, tokenizer=bert", "max_tokens=100, tokenizer=bert"),
        ("the password is wrong", "the password is wrong"),
        ("no such file: /etc/passwd", "no such file: /etc/passwd"),
        ("https://example.com/a?mail=bob@example.com", "https://example.com/a?mail=bob@example.com"),
        ("", ""),
    ],
)
def test_the_value_of_a_secret_name_is_withheld_and_all_else_stays(text, redacted):
    assert Redactor()(text) == redacted
    assert Redactor()(redacted) == redacted


def test_names_and_patterns_are_added_to_the_built_in_ones():
    redactor = Redactor(names=["IBAN", "card number"], patterns=[r"\b\d{4}-\d{4}\b"])
    assert redactor("iban=DE89, Card-Number: 77, password=x, 1234-5678") == (
        "iban=***, Card-Number: ***, password=***, ***"
    )


def test_a_function_gets_what_names_and_patterns_have_left():
    got = []

    def shout(text):
        got.append(text)
        return text.upper()

    assert Redactor(function=shout)("password=x bob") == "PASSWORD=*** BOB"
    assert got == ["password=*** bob"]


@pytest.mark.parametrize("error", [ValueError("hunter2"), SystemExit("hunter2"), asyncio.CancelledError("hunter2")])
def test_where_the_function_raises_the_whole_text_is_withheld(error):
    def fail(text):
        raise error

    assert Redactor(function=fail)("bob") == f"*** (withheld: the redactor failed with {type(error).__name__})"


@pytest.mark.parametrize("answer", [None, b"bob", 7])
def test_what_is_no_text_is_withheld(answer):
    assert "bob" not in Redactor(function=lambda _: answer)("bob")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"names": ["_"]}, "no letter or digit"),
        ({"patterns": ["("]}, "no regular expression"),
        ({"patterns": ["a*"]}, "matches the empty text"),
    ],
)
def test_what_would_hide_nothing_or_all_is_refused(given, reason):
    with pytest.raises(ValueError, match=reason):
        Redactor(**given)

"""The redactor: withholds text that looks like a secret from logs and stored errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from deeper_tasks.domain.text import LEFT_OUT, class_name

WITHHELD = "***"
"""The text that replaces a secret."""
REST_WITHHELD = "… (the rest is withheld: too long to be searched for secrets)"
"""The end of a redacted text that was cut before."""

_EDGE = 4_000
"""Characters withheld before a cut: they may be a part of a secret that is recognized only as a whole."""

SECRET_NAMES = (
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "passcode",
    "passwort",
    "pwd",
    "secret",
    "secrets",
    "token",
    "authorization",
    "cookie",
    "cookies",
    "api_key",
    "access_key",
    "secret_key",
    "private_key",
    "credential",
    "credentials",
)
"""
The names whose values are always withheld, also at the end of a longer name: `db_password`, `X-Api-Key`.

`pass` is such a name too where it is a whole word: `pass`, `DB_PASS`, but not `bypass`.
"""

_ALONE = r"(?<![a-z0-9])pass"

Redact = Callable[[str], str]
"""
An application's function: given a text, it returns the text without secrets.

It is called in any thread, also on the worker's event loop, so it must not wait.
"""

_HEADERS = frozenset({"authorization", "cookie"})
"""Names whose value, if it follows a colon without quotes, is the rest of the line."""

# The text between a name and its value: a bracket or quote that ends the name, then `=`, `:` or `=>`; the comma of a
# pair; or the lines of pydantic between the name of a field and its input.
_BETWEEN = (
    r"""(?:\\*["'])?[)\]]{0,2}\s{0,9}(?:={1,3}>?|:=?)\s{0,9}"""
    r"""|\\*["'],\s{0,9}"""
    r"""|\n[^\n\[]{0,300}\[[^\n]{0,300}?input_value="""
)
# A value: in quotes, with escaped characters; in quotes that are escaped themselves; in brackets; or up to the next
# space or punctuation. The closing quote is optional: the text may be cut.
_QUOTED = r""""(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'?|\\+(["'])[^"'\\\n]*(?:\\+["'])?"""
_BRACKETED = r"""[(\[{][^)\]}\n]*[)\]}]?"""
_PLAIN = r"""(?:(?:[Bb]earer|[Bb]asic|[Dd]igest|[Tt]oken)\s+)?[^\s"'`,;&<>()\[\]{}\\]*[^\s"'`,;&<>()\[\]{}\\:.]"""
_VALUE = rf"[bBfFrRuU]{{0,2}}(?:{_QUOTED})|{_BRACKETED}|{_PLAIN}"

_AFTER_NAME = re.compile(rf"({_BETWEEN})({_VALUE})")
_OPTION, _AFTER_OPTION = re.compile(r"(?:^|[\s\"'=])--?[\w-]*$"), re.compile(rf"([ \t]+)({_VALUE})")
_OPTION_LENGTH = 60
_REST_OF_LINE = re.compile(r"(\s{0,9}:[ \t]*)([^\s\"'(\[{][^\n]*)")
_OPENING = re.compile(r"""[bBfFrRuU]{0,2}\\*["']""")
_ALWAYS = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL), ""),
    (re.compile(r"://[^\s/?#\"'<>]+@"), "://{}@"),
    (re.compile(r"[Bb]earer\s+[A-Za-z0-9._~+/=-]{16,}"), ""),
)
_ASCII = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class Redactor:
    """
    A function that withholds the secrets in a text: `redactor("password=hunter2")` is `"password=***"`.

    It withholds:

    - the values of `SECRET_NAMES` and of the further `names`, in any case and with `_` or `-` between the words, in
      `name=value`, `"name": "value"`, `name: value`, pairs of a list and options of a program;
    - the user and password before the `@` of a URL, private keys and bearer tokens;
    - all matches of the regular expressions `patterns`;
    - all that the `functions` remove; each gets the text that the one before it returned.

    It fails closed. If a function raises, or returns no text, the whole text is withheld. If a text was cut before
    (`searchable`), the end before the cut is withheld too. Safe to use from any thread.
    """

    def __init__(
        self, *, names: Iterable[str] = (), patterns: Iterable[str] = (), function: Redact | None = None
    ) -> None:
        """
        Add names, regular expressions and a function to the rules that always hold.

        Raises:
            ValueError: a name has no letter or digit; or a pattern is no regular expression, or matches the empty text.
        """
        self.names, self.patterns = tuple(names), tuple(patterns)
        self.functions: list[Redact] = [] if function is None else [function]
        # The longest first: in `secret_key=…` no value follows `secret`.
        named = sorted({_pattern_of(name) for name in (*SECRET_NAMES, *self.names)}, key=len, reverse=True)
        self._names = re.compile("|".join([*named, _ALONE]))
        self._patterns = [_compiled(pattern) for pattern in self.patterns]

    def __call__(self, text: str) -> str:
        """Return a text without its secrets. Never raises."""
        try:
            *cut, last = text.split(LEFT_OUT)
            return "".join([*(_without_edge(self._redacted(part)) for part in cut), self._redacted(last)])
        except BaseException as error:  # noqa: BLE001 - the application's function: no part of the text may be shown
            return f"{WITHHELD} (withheld: the redactor failed with {class_name(error)})"

    def _redacted(self, text: str) -> str:
        for pattern, form in _ALWAYS:
            text = pattern.sub(form.format(WITHHELD) or WITHHELD, text)
        text = "".join(self._without_values(text))
        for pattern in self._patterns:
            text = pattern.sub(WITHHELD, text)
        for function in self.functions:
            text = function(text)
            if not isinstance(text, str):
                raise TypeError("it returned no text")
        return text

    def _without_values(self, text: str) -> Iterator[str]:
        """Yield the parts of a text, with the values of secret names withheld."""
        lowered = text.lower()
        if len(lowered) != len(text):
            # Some letter becomes two in lower case, and the positions would no longer agree.
            lowered = text.translate(_ASCII)
        kept = at = 0
        while (name := self._names.search(lowered, at)) is not None:
            found = _value_after(text, name)
            if found is None:
                at = name.start() + 1
                continue
            yield text[kept : found.start(2)]
            yield _in_quotes(found[2])
            kept = at = found.end()
        yield text[kept:]


def _without_edge(redacted: str) -> str:
    """Return a text that was cut, without its end, which may be half of a secret, unless that is withheld already."""
    return (redacted if redacted.endswith(WITHHELD) else redacted[:-_EDGE]) + REST_WITHHELD


def _value_after(text: str, name: re.Match[str]) -> re.Match[str] | None:
    """Return a match whose second group is the value of a name in a text; None if the name has no value."""
    end = name.end()
    if name[0] in _HEADERS and (rest := _REST_OF_LINE.match(text, end)) is not None:
        return rest
    found = _AFTER_NAME.match(text, end)
    if found is None and text[end : end + 1].isspace():
        before = text[max(0, name.start() - _OPTION_LENGTH) : name.start()]
        return _AFTER_OPTION.match(text, end) if _OPTION.search(before) else None
    return found


def _in_quotes(value: str) -> str:
    """Return the replacement of a value, in the quotes that the value had."""
    opening = _OPENING.match(value)
    if opening is None:
        return WITHHELD
    inside = value[opening.end() :]
    closing = inside[len(inside[:-1].rstrip("\\")) :] if inside.endswith(("'", '"')) else ""
    return f"{opening[0]}{WITHHELD}{closing}"


def _pattern_of(name: str) -> str:
    """Return a pattern for a name in lower case, with any separator: `api_key` matches `apikey` and `api-key`."""
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    if not words:
        message = f"the name {name!r} has no letter or digit"
        raise ValueError(message)
    return r"[-_ .]?".join(map(re.escape, words))


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        message = f"{pattern!r} is no regular expression: {error}"
        raise ValueError(message) from None
    if compiled.search("") is not None:
        message = f"the regular expression {pattern!r} matches the empty text"
        raise ValueError(message)
    return compiled

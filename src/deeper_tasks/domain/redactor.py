"""The redactor: withholds what looks like a secret in texts that are logged or stored, such as those of errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from deeper_tasks.domain.text import LEFT_OUT, class_name

WITHHELD = "***"
"""The text that replaces a secret."""
REST_WITHHELD = "… (the rest is withheld: too long to be searched for secrets)"
"""The end of a redacted text that was cut before."""

_EDGE = 4_000
"""Characters before a cut that are withheld, for they may be a part of a secret that is known only as a whole."""

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

`pass` is withheld too, where it is a word: `pass`, `DB_PASS`, but not `bypass`.
"""

_ALONE = r"(?<![a-z0-9])pass"

Redact = Callable[[str], str]
"""
An application's own function: given a text, it returns the text without its secrets.

It is called in any thread, and on the worker's event loop: it must not wait.
"""

_HEADERS = frozenset({"authorization", "cookie"})
"""Names whose value, where it stands unquoted after a colon, is all the rest of the line."""

# Between a name and its value: a bracket or quote that ends the name and `=`, `:` or `=>`; the comma of a pair; and
# what pydantic writes between the name of a field and its input.
_BETWEEN = (
    r"""(?:\\*["'])?[)\]]{0,2}\s{0,9}(?:={1,3}>?|:=?)\s{0,9}"""
    r"""|\\*["'],\s{0,9}"""
    r"""|\n[^\n\[]{0,300}\[[^\n]{0,300}?input_value="""
)
# A value: quoted, with what is escaped in it; in quotes that are escaped themselves; in brackets; or up to the next
# space or punctuation. What is cut off has no closing quote.
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
    Returns texts without the secrets in them: `redactor("password=hunter2")` is `"password=***"`.

    Withheld are the values of `SECRET_NAMES` and of the further `names`, whatever the case and the `_` or `-`
    inside, in `name=value`, `"name": "value"`, `name: value`, pairs of a list and options of a program; what
    stands before the `@` of a URL; private keys and bearer tokens; what one of the regular expressions `patterns`
    matches; and what the `functions` take out, each of which gets what the one before it returned.

    It fails closed: where a function raises, or returns no text, the whole text is withheld; where a text was cut
    before it came here (`searchable`), so is what stands right before the cut.
    May be used from any thread.
    """

    def __init__(
        self, *, names: Iterable[str] = (), patterns: Iterable[str] = (), function: Redact | None = None
    ) -> None:
        """
        Take names and regular expressions beside those that are always withheld, and a function.

        Raises:
            ValueError: a name has no letter or digit, or a pattern is no regular expression, or matches the empty text.
        """
        self.names, self.patterns = tuple(names), tuple(patterns)
        self.functions: list[Redact] = [] if function is None else [function]
        # The longest first: after `secret` of `secret_key` comes no value.
        named = sorted({_pattern_of(name) for name in (*SECRET_NAMES, *self.names)}, key=len, reverse=True)
        self._names = re.compile("|".join([*named, _ALONE]))
        self._patterns = [_compiled(pattern) for pattern in self.patterns]

    def __call__(self, text: str) -> str:
        """Return a text without its secrets. Never raises."""
        try:
            *cut, last = text.split(LEFT_OUT)
            return "".join([*(_without_edge(self._redacted(part)) for part in cut), self._redacted(last)])
        except BaseException as error:  # noqa: BLE001 - the application's function: nothing of the text may get out
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
        """Yield the parts of a text, those that are values of secret names withheld."""
        lowered = text.lower()
        if len(lowered) != len(text):
            # A letter that is two in lower case.
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
    """Return a text that was cut without what may be half of a secret; at the end of one that is withheld is none."""
    return (redacted if redacted.endswith(WITHHELD) else redacted[:-_EDGE]) + REST_WITHHELD


def _value_after(text: str, name: re.Match[str]) -> re.Match[str] | None:
    """Return the value of a name that stands in a text, as its second group; None: there is none."""
    end = name.end()
    if name[0] in _HEADERS and (rest := _REST_OF_LINE.match(text, end)) is not None:
        return rest
    found = _AFTER_NAME.match(text, end)
    if found is None and text[end : end + 1].isspace():
        before = text[max(0, name.start() - _OPTION_LENGTH) : name.start()]
        return _AFTER_OPTION.match(text, end) if _OPTION.search(before) else None
    return found


def _in_quotes(value: str) -> str:
    """Return what stands for a value, in the quotes that the value had."""
    opening = _OPENING.match(value)
    if opening is None:
        return WITHHELD
    inside = value[opening.end() :]
    closing = inside[len(inside[:-1].rstrip("\\")) :] if inside.endswith(("'", '"')) else ""
    return f"{opening[0]}{WITHHELD}{closing}"


def _pattern_of(name: str) -> str:
    """Return what matches a name in lower case, whatever is between its words: `api_key` is `apikey` and `api-key`."""
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

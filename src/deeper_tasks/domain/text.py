"""Text from outside, such as the message of an error, made fit for every store."""

from __future__ import annotations

LEFT_OUT = "… (the rest is left out)"
"""The end of a text that was cut because it is too long, and is not searched for secrets yet."""

_ELLIPSIS = "…"
_NAME = type.__dict__["__name__"]


def storable(words: object, *, most: int) -> str:
    """
    Return `str` of any object as plain text of at most `most` characters. Never raises.

    A lone surrogate becomes a question mark. If `str` fails, the text names the type of the object.
    """
    return _cut(words, most=most, end=_ELLIPSIS)


def searchable(words: object, *, most: int) -> str:
    """
    Return `str` of any object as `storable` does, for a `Redactor` to search.

    A cut may leave half of a secret, which cannot be recognized. A text that was cut ends with `LEFT_OUT`, and the
    redactor withholds the characters before it.
    """
    return _cut(words, most=most, end=LEFT_OUT)


def _cut(words: object, *, most: int, end: str) -> str:
    try:
        text = str.__str__(words if isinstance(words, str) else str(words))
    except BaseException:  # noqa: BLE001 - a `str` of other code may raise anything, and must not cost a job
        text = f"<{class_name(words)} without words>"
    if len(text) > most:
        text = text[: most - len(end)] + end
    return text.encode("utf-8", "replace").decode()


def class_name(value: object) -> str:
    """Return the name of an object's class, also if its metaclass redefines `__name__`. Never raises."""
    name: str = _NAME.__get__(type(value))
    return name

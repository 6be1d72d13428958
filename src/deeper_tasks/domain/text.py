"""Text: how words from outside, an error's or a handler's, are cut to what every store can hold."""

from __future__ import annotations

LEFT_OUT = "… (the rest is left out)"
"""The end of a text that was too long to be handed on whole, and is still to be searched for secrets."""

_ELLIPSIS = "…"
_NAME = type.__dict__["__name__"]


def storable(words: object, *, most: int) -> str:
    """
    Return any object's words as plain text of at most `most` characters. Never raises.

    A lone surrogate becomes a question mark. An object whose `str` fails is told by its type.
    """
    return _cut(words, most=most, end=_ELLIPSIS)


def searchable(words: object, *, most: int) -> str:
    """
    Return any object's words as `storable` does, for a `Redactor` that is still to search them.

    Where it is cut there may be half of a secret, which is not known as one: it ends with `LEFT_OUT` then, and
    the redactor withholds what stands right before that.
    """
    return _cut(words, most=most, end=LEFT_OUT)


def _cut(words: object, *, most: int, end: str) -> str:
    try:
        text = str.__str__(words if isinstance(words, str) else str(words))
    except BaseException:  # noqa: BLE001 - whatever the words of others do, they must not cost a job
        text = f"<{class_name(words)} without words>"
    if len(text) > most:
        text = text[: most - len(end)] + end
    return text.encode("utf-8", "replace").decode()


def class_name(value: object) -> str:
    """Return the name of an object's class, also of one whose metaclass has a name of its own. Never raises."""
    name: str = _NAME.__get__(type(value))
    return name

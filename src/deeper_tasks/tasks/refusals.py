"""Refusals: the reasons why an argument was refused, worded without values, which may be secret."""

from __future__ import annotations

import re
import sys
from typing import Any

import msgspec

from deeper_tasks.tasks.json_values import PlacedError

# msgspec quotes a value that is not a member of an Enum, not in a Literal, or not a tag.
_SHOWN_VALUE = re.compile(r"^(Invalid (?:enum )?value)(?: '.*'| -?\d+)(?= - at `|$)", re.DOTALL)
_LONGEST_STEP = 100

# Pydantic's own kinds of error whose texts quote a value, or another error's text.
_TELLTALE = frozenset(
    {"value_error", "assertion_error", "get_attribute_error", "mapping_type", "iteration_error", "uuid_parsing"}
)

# Pydantic's texts after reading JSON, which `PydanticKnownError` does not give.
_OF_JSON = frozenset({"Input should be an object", "Input should be a valid array"})


class RefusedError(ValueError):
    """The error of a refused value; its message shows nothing of the value."""


def reason_of(error: BaseException) -> str:
    """Return the reason why an argument was refused; for an error of another library's code, only its class."""
    if isinstance(error, PlacedError):
        return error.reason
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply, or contains itself"
    if isinstance(error, msgspec.MsgspecError) and _is_raised_here(error):
        return _of_msgspec(error)
    return f"the code of its class raised {type(error).__name__}"


def reason_of_model(error: Exception) -> str:
    """Return the reasons why a Pydantic model refused a value, by field; only Pydantic's own texts are used."""
    faults = getattr(error, "errors", None)
    if faults is None:
        return reason_of(error)
    listed = faults(include_url=False, include_input=False)
    return "; ".join(
        ": ".join(filter(None, (".".join(map(_step, fault["loc"])), _of_fault(fault)))) for fault in listed
    )


def _of_msgspec(error: msgspec.MsgspecError) -> str:
    text = str(error)
    cause = error.__cause__
    if cause is not None:
        # The value's class has raised the cause, and msgspec has added the place.
        place = text.removeprefix(str(cause)) if text.startswith(str(cause)) else ""
        return f"{cause if isinstance(cause, RefusedError) else _refused_by(_validator(cause), cause)}{place}"
    text = _SHOWN_VALUE.sub(r"\1", text)
    return text.replace("Expected", "expected", 1) if text.startswith("Expected") else text


def _is_raised_here(error: BaseException) -> bool:
    """Whether msgspec itself raised an error, and not the code of a class that raises msgspec's errors."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is None or trace.tb_frame.f_globals.get("__name__", "").startswith("deeper_tasks.")


def _validator(error: BaseException) -> str:
    """Return the name for messages of the code that raised an error; for a validator of attrs, with its field."""
    field = getattr(error.args[1], "name", None) if len(error.args) > 1 else None
    is_attribute = isinstance(field, str) and hasattr(error.args[1], "validator")
    return f"a validator of the field `{field}`" if is_attribute else "a validator"


def _refused_by(refuser: str, error: BaseException) -> str:
    return f"{refuser} refused it ({type(error).__name__})"


def _step(part: object) -> str:
    step = str(part)
    return step if len(step) <= _LONGEST_STEP else f"<{type(part).__qualname__}>"


def _of_fault(fault: dict[str, Any]) -> str:
    kind, context = fault["type"], fault.get("ctx")
    if kind == "union_tag_invalid":
        return f"The tag is none of the expected ones: {fault['ctx']['expected_tags']}"
    text = str(fault["msg"])
    if text in _OF_JSON or (kind not in _TELLTALE and text == _own_text(kind, context)):
        return text
    cause = (context or {}).get("error")
    return f"a validator refused it ({type(cause).__name__ if isinstance(cause, Exception) else kind})"


def _own_text(kind: str, context: dict[str, Any] | None) -> str | None:
    """Return Pydantic's text for a kind of error; None if the kind is defined by a validator."""
    try:
        text: str = sys.modules["pydantic_core"].PydanticKnownError(kind, context).message()
    except (KeyError, TypeError, ValueError):
        return None
    return text

"""The URL of a store, as it may be shown: without its secrets."""

from __future__ import annotations

import re

_USER_AND_PASSWORD = re.compile(r"^((?:[a-z][a-z0-9+.-]*://|(?!.*://))[^:/?#@]*):.*@", re.IGNORECASE | re.DOTALL)
_SECRET_PARAMETER = re.compile(r"([?&;][^=&;]*(?:pass|secret|token|key)[^=&;]*=)[^&;#]*", re.IGNORECASE)


def redacted(url: str) -> str:
    """
    Return a URL with `***` for its password and for parameters that look like secrets.

    A password that was not percent-encoded is hidden too, at the price of
    hiding what follows it up to the last `@`.
    """
    return _SECRET_PARAMETER.sub(r"\1***", _USER_AND_PASSWORD.sub(r"\1:***@", url))

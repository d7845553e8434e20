"""Single values as text for people and as JSON."""

from __future__ import annotations

import base64
import json
import math
from typing import Any


def plain(value: Any, digits: int | None = None) -> str:
    """Return a value as a person reads it; None is empty.

    Control characters are shown as escapes: a stored string must not be able to move the cursor
    or recolour the terminal.

    Args:
        value: what a result holds.
        digits: significant digits of floating-point numbers; all if None.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if digits is None else f"{value:.{digits}g}"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (list, tuple, dict)):
        value = jsonable(value)
        value = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(str(value))


def printable(text: str) -> str:
    r"""Replace control characters and the like by escapes such as ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def jsonable(value: Any) -> Any:
    """Return a value in JSON's own types: not-a-number and infinity are null, bytes base64."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if type(value).__name__ == "MonthDayNano":  # Arrow's interval
        months, days, nanoseconds = value
        return f"P{months}M{days}DT{nanoseconds / 1e9:g}S"  # ISO 8601
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return str(value)


def json_text(value: Any) -> str:
    """Return a value as JSON on one line."""
    return json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False)

"""Timestamps as RFC 3339 writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


def parse_timestamp(text: str) -> datetime | None:
    """Return a moment in UTC, without time zone; None for what RFC 3339, section 5.6, lacks.

    Digits beyond microseconds are cut off; a leap second is the first one of the next minute.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, _, sign, ahead, ahead_minutes = match.groups()[6:]
    leap = second == 60
    try:
        found = datetime(year, month, day, hour, minute, 59 if leap else second)
        found += timedelta(seconds=int(leap), microseconds=int((fraction or "0")[:6].ljust(6, "0")))
        if sign:
            if int(ahead) > 23 or int(ahead_minutes) > 59:
                return None
            shift = timedelta(hours=int(ahead), minutes=int(ahead_minutes))
            found += -shift if sign == "+" else shift
    except (ValueError, OverflowError):
        return None
    return found


def timestamp_text(moment: datetime) -> str:
    """Write a moment in UTC, to the second."""
    return moment.replace(tzinfo=UTC, microsecond=0).isoformat().replace("+00:00", "Z")

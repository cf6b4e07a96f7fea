"""Parses the key that says where a log without offsets of ours is read from."""

from datetime import UTC, datetime, timedelta

import msgspec

from ingestd.core.errors import ConfigError

EARLIEST, LATEST = "earliest", "latest"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def start_time_ms(key: str, start: str) -> int | None:
    """A time in milliseconds since the epoch; None for the two words. Errors: ``ConfigError``, which names the key."""
    if start in {EARLIEST, LATEST}:
        return None
    try:
        when = msgspec.convert(start, datetime)
    except msgspec.ValidationError:
        when = None
    if when is None or when.tzinfo is None:
        hint = "give earliest, latest, or a time such as 2026-01-31T00:00:00Z"
        raise ConfigError(f"{key} = {start} is neither earliest, latest nor a time with its zone", hint=hint)
    return max(0, (when - _EPOCH) // timedelta(milliseconds=1))

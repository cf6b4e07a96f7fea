"""Whether the store honours create-only writes: everything rests on it, so it is tried before anything is consumed."""

from ingestd.encode import pack
from ingestd.errors import ConfigError
from ingestd.guard import Guard
from ingestd.layout import PROBE
from ingestd.sinks import Sink, Stored


async def require_create_only(sink: Sink, guard: Guard) -> None:
    """Raises ``ConfigError`` for a store that overwrites. One key serves all starts, so that no litter is left."""
    body = pack(b"").data
    for _ in range(2):
        if await guard.call(lambda: sink.put_new(PROBE, body, {"purpose": "create-only probe"})) is Stored.EXISTS:
            return
    raise ConfigError(
        f"the store at {sink.url} ignores If-None-Match: it has overwritten {PROBE}, so two writers would lose rows",
        hint='use a store with conditional writes, or ask for duplicates with sink.delivery = "at-least-once"',
    )

"""Whether the store honours create-only writes: everything rests on it, so it is tried before anything is consumed."""

from ingestd.core.errors import ConfigError
from ingestd.core.gzip import compress
from ingestd.core.object_keys import PROBE
from ingestd.core.stored import Stored
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier


async def require_create_only(sink: Sink, guard: SinkRetrier) -> None:
    """Raises ``ConfigError`` for a store that overwrites. One key serves all starts, so that no litter is left."""
    body = compress(b"").data
    for _ in range(2):
        if await guard.call(lambda: sink.put_new(PROBE, body, {"purpose": "create-only probe"})) is Stored.EXISTS:
            return
    raise ConfigError(
        f"the store at {sink.url} ignores If-None-Match: it has overwritten {PROBE}, so two writers would lose rows",
        hint='use a store with conditional writes, or ask for duplicates with sink.delivery = "at-least-once"',
    )

"""Create-only writes: the test that the store honours them, and a write that finds out what holds a taken name."""

from collections.abc import Mapping

from ingestd.core.errors import ConfigError, SinkUnavailable
from ingestd.core.gzip import compress
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier

PROBE_KEY = ".ingestd/probe.gz"  # one key serves all starts, so that no litter is left


async def require_create_only(sink: Sink, retrier: SinkRetrier) -> None:
    """Write the same key twice; ``ConfigError`` where the store overwrites it, as every promise rests on this."""
    body = compress(b"").data
    for _ in range(2):
        if await retrier.call(sink.put_new, PROBE_KEY, body, {"purpose": "create-only probe"}) is Stored.EXISTS:
            return
    raise ConfigError(
        f"the store at {sink.url} ignores If-None-Match: it has overwritten {PROBE_KEY}, "
        "so two writers would lose rows",
        hint='use a store with conditional writes, or ask for duplicates with sink.delivery = "at-least-once"',
    )


async def create_or_find(
    sink: Sink, retrier: SinkRetrier, key: str, body: bytes, metadata: Mapping[str, str]
) -> ObjectInfo | None:
    """Create the object. Returns None where it was created, and the object that has its name where that is taken.

    A store may say that the name is taken (412) and then that there is no such object (404): the 412 was spurious, or
    its HEAD lags behind its PUT, or the object was deleted in between. That is an outage like others, with the code
    ``412-then-404``: the body is sent again only after a wait that grows.
    """
    taken = False

    async def create() -> ObjectInfo | None:
        nonlocal taken
        # Where only the HEAD failed, it alone is repeated.
        if not taken and await sink.put_new(key, body, metadata) is Stored.CREATED:
            return None
        taken = True
        found = await sink.head(key)
        taken = False
        if found is None:
            raise SinkUnavailable(
                f"cannot write {key}: the store says that it exists (412), and then that it does not (404)",
                code="412-then-404",
            )
        return found

    return await retrier.call(create)

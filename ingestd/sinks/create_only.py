"""Create-only writes: the test of the store, and a write that finds out what holds a taken name."""

from collections.abc import Mapping

from ingestd.core.errors import ConfigError, SinkUnavailable
from ingestd.core.gzip import compress
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier

PROBE_KEY = ".ingestd/probe.gz"  # one key serves all starts, so that no litter is left
_PROBE_METADATA = {"purpose": "create-only probe"}


async def require_create_only(sink: Sink, retrier: SinkRetrier) -> None:
    """Write the same key twice, and read the metadata that the store has of it: every promise rests on both.

    ``ConfigError`` where the store overwrites the object, or does not keep its metadata.
    """
    body = compress(b"").data
    found = await create_or_find(sink, retrier, PROBE_KEY, body, _PROBE_METADATA)
    if found is None:
        found = await create_or_find(sink, retrier, PROBE_KEY, body, _PROBE_METADATA)
    if found is None:
        raise ConfigError(
            f"the store at {sink.url} ignores If-None-Match: it has overwritten {PROBE_KEY}, "
            "so two writers would lose rows",
            hint='use a store with conditional writes, or ask for duplicates with sink.delivery = "at-least-once"',
        )
    if any(found.metadata.get(name) != text for name, text in _PROBE_METADATA.items()):
        raise ConfigError(
            f"the store at {sink.url} does not keep user metadata (x-amz-meta-*): {PROBE_KEY} has lost it, "
            "so a restart could not tell what was written",
            hint="use a store and proxies that keep it; where the bucket is a copy without metadata, use a new bucket",
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

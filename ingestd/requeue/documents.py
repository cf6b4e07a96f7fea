"""Small JSON documents in the sink in which requeue notes what it has produced."""

from typing import TypeVar

import msgspec

from ingestd.core.errors import IngestdError
from ingestd.core.gzip import compress, decompress
from ingestd.core.stored import Stored
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import Listing
from ingestd.sinks.retry import PATIENCE_S, SinkRetrier

_METADATA = {"purpose": "requeue"}

T = TypeVar("T")


class Documents:
    """Reads and creates them; none is ever changed."""

    def __init__(self, sink: Sink, retrier: SinkRetrier) -> None:
        self.listing = Listing(sink, retrier, PATIENCE_S)
        self._sink = sink
        self._retrier = retrier

    async def create(self, key: str, content: msgspec.Struct) -> Stored:
        """Write one, unless the name is taken: perhaps by an earlier attempt whose answer was lost."""
        body = compress(msgspec.json.encode(content) + b"\n").data
        return await self._retrier.call_briefly(self._sink.put_new, key, body, _METADATA)

    async def read(self, key: str, kind: type[T]) -> T:
        """One that is there. Errors: ``IngestdError`` where it is damaged."""
        body = await self.listing.get(key)
        try:
            return msgspec.json.decode(b"".join(decompress(body)), type=kind)
        except (msgspec.DecodeError, ValueError) as error:
            raise IngestdError(
                f"{key} in the sink cannot be read: {error}",
                hint="restore it: it says which records were produced, and without it some would be produced twice",
            ) from error

"""What a queue's objects hold: manifests of message ids, the metadata of data objects, and fences.

The promise of exactly once rests on these rules:

1. A batch is written only once a manifest with its message ids is in the sink, and only if that was certain before the
   first of its messages could be received by anybody else.
2. Who receives a message that was received before looks for manifests with its id. Where the data object of one is
   there, the message has landed. Where it is not, an empty object takes its name, the fence: that batch never lands.
3. A message is deleted once its data object is in the sink.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

import msgspec

from ingestd.core.gzip import compress, decompress
from ingestd.core.user_metadata import UserMetadata

MANIFEST_MAX = 64 << 20  # bytes of JSON: more than the ids of all messages that a queue hands out
FENCE = "fence"
FENCE_METADATA = {"purpose": FENCE}
FENCE_BODY = compress(b"").data  # a valid file without rows: Snowpipe loads nothing from it

_DIGEST_BYTES = 16


class Fate(Enum):
    """What has become of a batch, for good."""

    LANDED = "landed"
    FENCED = "fenced"  # its data object can never be written


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The messages of one batch."""

    queue_arn: str
    data_key: str
    message_ids: list[str]

    def encode(self) -> bytes:
        """As a gzip file of JSON."""
        return compress(msgspec.json.encode(self)).data

    @classmethod
    def decode(cls, body: bytes) -> "Manifest":
        """ValueError if `body` is not a manifest."""
        text = bytearray()
        for piece in decompress(body):
            text += piece
            if len(text) > MANIFEST_MAX:
                raise ValueError(f"more than {MANIFEST_MAX} bytes of JSON")
        return msgspec.json.decode(text, type=cls)


class QueueObjectMetadata(UserMetadata, frozen=True, kw_only=True):
    """The metadata of a data object with a queue's messages. Timestamps in milliseconds."""

    queue: str
    batch: str
    messages: int  # rows + rejected
    rows: int
    rejected: int
    sha256: str  # of the object as it was written
    first_timestamp: int  # SentTimestamp of the first and the last of its messages
    last_timestamp: int
    queue_arn: str
    version: str
    quarantine: str | None = None  # digest in the name of the quarantine object with its rejects; None: there are none


def is_fence(metadata: Mapping[str, str]) -> bool:
    """Whether an object with this metadata keeps a batch from being written."""
    return metadata.get("purpose") == FENCE


class MessageIds(Sequence[bytes]):
    """The ids in a manifest, as their digests in order: 16 bytes each, so that many manifests are remembered."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._digests = b"".join(sorted(map(_digest, ids)))

    def __len__(self) -> int:
        return len(self._digests) // _DIGEST_BYTES

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override] # no slices
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._digests[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES]

    def has(self, message_id: str) -> bool:
        """Whether the id is one of them; the chance that another one has its digest is 1 in 2**128."""
        digest = _digest(message_id)
        place = bisect_left(self, digest)
        return place < len(self) and self[place] == digest


def _digest(message_id: str) -> bytes:
    return hashlib.blake2b(message_id.encode(), digest_size=_DIGEST_BYTES).digest()

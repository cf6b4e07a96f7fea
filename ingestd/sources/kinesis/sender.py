"""Puts records into a Kinesis stream, for `ingestd requeue`."""

import asyncio
from collections.abc import Iterator, Sequence
from random import Random

from ingestd.core.backoff import backoff
from ingestd.core.errors import SourceError
from ingestd.sources.kinesis.port import KinesisClient, KinesisUnavailable, PutEntry

MAX_RECORDS = 500  # of a request
MAX_BYTES = 5 << 20  # of a request, with the keys
MAX_RECORD = 1 << 20  # of a record with its key, unless the stream allows more
MAX_KEY = 256  # characters
PATIENCE = 8  # attempts in a row that bring no record into the stream
_INITIAL_S, _MAX_S = 0.2, 5.0
#: Errors of a request of which no record was taken. After any other, such as a lost answer, all may have been.
_NOTHING_TAKEN = {
    "ProvisionedThroughputExceededException", "LimitExceededException", "ThrottlingException", "KMSThrottlingException",
}  # fmt: skip


class KinesisSender:
    """Puts records in the order in which they are given, as far as they go to the same shard."""

    def __init__(self, client: KinesisClient, random: Random | None = None) -> None:
        self._client = client
        self._random = random or Random()

    async def put(
        self, records: Sequence[tuple[bytes, bytes | None, str, Sequence[tuple[str, bytes | None]]]]
    ) -> list[str | None]:
        """Put values, each with its key, if it has one, and a unique id. Of each: None, or why it is refused.

        Records of a stream have no headers, which come last.

        Raises ``SourceError`` where the stream takes nothing for a while or an answer is lost: it may have taken some.
        """
        answers: list[str | None] = [None] * len(records)
        entries = []
        for number, (value, key, unique_id, _) in enumerate(records):
            entry = PutEntry(_partition_key(key, unique_id), value)
            if (size := _size(entry)) > MAX_RECORD:
                answers[number] = f"{size:,} bytes with its partition key, more than the {MAX_RECORD:,} of a record"
            else:
                entries.append(entry)
        for request in _requests(entries):
            await self._put(request)
        return answers

    async def _put(self, entries: list[PutEntry]) -> None:
        attempt = 0
        while entries:
            try:
                codes = await self._client.put_records(entries)
                why = next((code for code in codes if code is not None), "")
                left = [entry for entry, code in zip(entries, codes, strict=True) if code is not None]
            except KinesisUnavailable as error:
                if error.code not in _NOTHING_TAKEN:
                    raise
                why, left = str(error), entries
            attempt = attempt + 1 if len(left) == len(entries) else 0
            if attempt == PATIENCE:
                raise SourceError(f"the stream takes no records: {why}", hint="run it again later")
            entries = left
            if entries:
                await asyncio.sleep(backoff(attempt, _INITIAL_S, _MAX_S, self._random))


def _partition_key(key: bytes | None, unique_id: str) -> str:
    """The record's own key, so that it goes to the shard of the others with that key."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        text = ""
    return text[:MAX_KEY] or unique_id[-MAX_KEY:]


def _size(entry: PutEntry) -> int:
    return len(entry.value) + len(entry.partition_key.encode())


def _requests(entries: Sequence[PutEntry]) -> Iterator[list[PutEntry]]:
    """The entries in groups that fit a request each."""
    group: list[PutEntry] = []
    size = 0
    for entry in entries:
        if group and (len(group) == MAX_RECORDS or size + _size(entry) > MAX_BYTES):
            yield group
            group, size = [], 0
        group.append(entry)
        size += _size(entry)
    if group:
        yield group

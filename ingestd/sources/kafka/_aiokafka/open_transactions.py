"""The open transactions that end what can be read, as the answers to fetches tell of them. Pure."""

from ingestd.core.records import TopicPartition
from ingestd.sources.base import OpenTransaction


class OpenTransactions:
    """For each partition, the transaction whose first record is at the last stable offset.

    Its age counts from the first to the last answer that shows it: without answers nothing is known, and it stays.
    """

    def __init__(self) -> None:
        self._seen: dict[TopicPartition, tuple[OpenTransaction, float]] = {}

    def note(self, partition: TopicPartition, stable: int | None, end: int | None, now: float) -> None:
        """An answer has these offsets; a last stable offset of None or -1 is not known."""
        if stable is None or end is None or not 0 <= stable < end:
            self._seen.pop(partition, None)
            return
        known, since = self._seen.get(partition, (None, now))
        if known is None or known.first != stable:
            since = now
        self._seen[partition] = OpenTransaction(stable, end - stable, now - since), since

    def __contains__(self, partition: TopicPartition) -> bool:
        return partition in self._seen

    def get(self, partition: TopicPartition) -> OpenTransaction | None:
        """None where no transaction is open."""
        found = self._seen.get(partition)
        return found[0] if found is not None else None

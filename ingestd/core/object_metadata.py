"""The metadata that a data object carries: its range in the chain, what it holds, and which log it comes from."""

from ingestd.core.user_metadata import UserMetadata


class ObjectMetadata(UserMetadata, frozen=True, kw_only=True):
    """The metadata of one data object. Offsets ``[start, end)``; timestamps in milliseconds."""

    topic: str
    partition: int
    start: int
    end: int
    rows: int
    rejected: int
    skipped: int | None = None  # tombstones that are neither; None: there are none
    sha256: str
    sha256_of: str = "rows"  # before compression, in objects of former versions; or "body", as the object was written
    first_offset: int  # of the first record at or after `start`
    first_timestamp: int
    last_timestamp: int
    cluster: str | None = None  # None: the source has no id
    topic_id: str | None = None  # None: none was known
    leader_epoch: int | None = None  # of all its records; None: the broker or the log's format has no epochs
    version: str
    quarantine: str | None = None  # digest in the name of the quarantine object with its rejects; None: there are none

    @property
    def records(self) -> int:
        """Records of its range; 0 where retention removed all of them before they were read."""
        return self.rows + self.rejected + (self.skipped or 0)

"""The metadata that a data object carries: its range in the chain, what it holds, and which log it comes from."""

from collections.abc import Mapping

import msgspec


class ObjectMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of one data object. Offsets ``[start, end)``; timestamps in milliseconds."""

    topic: str
    partition: int
    start: int
    end: int
    rows: int
    rejected: int
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

    def to_user_metadata(self) -> dict[str, str]:
        """As an object's user metadata: lower-case names, text values."""
        values = {name.replace("_", "-"): getattr(self, name) for name in self.__struct_fields__}
        return {name: str(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ObjectMetadata | None":
        """Parse it. None if it is not complete: then the object was not written by ingestd."""
        known = {name.replace("-", "_"): value for name, value in metadata.items()}
        try:
            return msgspec.convert(known, cls, strict=False)
        except msgspec.ValidationError:
            return None

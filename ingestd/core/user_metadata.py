"""The user metadata of an object in the sink: lower-case names with dashes, and text values."""

from collections.abc import Mapping
from typing import Self

import msgspec


class UserMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a data object says of itself. A field that is None is left out."""

    def to_user_metadata(self) -> dict[str, str]:
        """As the metadata of an object."""
        values = {name.replace("_", "-"): getattr(self, name) for name in self.__struct_fields__}
        return {name: str(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self | None:
        """Parse it. None if it is not complete: then ingestd did not write the object, or wrote one of another kind."""
        known = {name.replace("-", "_"): value for name, value in metadata.items()}
        try:
            return msgspec.convert(known, cls, strict=False)
        except msgspec.ValidationError:
            return None

"""Finds blocks of objects that are written as our encoder writes them: they are parts of rows as they are. Pure.

A type with the fields that the stream's objects have decodes a block, and the encoder writes it again. Where the bytes
are the same, no key is there twice, the keys have the order of the type, text and numbers are as we write them, and
there is no space: to decode into dicts, and to encode these, would give the same bytes. Such a type takes two thirds of
the time of dicts. What was learned decides which way is taken, and changes no row.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from ingestd.core.decoding import BOUNDED, ENCODER

FIELDS_MAX = 64  # of a type
LONGEST_PAUSE = 100  # blocks: a try that fails costs half of a block


class CanonicalObjects:
    """Tries a type on blocks, after each failure less often: its cost is lost where producers write otherwise."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._decode: Callable[[bytes], Any] | None = None
        self._pause, self._left = 1, 1  # blocks; the first one is learned from

    def as_they_are(self, values: Sequence[bytes]) -> list[Raw] | None:
        """These values, if they are written as the encoder would write them; None where that is not known.

        Depth and integers are not looked at.
        """
        if self._left or self._decode is None:
            self._left = max(self._left - 1, 0)
            return None
        with suppress(Exception):  # another way tells what it was
            if ENCODER.encode_lines(list(map(self._decode, values))) == b"\n".join((*values, b"")):
                self._pause = 1
                return list(map(Raw, values))
        self._rest()
        return None

    def learn(self, objects: Sequence[Mapping[str, Any] | None]) -> None:
        """Take the names of these objects' fields, if the next block is to be tried."""
        if self._left:
            return
        names = tuple({name: None for it in objects for name in it or ()})
        if names != self._names:
            self._names, self._decode = names, _decoder(names)
        if self._decode is None:
            self._rest()

    def _rest(self) -> None:
        self._pause = self._left = min(2 * self._pause, LONGEST_PAUSE)


def _decoder(names: Sequence[str]) -> Callable[[bytes], Any] | None:
    """None for too many names, or for one that no type can have."""
    if len(names) > FIELDS_MAX:
        return None
    fields = [(f"field_{index}", Any, msgspec.field(default=UNSET, name=name)) for index, name in enumerate(names)]
    with suppress(Exception):
        kind = msgspec.defstruct("Canonical", fields, gc=False)
        return msgspec.json.Decoder(kind, float_hook=BOUNDED).decode
    return None

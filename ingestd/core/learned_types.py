"""Types with the unknown fields that a stream often has, so that such events are decoded at once.

A learned type is one of the model with more fields, each for an unknown field of that name, whatever its value. After
decoding these values move into ``properties``, sorted by name, as those of every other event: the rows are the same
whether a type is learned or not, and do not depend on what came before.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from ingestd.core.events import ORIGIN_FIELDS, Event, Model, union_of

FIELDS_MAX = 32  # of one type
FIRST_SAMPLE, LARGEST_SAMPLE = 200, 100_000  # events with unknown fields between two looks at their names
_OFTEN = 20  # a name is learned that one in so many of the sample has
_NAMES_MAX = 1000  # counted at a time; a producer may send any number
_NAME_LENGTH_MAX = 256

_MODEL_TYPE = "__model_type__"

Decode = Callable[[bytes], Event]


class _Values(NamedTuple):
    """The fields that a type has learned."""

    get: Callable[[Event], Sequence[Any]]  # the properties, then the fields' values
    attributes: Sequence[str]
    names: Sequence[str]


def model_type(kind: type[Event]) -> type[Event]:
    """The type of the model from which `kind` was learned, or `kind` itself."""
    found: type[Event] = getattr(kind, _MODEL_TYPE, kind)
    return found


class LearnedTypes:
    """Counts unknown fields, and makes decoders that know the frequent ones.

    The samples grow, so that names which always change do not make it learn for ever.
    """

    def __init__(self, model: Model, make_decoder: Callable[[Any], Decode]) -> None:
        self._types = dict(model.types)
        self._make_decoder = make_decoder
        self._names: dict[str, tuple[str, ...]] = {}  # by tag
        self._counts: Counter[tuple[str, str]] = Counter()
        self._seen, self._sample = 0, FIRST_SAMPLE

    def decoder_after(self, tag: str, unknown: Sequence[str]) -> Decode | None:
        """Count the unknown fields of an event. From time to time a decoder that knows more of them."""
        self._seen += 1
        if len(self._counts) < _NAMES_MAX:
            self._counts.update([(tag, name) for name in unknown[:FIELDS_MAX]])
        if self._seen < self._sample:
            return None
        least = self._seen / _OFTEN
        frequent = [pair for pair, count in self._counts.most_common() if count >= least and self._is_learnable(*pair)]
        self._counts.clear()
        self._seen, self._sample = 0, min(self._sample * 2, LARGEST_SAMPLE)
        return self._learn(frequent)

    def _is_learnable(self, tag: str, name: str) -> bool:
        """Not where a type looks at all of its event, and no name that a type cannot have."""
        kind = self._types.get(tag)
        return (
            kind is not None
            and not hasattr(kind, "__post_init__")
            and name not in ORIGIN_FIELDS
            and len(name) <= _NAME_LENGTH_MAX
            and name.isprintable()
            and not {'"', "\\"}.intersection(name)
        )

    def _learn(self, frequent: Sequence[tuple[str, str]]) -> Decode | None:
        """Add these fields. Where a type would have too many, those that it had are forgotten."""
        before = dict(self._names)
        for tag in {tag for tag, _ in frequent}:
            new = [name for it, name in frequent if it == tag]
            every = {*self._names.get(tag, ()), *new}
            self._names[tag] = tuple(sorted(every if len(every) <= FIELDS_MAX else new[:FIELDS_MAX]))
        return self._decoder() if self._names != before else None

    def _decoder(self) -> Decode:
        learned = {tag: _with_fields(self._types[tag], names) for tag, names in self._names.items()}
        decode = self._make_decoder(union_of((self._types | learned).values()))
        return _gathering(decode, {learned[tag]: _values_of(names) for tag, names in self._names.items()})


def _gathering(decode: Decode, values_of: Mapping[type[Event], _Values]) -> Decode:
    def gathered(value: bytes) -> Event:
        """Raises as the decoder, and ``ValueError`` where properties have the name of a learned field."""
        event = decode(value)
        if (values := values_of.get(type(event))) is None:
            return event
        properties, *found = values.get(event)
        for attribute, name, field in zip(values.attributes, values.names, found, strict=True):
            if field is UNSET:
                continue
            if properties is None:
                properties = event.properties = {}
            elif name in properties:
                raise ValueError
            properties[name] = field
            setattr(event, attribute, UNSET)
        return event

    return gathered


def _with_fields(kind: type[Event], names: Sequence[str]) -> type[Event]:
    fields = [(_attribute(index), Any, msgspec.field(default=UNSET, name=name)) for index, name in enumerate(names)]
    tag = kind.__struct_config__.tag
    return msgspec.defstruct(  # type: ignore[return-value]  # a subclass of the only base
        kind.__name__, fields, bases=(kind,), tag=tag, kw_only=True, gc=False, namespace={_MODEL_TYPE: kind}
    )


def _attribute(index: int) -> str:
    return f"learned_{index}_"


def _values_of(names: Sequence[str]) -> _Values:
    attributes = [_attribute(index) for index in range(len(names))]
    return _Values(attrgetter("properties", *attributes), attributes, names)

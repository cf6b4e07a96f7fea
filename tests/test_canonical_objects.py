"""Objects that are written as our encoder writes them are parts of rows as they are, and nothing else ever is."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingestd.config.model import EventsConfig
from ingestd.core import canonical_objects
from ingestd.core.canonical_objects import FIELDS_MAX, CanonicalObjects
from ingestd.core.decoding import ENCODER
from ingestd.core.json_validation import JsonValidator
from ingestd.core.records import PlainRecord
from ingestd.core.validation import Validated
from tests.reference_validator import ReferenceJsonValidator
from tests.test_json_model import P1, SENT, near_the_limits
from tests.test_validation import raw_leaves

RULES = EventsConfig(model="json")


def records_of(*values: bytes) -> list[PlainRecord]:
    return [PlainRecord(offset, SENT + offset, value) for offset, value in enumerate(values)]


def learned(*sample: bytes) -> JsonValidator:
    """A validator that tries the fields of these objects on its next block."""
    made = JsonValidator(RULES)
    made.chunk(P1, records_of(*sample))
    return made


@pytest.fixture
def into_dicts(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The values that were decoded into dicts."""
    found: list[bytes] = []
    decoded = JsonValidator._decoded

    def counting(self: JsonValidator, values: Sequence[bytes]) -> Any:
        found.extend(values)
        return decoded(self, values)

    monkeypatch.setattr(JsonValidator, "_decoded", counting)
    return found


def assert_as_the_reference(found: Validated, *values: bytes) -> None:
    expected = ReferenceJsonValidator(RULES).chunk(P1, records_of(*values))
    assert (found.rows, found.accepted, found.rejected) == (expected.rows, expected.accepted, expected.rejected)


def test_what_is_written_as_we_write_it_is_not_decoded_into_dicts(into_dicts: list[bytes]) -> None:
    values = [b'{"a":1,"b":"\xc3\xa9","c":1.50}', b'{"a":null,"c":{"x":{}}}', b'{"b":"\\n"}']
    validator = learned(*values)
    into_dicts.clear()
    assert_as_the_reference(validator.chunk(P1, records_of(*values)), *values)
    assert into_dicts == []


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":1, "b":2}',
        b'{"a":1,"b":2}\n',
        b'{"b":2,"a":1}',
        b'{"a":1,"b":2,"a":3}',
        b'{"a":1,"b":{"x":1,"x":2}}',
        b'{"a":1,"b":2,"c":3}',
        b'{"a":1,"b":"\\u00e9"}',
        b'{"a":1,"b":"\\/"}',
        b'{"a":1.5e3,"b":2}',
        b'{"a":1,"b":-0}',
        b'{"a":1},{"b":2}',
        b'{"a":1}\n{"b":2}',
        b'{"a":1,"b":"\xff"}',
        b'{"a":1,"b":1E+999}',
        b'{"a":1,"b":' + b"9" * 309 + b"}",
        b'{"a":1,"b":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"a":1,"b":' + b'{"":' * 99 + b"{}" + b"}" * 100,
        b'{"a":1',
        b"{}",
    ],
)
def test_anything_else_makes_the_same_rows_and_rejects_as_before(value: bytes) -> None:
    validator = learned(b'{"a":1,"b":2}')
    values = [b'{"a":1,"b":2}', value, b'{"a":1,"b":3}']
    assert_as_the_reference(validator.chunk(P1, records_of(*values)), *values)


def test_lines_that_together_are_the_same_are_judged_each_by_itself() -> None:
    values = [b'{"a":1}\n{"a":2}', b'{"a":3}', b""]
    assert_as_the_reference(learned(b'{"a":1}').chunk(P1, records_of(*values)), *values)


@st.composite
def alike(draw: st.DrawFn) -> list[bytes]:
    """Objects with the same names in the same order, some of which are left out; some are written otherwise."""
    names = draw(st.lists(st.text(max_size=3), min_size=1, max_size=4, unique=True))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        present = draw(st.lists(st.sampled_from(names), max_size=4))
        members = [(name, draw(raw_leaves)) for name in names if name in present]
        members += [(name, draw(raw_leaves)) for name in draw(st.lists(st.sampled_from(names), max_size=1))]
        comma = draw(st.sampled_from([b",", b",", b",", b", "]))
        encode = draw(st.sampled_from([_encoded, _encoded, _encoded, _escaped]))
        found.append(b"{" + comma.join(encode(name) + b":" + encode(value) for name, value in members) + b"}")
    return found


def _encoded(value: object) -> bytes:
    return ENCODER.encode(value)


def _escaped(value: object) -> bytes:
    return json.dumps(value).encode() if isinstance(value, str) else _encoded(value)


@given(alike(), st.lists(near_the_limits.filter(bool), max_size=1))
@example([b'{"a":1E+999}'], [])
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_rows_do_not_depend_on_what_was_learned(values: list[bytes], more: list[bytes]) -> None:
    validator = learned(*values)
    values = [*values, *more]
    assert_as_the_reference(validator.chunk(P1, records_of(*values)), *values)


def test_learns_again_where_producers_have_changed_their_fields(into_dicts: list[bytes]) -> None:
    validator = learned(b'{"a":1}')
    into_dicts.clear()
    for _ in range(20):
        validator.chunk(P1, records_of(b'{"b":1}'))
    assert 0 < len(into_dicts) < 10


@pytest.mark.parametrize("name", ["\0", '"', "\\", "é", "\U0001f600", "", "x" * 300, "field_0", "__class__", "a b"])
def test_every_name_makes_the_same_rows(name: str) -> None:
    value = msgspec.json.encode({name: 1, "field_1": 2})
    assert_as_the_reference(learned(value).chunk(P1, records_of(value, value)), value, value)


def test_where_it_always_fails_it_is_tried_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[bytes] = []
    monkeypatch.setattr(canonical_objects, "_decoder", lambda names: tries.append)  # decodes nothing that was written
    objects = CanonicalObjects()
    for _ in range(10_000):
        assert objects.as_they_are([b'{"a":1}']) is None
        objects.learn([{"a": 1}])
    assert 0 < len(tries) < 120


def test_one_that_fails_after_a_success_is_soon_followed_by_the_next_try() -> None:
    objects = CanonicalObjects()

    def tries_until(value: bytes, succeeded: bool) -> int:
        for number in range(5000):
            if (objects.as_they_are([value]) is not None) == succeeded:
                return number
            objects.learn([{"a": 1}])
        raise AssertionError

    for _ in range(3000):
        objects.as_they_are([b'{"a": 1}'])
        objects.learn([{"a": 1}])
    tries_until(b'{"a":1}', succeeded=True)
    assert tries_until(b'{"a": 1}', succeeded=False) == 0
    assert tries_until(b'{"a":1}', succeeded=True) < 5


def test_too_many_names_are_not_looked_at_for_each_block() -> None:
    class Sample(list[dict[str, Any]]):
        looks = 0

        def __iter__(self) -> Iterator[dict[str, Any]]:
            self.looks += 1
            return super().__iter__()

    objects, sample = CanonicalObjects(), Sample([dict.fromkeys(map(str, range(FIELDS_MAX + 1)))])
    for _ in range(10_000):
        assert objects.as_they_are([b"{}"]) is None
        objects.learn(sample)
    assert 0 < sample.looks < 120

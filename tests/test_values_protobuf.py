"""Protobuf as JSON: what the runtime writes comes back whole, from descriptors and text; hostile input is refused."""

import base64
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.rejections import Reason, RejectedRecord
from ingestd.core.values.base import SchemaError
from ingestd.core.values.proto_text import parse_proto
from ingestd.core.values.protobuf import _load, compile_message, compile_protobuf

TEXT = """
syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/wrappers.proto";
import "google/type/date.proto";
import "confluent/meta.proto";
import "confluent/type/decimal.proto";
import "common/money.proto";

message Event {
  option deprecated = true;
  reserved 90 to 99;
  enum Kind { VISIT = 0; BUY = 5; }
  message Inner { int32 x = 1; }
  optional int64 set_to_zero = 1;
  int64 total_count = 2 [json_name = "other"];
  repeated .shop.v1.Event.Kind kinds = 3;
  oneof choice { string text = 4; Event child = 5; }
  map<string, Inner> inner = 6;
  map<bool, uint64> flags = 7;
  google.protobuf.Timestamp at = 8;
  google.protobuf.Duration took = 9;
  google.protobuf.Struct extra = 10;
  google.protobuf.BoolValue maybe = 11;
  google.type.Date day = 12;
  confluent.type.Decimal price = 13;
  common.Money money = 14;
  bytes raw = 15;
  float ratio = 16;
  double exact = 17;
}
message Second { string name = 1; message Third { int32 y = 1; } }
"""
REFERENCES = {"common/money.proto": 'syntax = "proto3"; package common; message Money { string currency = 1; }'}
FILE = _load(TEXT, REFERENCES)
Event: Any = GetMessageClass(FILE.message_types_by_name["Event"])
SMALL = 'syntax = "proto3"; message M { string s = 1; repeated M m = 2; double d = 3; map<int32, bytes> b = 4; }'


def decoded(decode: Callable[[bytes], bytes], message: Any) -> Any:
    return msgspec.json.decode(decode(b"\x00" + message.SerializeToString()))


def filled() -> Any:
    event = Event(set_to_zero=0, total_count=2**62, kinds=[0, 5, 7], text="", raw=b"\x00\xff", ratio=0.1, exact=0.1)
    event.inner["a"].x = 1
    event.flags[True] = 2**64 - 1
    event.at.FromJsonString("2026-01-02T03:04:05.123456789Z")
    event.took.FromJsonString("1.5s")
    event.extra.update({"k": [1, 2.5, None, {"t": True}]})
    event.maybe.value = False
    event.day.year = 2026
    event.price.value, event.price.scale = (12345).to_bytes(2), 2
    event.money.currency = "EUR"
    return event


def test_each_type_becomes_what_json_has() -> None:
    assert decoded(compile_protobuf(TEXT, REFERENCES), filled()) == {
        "set_to_zero": 0,
        "total_count": 2**62,
        "kinds": ["VISIT", "BUY", 7],
        "text": "",
        "inner": {"a": {"x": 1}},
        "flags": {"true": 2**64 - 1},
        "at": "2026-01-02T03:04:05.123456789Z",
        "took": "1.500s",
        "extra": {"k": [1, 2.5, None, {"t": True}]},
        "maybe": False,
        "day": {"year": 2026, "month": 0, "day": 0},
        "price": 123.45,
        "money": {"currency": "EUR"},
        "raw": "AP8=",
        "ratio": 0.1,
        "exact": 0.1,
    }


def test_descriptors_and_text_are_read_alike() -> None:
    serialized = {
        name: base64.b64encode(parse_proto(name, text).SerializeToString()).decode()
        for name, text in REFERENCES.items()
    }
    main = base64.b64encode(parse_proto("main.proto", TEXT).SerializeToString()).decode()
    by_text, by_descriptor = compile_protobuf(TEXT, REFERENCES), compile_protobuf(main, serialized)
    assert decoded(by_text, filled()) == decoded(by_descriptor, filled())


def test_the_indexes_name_the_message() -> None:
    decode = compile_protobuf(TEXT, REFERENCES)
    assert decode(b"\x02\x02\x0a\x01a") == b'{"name":"a"}'
    assert decode(b"\x04\x02\x00\x08\x07") == b'{"y":7}'


def test_a_file_names_its_message() -> None:
    assert compile_message(SMALL, None)(b"\x0a\x01a") == b'{"s":"a","d":0.0}'
    assert compile_message(SMALL, "M")(b"") == b'{"s":"","d":0.0}'
    with pytest.raises(SchemaError, match="no message N"):
        compile_message(SMALL, "N")


DEEP = b""
for _ in range(200):
    DEEP = b"\x12" + bytes([len(DEEP) & 0x7F | 0x80, len(DEEP) >> 7]) + DEEP


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x00\x0a\x7f", Reason.UNDECODABLE),
        (b"\x02\x09", Reason.UNDECODABLE),
        (b"", Reason.TRUNCATED),
        (b"\x00\x0a\x01\xff", Reason.UNDECODABLE),
        (b"\x00" + DEEP, Reason.UNDECODABLE),
        (b"\x00\x19\x00\x00\x00\x00\x00\x00\xf8\x7f", Reason.NUMBER_OUT_OF_RANGE),
        (b"\x00" + b"\x12\x00" * 4_000_000, Reason.TOO_LARGE),
    ],
    ids=["cut", "index", "empty", "utf8", "deep", "nan", "many"],
)
def test_hostile_values_are_refused(payload: bytes, reason: Reason) -> None:
    with pytest.raises(RejectedRecord) as caught:
        compile_protobuf(SMALL, {})(payload)
    assert caught.value.args[0] is reason


@given(st.binary(max_size=100))
def test_any_bytes_are_a_value_or_a_reason(payload: bytes) -> None:
    with suppress(RejectedRecord):
        msgspec.json.decode(compile_protobuf(SMALL, {})(payload))


@pytest.mark.parametrize(
    ("text", "references"),
    [
        ("message {", {}),
        ('syntax = "proto3"; message M { Missing m = 1; }', {}),
        ('syntax = "proto3"; import "x.proto"; message M {}', {}),
        ('syntax = "proto3"; import "x.proto";', {"x.proto": 'syntax = "proto3"; import "x.proto";'}),
        ('syntax = "proto3"; import "google/protobuf/../os.proto";', {}),
    ],
    ids=["grammar", "type", "import", "circle", "path"],
)
def test_schemas_that_cannot_be_used_are_refused(text: str, references: Mapping[str, str]) -> None:
    with pytest.raises(SchemaError):
        compile_protobuf(text, references)

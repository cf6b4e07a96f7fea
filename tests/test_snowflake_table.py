"""The table's columns: derived from the event model, so that every row can be loaded."""

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from sqlglot import exp

from ingestd.config.model import EventsConfig
from ingestd.core.errors import ConfigError
from ingestd.core.events import Event, load_model, make_model
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.snowflake.table import Column, columns, create_table, definition, identifier, literal

OURS = columns(load_model(None))
NOW = 1_795_421_052_327


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    a: int | None = None


class Everything(Event, tag="everything"):
    """One field of each kind that a model may have."""

    short: Annotated[str, Meta(max_length=3)]
    text: str | None = None
    small: Annotated[int, Meta(ge=0, le=100)] | None = None
    large: int | None = None
    huge: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    ratio: float | None = None
    flag: bool | None = None
    when: datetime | None = None
    day: date | None = None
    clock: time | None = None
    span: timedelta | None = None
    uid: UUID | None = None
    raw: bytes | None = None
    money: Decimal | None = None
    colour: Colour | None = None
    word: Literal["a", "bb"] | None = None
    level: Literal[1, 2] | None = None
    mixed: Literal[1, "one"] | None = None
    either: int | str | None = None
    items: list[int] | None = None
    table: dict[str, str] | None = None
    inner: Inner | None = None
    anything: Any = None


class Payment(Event, tag="payment", kw_only=True):
    amount: Annotated[str, Meta(max_length=20)]
    campaign_id: int | None = None  # type: ignore[assignment]


class Refund(Event, tag="refund"):
    amount: Annotated[str, Meta(max_length=40)]
    reason: int


class Reasoned(Event, tag="reasoned"):
    reason: str


def types(*kinds: type[Event]) -> dict[str, str]:
    return {column.name: column.type for column in columns(make_model(*kinds))}


def test_the_table_has_the_guide_s_columns_first_and_where_a_row_came_from_last() -> None:
    assert [column.name for column in OURS] == [
        "event_id", "client_id", "event_timestamp", "event_type", "event_category", "page_url", "session_id", "channel",
        "device_type", "campaign_id", "duration_s", "consent", "properties",
        "source_topic", "source_partition", "source_offset", "received_at",
        "file_name", "file_row_number", "loaded_at",
    ]  # fmt: skip


def test_required_fields_of_every_event_are_not_null() -> None:
    assert {column.name for column in OURS if column.required} == {
        "event_id", "client_id", "event_timestamp", "event_type"
    }  # fmt: skip


def test_only_columns_that_the_load_sets_have_no_path() -> None:
    assert [column.name for column in OURS if not column.path] == ["file_name", "file_row_number", "loaded_at"]


def test_types_follow_from_the_model() -> None:
    found = types(Everything)
    assert {name: found[name] for name in Everything.__struct_fields__ if name not in Event.__struct_fields__} == {
        "short": "VARCHAR(3)", "text": "VARCHAR", "small": "NUMBER(38,0)", "huge": "NUMBER(38,0)", "ratio": "FLOAT",
        "flag": "BOOLEAN", "when": "TIMESTAMP_NTZ(6)", "day": "DATE", "clock": "VARCHAR", "span": "VARCHAR",
        "uid": "VARCHAR(36)", "raw": "VARCHAR", "colour": "VARCHAR", "word": "VARCHAR", "level": "NUMBER(38,0)",
        "mixed": "VARIANT", "either": "VARIANT", "items": "VARIANT", "table": "VARIANT",
        "inner": "VARIANT", "anything": "VARIANT",
        # More digits than NUMBER has, or any scale: one such value would fail the whole file.
        "large": "VARIANT", "money": "VARIANT",
    }  # fmt: skip
    assert found["page_url"] == "VARCHAR(8192)"
    assert found["duration_s"] == "NUMBER(38,0)"
    assert found["properties"] == "VARIANT"


def test_fields_of_several_types_share_a_column_and_those_that_conflict_become_variant() -> None:
    found = types(Payment, Refund, Reasoned)
    assert found["amount"] == "VARCHAR(40)"
    assert found["reason"] == "VARIANT"
    assert found["campaign_id"] == "VARIANT"  # an event of an unknown type still has it as text


def test_a_field_of_some_types_only_may_be_null() -> None:
    assert [column.required for column in columns(make_model(Payment)) if column.name == "amount"] == [False]


def test_a_field_is_found_under_its_name_in_rows() -> None:
    class Renamed(Event, tag="renamed"):
        amount: str = msgspec.field(name="theAmount")

    [column] = [column for column in columns(make_model(Renamed)) if column.path == "theAmount"]
    assert column.name == "theamount"


def test_event_type_is_wide_enough_for_a_long_tag() -> None:
    kind = msgspec.defstruct("Long", [], bases=(Event,), tag="x" * 300, tag_field="event_type", kw_only=True)
    assert {it.name: it.type for it in columns(make_model(kind))}["event_type"] == "VARCHAR(300)"


@pytest.mark.parametrize("name", ["file_name", "Loaded_At", "CLIENT_ID"])
def test_two_keys_that_would_share_a_column_are_rejected(name: str) -> None:
    kind = msgspec.defstruct(
        "Clash", [("mine", str, msgspec.field(name=name))], bases=(Event,), tag="clash", kw_only=True
    )
    with pytest.raises(ConfigError, match="rename the model's field") as refused:
        columns(make_model(kind))
    assert name in str(refused.value)


def value() -> st.SearchStrategy[dict[str, object]]:
    plain = st.none() | st.integers(-(10**40), 10**40) | st.text(max_size=5) | st.floats(allow_nan=False)
    fields: dict[str, st.SearchStrategy[object]] = {
        "text": st.text(max_size=300), "small": st.integers(0, 100), "large": st.integers(-(10**50), 10**50),
        "huge": st.integers(-(2**63), 2**63 - 1), "ratio": st.floats(allow_nan=False, allow_infinity=False),
        "flag": st.booleans(), "when": st.datetimes(min_value=datetime(1600, 1, 1)).map(str),  # noqa: DTZ001
        "day": st.dates().map(str), "clock": st.times().map(str), "span": st.just("PT5S"), "uid": st.uuids().map(str),
        "raw": st.just("AAEC"), "money": st.decimals(-(10**30), 10**30, places=12).map(str),
        "colour": st.sampled_from(["red", "blue"]), "word": st.sampled_from(["a", "bb"]), "level": st.integers(1, 2),
        "mixed": st.sampled_from([1, "one"]), "either": st.integers(-5, 5) | st.text(max_size=3),
        "items": st.lists(st.integers(-9, 9), max_size=3),
        "table": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2), "inner": st.just({"a": 1}),
        "anything": plain, "unknown field": plain, "duration_s": st.integers(0, 99), "page_url": st.text(max_size=99),
    }  # fmt: skip
    return st.fixed_dictionaries({}, optional=fields)


MODEL = make_model(Everything)
BY_PATH = {column.path: column for column in columns(MODEL) if column.path}
VALIDATOR = EventValidator(EventsConfig(), MODEL)


@given(value())
def test_every_row_fits_into_its_columns(fields: dict[str, object]) -> None:
    event = {
        "event_id": "e", "client_id": "c", "event_timestamp": "2026-11-23T08:00:00Z", "event_type": "everything",
        "short": "abc",
    } | fields  # fmt: skip
    record = PlainRecord(0, NOW, json.dumps(event).encode())
    for line in VALIDATOR.chunk(TopicPartition("t", 0), [record]).rows.splitlines():
        row = json.loads(line, parse_float=Decimal)
        assert row.keys() <= BY_PATH.keys()
        for key, given_value in row.items():
            assert fits(given_value, BY_PATH[key].type), (key, given_value)
        assert all(column.path in row for column in BY_PATH.values() if column.required)


def fits(value: Any, kind: str) -> bool:
    """Whether Snowflake would load the value, according to its documentation."""
    base, _, rest = kind.partition("(")
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if base == "VARCHAR":
        return isinstance(value, str) and len(value) <= int(rest.rstrip(")") or 16 << 20)
    if base == "TIMESTAMP_NTZ":
        return isinstance(value, str) and value.endswith("Z") and 1582 <= int(value[:4]) <= 9999
    return {
        "NUMBER": number and value == int(value) and abs(value) < 10**38,
        "FLOAT": number and abs(value) < 2**1024,
        "BOOLEAN": isinstance(value, bool),
        "DATE": isinstance(value, str) and len(value) == 10,
        "VARIANT": True,
    }[base]


def parsed(sql: str) -> exp.Expr:
    found = sqlglot.parse_one(sql, read="snowflake")
    assert not isinstance(found, exp.Command), "sqlglot cannot parse it"
    return found


@pytest.mark.parametrize("model", [load_model(None), make_model(Everything, Payment, Refund)], ids=["ours", "theirs"])
def test_the_table_s_statement_is_snowflake_s_sql(model: Any) -> None:
    found = columns(model)
    tree = parsed(create_table("A.B.C", found))
    definitions = list(tree.find_all(exp.ColumnDef))
    assert [column.name.lower() for column in definitions] == [column.name for column in found]
    nulls = {column.name.lower() for column in definitions if column.find(exp.NotNullColumnConstraint)}
    assert nulls == {column.name for column in found if column.required}


def test_the_statement_may_be_run_again() -> None:
    assert create_table("t", OURS).startswith("CREATE TABLE IF NOT EXISTS t (")


@given(st.text())
def test_a_literal_keeps_its_text(text: str) -> None:
    tree = parsed(f"SELECT {literal(text)}")
    [found] = tree.find_all(exp.Literal)
    assert found.this == text


@given(
    st.text(
        min_size=1,
        alphabet=st.characters(exclude_categories=["Cs", "Cc", "Lo", "Ll", "Lu", "Lt"]) | st.sampled_from("abcxyz_$1"),
    )
)
def test_any_key_can_name_a_column(name: str) -> None:
    column = Column(name.lower(), "FLOAT", name, False, "")
    tree = parsed(f"ALTER TABLE t ADD COLUMN IF NOT EXISTS {definition(column)}")
    [found] = tree.find_all(exp.ColumnDef)
    assert found.name.upper() == name.upper()


@pytest.mark.parametrize("name", ["order", "from", "group"])
def test_reserved_words_are_quoted(name: str) -> None:
    assert identifier(name) == f'"{name.upper()}"'
    assert identifier(f"{name}_") == f"{name}_"

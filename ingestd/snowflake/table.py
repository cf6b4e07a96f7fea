"""The events table: its columns are derived from the event model. Pure; the SQL is Snowflake's dialect."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from msgspec import inspect

from ingestd.config.model import Config, SnowflakeConfig
from ingestd.core.errors import ConfigError
from ingestd.core.events import ORIGIN_FIELDS, Event, Model
from ingestd.core.record_fields import INCLUDED, check_fields
from ingestd.core.row_origin import RowOrigin

FILE_NAME, FILE_ROW_NUMBER, LOADED_AT = "file_name", "file_row_number", "loaded_at"
TEXT_MAX = 16 << 20  # characters: the minimum that a VARCHAR without a length can store

_RECORD = "record"
_ID, _INTEGER, _TIME, _VARIANT = "VARCHAR(256)", "NUMBER(38,0)", "TIMESTAMP_NTZ(6)", "VARIANT"

_INTEGER_MAX = 10**38 - 1
_UNQUOTED = re.compile(r"[a-z_][a-z0-9_$]*")
#: Event's own fields, in the order of the guide's pipe.
_EVENT_FIELDS = (
    "event_id", "client_id", "event_timestamp", "event_type", "event_category", "page_url", "session_id", "channel",
    "device_type", "campaign_id", "duration_s", "consent", "properties",
)  # fmt: skip
_COMMENTS = {
    "event_id": "The producer's own id",
    "client_id": "Whom it is about",
    "event_timestamp": "When it happened, UTC",
    "event_type": "What happened",
    "event_category": "A default by type where the producer gave none",
    "channel": "A default by type where the producer gave none",
    "duration_s": "Seconds",
    "properties": "Everything else",
}
_ORIGINS = {
    RowOrigin.OFFSET: {
        "source_topic": (_ID, "Kafka topic of the record"),
        "source_partition": (_INTEGER, "Kafka partition of the record"),
        "source_offset": (_INTEGER, "Kafka offset; names the record within its partition, as long as Kafka keeps it"),
        "received_at": (_TIME, "Kafka timestamp of the record, UTC"),
    },
    RowOrigin.WIDE_OFFSET: {
        "source_topic": (_ID, "Kinesis stream of the record"),
        "source_partition": (_INTEGER, "Shard of the record: the number in its id"),
        "source_offset": ("VARCHAR(60)", "Sequence number, too long for a NUMBER; names the record within its shard"),
        "received_at": (_TIME, "When the record arrived in the stream, UTC"),
    },
    RowOrigin.MESSAGE_ID: {
        "source_topic": (_ID, "SQS queue of the message"),
        "source_message_id": (_ID, "SQS's id of the message"),
        "received_at": (_TIME, "When the message was sent to the queue, UTC"),
    },
}
_INCLUDED = {
    "source_key": ("VARCHAR", "Key of the record, where it is text"),
    "source_key_base64": ("VARCHAR", "Key of the record in base64, where it is no text"),
    "source_headers": (_VARIANT, "Headers of the record, in order: name, and value or value_base64"),
}
_LOAD = {
    FILE_NAME: ("VARCHAR(1024)", "Object that the row was loaded from"),
    FILE_ROW_NUMBER: (_INTEGER, "Row in that object, from 1"),
    LOADED_AT: (_TIME, "When the load of the object began, UTC"),
}
# Words that Snowflake accepts as a name only in quotes; the last line has those that sqlglot reads only so.
_RESERVED = frozenset(
    re.findall(
        r"\w+",
        """account all alter and any as between by case cast check column connect connection constraint create cross
        current current_date current_time current_timestamp current_user database delete distinct drop else exists
        false following for from full grant group gscluster having ilike in increment inner insert intersect into is
        issue join lateral left like localtime localtimestamp minus natural not null of on or order organization
        qualify regexp revoke right rlike row rows sample schema select set some start table tablesample then to
        trigger true try_cast union unique update using values view when whenever where with
        fetch notnull outer""",
    )
)


class Column(NamedTuple):
    """A column. `path` is the row's key, "" if the load sets the value; `required` means NOT NULL."""

    name: str  # lower case
    type: str
    path: str
    required: bool
    comment: str


#: Of rows of any JSON object.
_JSON = (
    Column("event_timestamp", _TIME, "event_timestamp", False, "When it happened, UTC, by events.timestamp_field"),
    Column(_RECORD, _VARIANT, _RECORD, True, "The record as it is"),
)


def columns_of(config: Config, model: Model) -> tuple[Column, ...]:
    """The columns for rows of `model` as the configuration wants them. Raises ``ConfigError`` as `columns`."""
    found = columns(model, config.row_origin, config.events.include)
    if not model.any_json or config.events.tombstones != "row":
        return found
    # JSON's null is a value in a VARIANT, but not for each way to load it.
    return tuple(it._replace(required=False) if it.name == _RECORD else it for it in found)


def columns(model: Model, origin: RowOrigin = RowOrigin.OFFSET, include: Collection[str] = ()) -> tuple[Column, ...]:
    """The columns for rows of `model`, in order: Event's fields, the model's own fields, the origin, the load.

    `include` is ``events.include``. Raises ``ConfigError`` if two keys would share a column.
    """
    if model.any_json:
        return (*_JSON, *_origin_and_load(origin, include))
    check_fields(model, include)
    own = {field.encode_name: field for field in _fields(Event)}
    types: dict[str, str] = {key: _column_type(own[key].type) for key in _EVENT_FIELDS if key != "event_type"}
    for kind in model.types.values():
        for field in _fields(kind):
            if field.encode_name in ORIGIN_FIELDS:
                continue
            given = _column_type(field.type)
            types[field.encode_name] = _common(types.get(field.encode_name, given), given)
    types["event_type"] = f"VARCHAR({max([256, *map(len, model.types)])})"
    keys = [*_EVENT_FIELDS, *(key for key in types if key not in _EVENT_FIELDS)]
    # No other column is required: rows that were loaded by hand may have no other values.
    required = {"event_type", *(key for key, field in own.items() if field.required)}
    found = [Column(key.lower(), types[key], key, key in required, _COMMENTS.get(key, "")) for key in keys]
    found += _origin_and_load(origin, include)
    _check(found)
    return tuple(found)


def _origin_and_load(origin: RowOrigin, include: Collection[str]) -> list[Column]:
    names = [name for part, parts in INCLUDED.items() if part in include for name in parts]
    found = [Column(name, kind, name, False, comment) for name, (kind, comment) in _ORIGINS[origin].items()]
    found += [Column(name, _INCLUDED[name][0], name, False, _INCLUDED[name][1]) for name in names]
    return found + [Column(name, kind, "", False, comment) for name, (kind, comment) in _LOAD.items()]


def record_columns(columns: Iterable[Column]) -> tuple[str, ...]:
    """The columns that name a row's record in the source."""
    return tuple(column.name for column in columns if column.path in ORIGIN_FIELDS and column.path != "received_at")


def create_table(table: str, columns: Iterable[Column]) -> str:
    """The statement that creates the table if it does not exist. `table` may be qualified."""
    lines = ",\n    ".join(definition(column) for column in columns)
    return f"CREATE TABLE IF NOT EXISTS {table} (\n    {lines}\n)"


def deduplicated(table: str, columns: Iterable[Column]) -> str:
    """The SELECT without duplicate events: it keeps the first record of each event_id."""
    columns = tuple(columns)
    names = ",\n    ".join(identifier(column.name) for column in columns)
    order = ", ".join(("received_at", *record_columns(columns), FILE_NAME, FILE_ROW_NUMBER))
    return (
        f"SELECT\n    {names}\n"
        f"FROM {table}\n"
        "QUALIFY ROW_NUMBER() OVER (\n"
        "    PARTITION BY event_id\n"
        f"    ORDER BY {order}\n"
        ") = 1"
    )


def definition(column: Column) -> str:
    """A column in the syntax of CREATE TABLE and ALTER TABLE."""
    required = " NOT NULL" if column.required else ""
    comment = f" COMMENT {literal(column.comment)}" if column.comment else ""
    return f"{identifier(column.name)} {column.type}{required}{comment}"


def qualified(snowflake: SnowflakeConfig, name: str) -> str:
    """`name` with its database and schema."""
    return ".".join(map(object_name, (snowflake.database, snowflake.schema, name)))


def object_name(name: str) -> str:
    """The name of a configured object: as it was given; quoted in upper case, the same object, if it is reserved."""
    return f'"{name.upper()}"' if is_reserved(name) else name


def is_reserved(word: str) -> bool:
    return word.lower() in _RESERVED


def identifier(name: str) -> str:
    """A column's name in SQL: lower case; quoted in upper case, the same column, if it needs quotes."""
    if _UNQUOTED.fullmatch(name) and not is_reserved(name):
        return name
    return '"' + name.upper().replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _fields(kind: type[Event]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info.fields


def _column_type(kind: inspect.Type) -> str:
    """The narrowest type that stores every value of `kind`: one value that does not fit fails its whole file."""
    options = {_scalar(option) for option in _options(kind)}
    return options.pop() if len(options) == 1 else _VARIANT


def _options(kind: inspect.Type) -> Iterator[inspect.Type]:
    """The types of a union, without None."""
    match kind:
        case inspect.Metadata():
            yield from _options(kind.type)
        case inspect.UnionType():
            for option in kind.types:
                yield from _options(option)
        case inspect.NoneType():
            pass
        case _:
            yield kind


def _scalar(kind: inspect.Type) -> str:
    match kind:
        case inspect.StrType():
            found = _varchar(kind.max_length)
        case inspect.IntType():
            found = _INTEGER if _is_bounded(kind) else _VARIANT
        case inspect.EnumType():
            found = _of_values([member.value for member in kind.cls])
        case inspect.LiteralType():
            found = _of_values(kind.values)
        case inspect.UUIDType():
            found = _varchar(36)
        case inspect.BytesType() | inspect.TimeType() | inspect.TimeDeltaType():
            found = _varchar(None)  # base64, or ISO 8601 formats that TIME does not parse
        case _:
            found = _PLAIN.get(type(kind), _VARIANT)
    return found


#: Without Decimal: it can have any scale, so only VARIANT stores every value unchanged.
_PLAIN: dict[type[inspect.Type], str] = {
    inspect.BoolType: "BOOLEAN",
    inspect.FloatType: "FLOAT",
    inspect.DateTimeType: _TIME,
    inspect.DateType: "DATE",
}


def _varchar(length: int | None) -> str:
    return "VARCHAR" if length is None or length > TEXT_MAX else f"VARCHAR({max(1, length)})"


def _of_values(values: Iterable[object]) -> str:
    kinds = {type(value) for value in values}
    if kinds == {int}:
        return _INTEGER
    return "VARCHAR" if kinds == {str} else _VARIANT  # no length: the model may get longer values


def _is_bounded(kind: inspect.IntType) -> bool:
    low = kind.ge if kind.ge is not None else kind.gt
    high = kind.le if kind.le is not None else kind.lt
    return low is not None and high is not None and low >= -_INTEGER_MAX and high <= _INTEGER_MAX


def _common(one: str, other: str) -> str:
    """A type that stores the values of both types."""
    if one == other:
        return one
    if one.startswith("VARCHAR") and other.startswith("VARCHAR"):
        return max(one, other, key=_length)
    return _VARIANT


def _length(varchar: str) -> int:
    return int(varchar.partition("(")[2].rstrip(")") or TEXT_MAX)


def _check(found: Iterable[Column]) -> None:
    seen: dict[str, Column] = {}
    for column in found:
        if other := seen.get(column.name):
            names = " and ".join(repr(it.path or it.name) for it in (other, column))
            raise ConfigError(
                f"events.model: {names} would share a column of the table: column names ignore case, and the table has "
                "columns of its own",
                hint=f"rename the model's field, also in rows: field(name=...); reserved names are {', '.join(_LOAD)}",
            )
        seen[column.name] = column

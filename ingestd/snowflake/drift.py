"""Finds differences between Snowflake's objects and the configuration. Pure.

CREATE ... IF NOT EXISTS does not change an existing object, so an operator must repair them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ingestd.config.model import SnowflakeConfig
from ingestd.snowflake.bucket import QUEUE_ARN
from ingestd.snowflake.pipe import CHANGING, Style, copy
from ingestd.snowflake.stage_location import StageLocation
from ingestd.snowflake.table import TEXT_MAX, Column, identifier, literal, object_name, qualified

_PARTS = re.compile(r"(\w+)(?:\((\d+)(?:,(\d+))?\))?")


class Drift(NamedTuple):
    """A difference and its remedy: a statement, or text."""

    difference: str
    remedy: str


def of_storage(properties: Mapping[str, str], snowflake: SnowflakeConfig, location: StageLocation) -> Iterator[Drift]:
    """Compare the output of DESC INTEGRATION."""
    name, alter = snowflake.integration, f"ALTER STORAGE INTEGRATION {object_name(snowflake.integration)} SET"
    allowed = [it.strip() for it in properties.get("STORAGE_ALLOWED_LOCATIONS", "").split(",") if it.strip()]
    if not any(it == "*" or location.url.startswith(it) for it in allowed):
        locations = ", ".join(map(literal, [*allowed, location.url]))
        yield Drift(f"{name} does not allow {location.url}", f"{alter} STORAGE_ALLOWED_LOCATIONS = ({locations})")
    role = properties.get("STORAGE_AWS_ROLE_ARN", "")
    if role != snowflake.aws_role_arn:
        wanted = literal(snowflake.aws_role_arn or "")
        yield Drift(f"{name} assumes {role or 'no role'}", f"{alter} STORAGE_AWS_ROLE_ARN = {wanted}")
    if properties.get("ENABLED", "true").lower() != "true":
        yield Drift(f"{name} is not enabled", f"{alter} ENABLED = TRUE")


def of_table(
    rows: Iterable[Mapping[str, Any]], snowflake: SnowflakeConfig, columns: Sequence[Column]
) -> Iterator[Drift]:
    """Compare the output of DESC TABLE."""
    name = qualified(snowflake, snowflake.table)
    present = {str(row["name"]).lower(): row for row in rows}
    for column in columns:
        row = present.get(column.name)
        if row is None:
            yield Drift(
                f"{name} has no column {column.name}",
                "create the table again: the column is NOT NULL",
            )
            continue
        kind = str(row["type"])
        if not _fits(kind, column.type):
            alter = f"ALTER TABLE {name} ALTER COLUMN {identifier(column.name)} SET DATA TYPE {column.type}"
            text = kind.startswith("VARCHAR") and column.type.startswith("VARCHAR")
            remedy = alter if text else f"a {kind} cannot become {column.type}: rename the column, then run this again"
            yield Drift(f"{name}: {column.name} is {kind}, but the rows have {column.type}", remedy)
    record = next((it for it in columns if it.name == "record" and not it.required), None)
    if record is not None and str(present.get("record", {}).get("null?", "Y")).upper() == "N":
        alter = f"ALTER TABLE {name} ALTER COLUMN record DROP NOT NULL"
        yield Drift(f"{name}: record is NOT NULL, so rows of tombstones may not be loaded", alter)
    if "event_id" in present and str(present["event_id"].get("null?", "N")).upper() == "Y":
        alter = f"ALTER TABLE {name} ALTER COLUMN event_id SET NOT NULL"
        yield Drift(f"{name}: event_id allows NULL, so rows that match no column would be loaded", alter)


def of_pipe(
    row: Mapping[str, Any], snowflake: SnowflakeConfig, columns: Sequence[Column], style: Style
) -> Iterator[Drift]:
    """Compare a row of SHOW PIPES."""
    name = qualified(snowflake, snowflake.pipe)
    if _normalized(str(row["definition"])) != _normalized(copy(snowflake, columns, style)):
        yield Drift(f"the COPY of {name} differs from that of this version (style {style})", CHANGING)
    is_notified = bool(row.get("notification_channel"))
    if is_notified != (snowflake.delivery == "notification"):
        seen = f"a queue ({QUEUE_ARN.lower()})" if is_notified else "no queue"
        yield Drift(f"{name} has {seen}, but snowflake.delivery is {snowflake.delivery}", CHANGING)


def _fits(present: str, wanted: str) -> bool:
    """Whether a column of one type can store the values of the other."""
    (base, *limits), (wanted_base, *wanted_limits) = _parts(present), _parts(wanted)
    return base == wanted_base and all(limit >= want for limit, want in zip(limits, wanted_limits, strict=True))


def _parts(kind: str) -> tuple[str, int, int]:
    match = _PARTS.match(kind.upper())
    assert match is not None
    # DESC TABLE shows VARCHAR without a length with the maximum length, which has grown over the years.
    return match[1], int(match[2] or (TEXT_MAX if match[1] == "VARCHAR" else 0)), int(match[3] or 0)


def _normalized(sql: str) -> str:
    return re.sub(r"\s+", " ", sql.strip().rstrip(";")).upper()

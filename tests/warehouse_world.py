"""Rows as the daemon writes them, and a warehouse in a file, for the tests of the local warehouse."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ingestd.config.model import SnowflakeConfig
from ingestd.core.events import load_model
from ingestd.demo.warehouse.database import Warehouse
from ingestd.demo.warehouse.object_loader import ObjectLoader
from ingestd.demo.warehouse.process import WarehouseProcess
from ingestd.snowflake.features import NOW
from ingestd.snowflake.table import columns

COLUMNS = columns(load_model(None))
NAME = "events/year=2026/month=11/day=23/marketing_events+{:05d}+{:020d}.jsonl.gz"


def key(start: int, partition: int = 0) -> str:
    """The key of the object whose first record has the offset `start`."""
    return NAME.format(partition, start)


def text(moment: datetime) -> str:
    """Formats a time as in a row."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def row(offset: int, **fields: object) -> dict[str, object]:
    """A valid row with the present time, and with `fields` on top."""
    now = text(datetime.now(UTC))
    return {
        "event_type": "web_visit",
        "event_id": f"id-{offset}",
        "client_id": f"CLIENT_{offset % 7:06d}",
        "event_timestamp": now,
        "page_url": "https://example.com/funds",
        "session_id": f"session-{offset % 3}",
        "channel": "web",
        "source_topic": "marketing_events",
        "source_partition": 0,
        "source_offset": offset,
        "received_at": now,
        **fields,
    }


def body(*rows: dict[str, object]) -> bytes:
    """The body of an object with these rows."""
    lines = (json.dumps(it, ensure_ascii=False) + "\n" for it in rows)
    return gzip.compress("".join(lines).encode())


def batch(start: int, end: int, **fields: object) -> bytes:
    """The body of an object with one row for each offset."""
    return body(*(row(offset, **fields) for offset in range(start, end)))


def opened(path: Path, *, now: str = NOW, snowflake: SnowflakeConfig | None = None) -> Warehouse:
    """A warehouse that is open for writing."""
    warehouse = Warehouse(path, snowflake or SnowflakeConfig(), now=now)
    warehouse.open(COLUMNS)
    return warehouse


def loader(warehouse: Warehouse) -> ObjectLoader:
    return ObjectLoader(warehouse, COLUMNS)


def ago(**span: float) -> str:
    """A past time, formatted as in a row."""
    return text(datetime.now(UTC) - timedelta(**span))


def only(warehouse: "Warehouse | WarehouseProcess", sql: str) -> object:
    """Returns the single cell of a query's result."""
    ((cell,),) = warehouse.query(sql).rows
    return cell

"""The page's queries: the guide's query, a client's features and score, and the SQL that a visitor types."""

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ingestd.core.errors import IngestdError

if TYPE_CHECKING:
    from ingestd.demo.warehouse.database import QueryResult

MAX_ROWS = 50
MAX_CLIENT_ID = 256  # characters


class Table(Protocol):
    """Runs read-only SQL in Snowflake's dialect. Blocks; errors are ``IngestdError``."""

    def query(self, sql: str, limit: int = ...) -> "QueryResult": ...


class QueryReply(msgspec.Struct, frozen=True, kw_only=True):
    """A query with its result, or with the error that prevented one."""

    sql: str
    columns: list[str] = []
    rows: list[list[Any]] = []
    duration_s: float = 0.0
    error: str | None = None


class ClientProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A client's features and score by column; empty where the client has none."""

    client_id: str
    features: dict[str, Any] = {}
    score: dict[str, Any] = {}


class PageQueries:
    """Runs one query at a time, so that visitors wait for each other and never delay the loader."""

    def __init__(self, table: Table, name: str) -> None:
        """`name` is the table's name, an identifier."""
        self._table = table
        self._name = name.lower()
        self._lock = asyncio.Lock()

    async def run(self, sql: str) -> QueryReply:
        async with self._lock:
            started = time.perf_counter()
            try:
                result = await asyncio.to_thread(self._table.query, sql, MAX_ROWS)
            except IngestdError as error:
                return QueryReply(sql=sql, error=str(error))
            duration = time.perf_counter() - started
        return QueryReply(sql=sql, columns=result.columns, rows=result.rows, duration_s=duration)

    async def guide(self) -> QueryReply:
        """Runs the guide's query: the number of events in the table from the last five minutes."""
        return await self.run(
            f"SELECT COUNT(*) FROM {self._name} "  # noqa: S608 (an identifier)
            "WHERE event_timestamp >= DATEADD(minute, -5, CURRENT_TIMESTAMP())"
        )

    async def count_rows(self) -> tuple[int, int]:
        """Returns the number of rows in the table, and of distinct records among them. ``IngestdError`` on failure."""
        record = "source_topic || '+' || source_partition || '+' || source_offset"
        reply = await self.run(f"SELECT COUNT(*), COUNT(DISTINCT {record}) FROM {self._name}")  # noqa: S608 (the same)
        if reply.error is not None:
            raise IngestdError(reply.error)
        rows, records = reply.rows[0]
        return int(rows), int(records)

    async def busiest_client(self) -> str:
        """Returns the id of the client with most events in the last five minutes; "" if there is no client."""
        reply = await self.run("SELECT client_id FROM client_features ORDER BY events_5m DESC, client_id LIMIT 1")
        return str(reply.rows[0][0]) if reply.rows else ""

    async def client(self, client_id: str) -> ClientProfile:
        literal = "'" + client_id[:MAX_CLIENT_ID].replace("\\", "\\\\").replace("'", "''") + "'"
        features = await self.run(f"SELECT * FROM client_features WHERE client_id = {literal}")  # noqa: S608 (quoted)
        score = await self.run(f"SELECT * FROM client_scores WHERE client_id = {literal}")  # noqa: S608 (quoted)
        return ClientProfile(client_id=client_id, features=_first_row(features), score=_first_row(score))


def _first_row(reply: QueryReply) -> dict[str, Any]:
    return dict(zip(map(str.lower, reply.columns), reply.rows[0], strict=True)) if reply.rows else {}

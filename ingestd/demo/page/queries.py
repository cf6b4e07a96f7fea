"""What the page asks the table: the guide's query, a client's features and score, and what a visitor types."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from ingestd.core.errors import IngestdError

MAX_ROWS = 50
MAX_ID = 256  # characters


class PageQueryResult(Protocol):
    """An answer's columns, and its rows of what JSON has."""

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def rows(self) -> Sequence[Sequence[Any]]: ...


class Table(Protocol):
    """Who answers SQL in Snowflake's dialect, reading only. Blocks; errors are ``IngestdError``."""

    def query(self, sql: str, limit: int = ...) -> PageQueryResult: ...


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, or why there is none. `took` is in seconds."""

    sql: str
    columns: list[str] = []
    rows: list[list[Any]] = []
    took: float = 0.0
    error: str | None = None


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a client, by column; empty where there is nothing."""

    client_id: str
    features: dict[str, Any] = {}
    score: dict[str, Any] = {}


class PageQueries:
    """One at a time: visitors wait for each other, not the loader for visitors."""

    def __init__(self, table: Table, name: str) -> None:
        """`name` is the table's, an identifier."""
        self._table = table
        self._name = name.lower()
        self._turn = asyncio.Lock()

    async def ask(self, sql: str) -> Reply:
        """The answer to `sql`."""
        async with self._turn:
            started = time.perf_counter()
            try:
                result = await asyncio.to_thread(self._table.query, sql, MAX_ROWS)
            except IngestdError as error:
                return Reply(sql=sql, error=str(error))
            took = time.perf_counter() - started
        return Reply(sql=sql, columns=list(result.columns), rows=[list(row) for row in result.rows], took=took)

    async def guide(self) -> Reply:
        """How many events of the last five minutes are in the table."""
        return await self.ask(
            f"SELECT COUNT(*) FROM {self._name} "  # noqa: S608 (an identifier)
            "WHERE event_timestamp >= DATEADD(minute, -5, CURRENT_TIMESTAMP())"
        )

    async def rows(self) -> tuple[int, int]:
        """How many rows are in the table, and how many records they are of. ``IngestdError`` where it cannot tell."""
        place = "source_topic || '+' || source_partition || '+' || source_offset"
        reply = await self.ask(f"SELECT COUNT(*), COUNT(DISTINCT {place}) FROM {self._name}")  # noqa: S608 (the same)
        if reply.error is not None:
            raise IngestdError(reply.error)
        rows, records = reply.rows[0]
        return int(rows), int(records)

    async def busiest(self) -> str:
        """Who has done most in the last five minutes; "" where nobody has done anything."""
        reply = await self.ask("SELECT client_id FROM client_features ORDER BY events_5m DESC, client_id LIMIT 1")
        return str(reply.rows[0][0]) if reply.rows else ""

    async def client(self, client_id: str) -> Client:
        """What is known of one."""
        wanted = "'" + client_id[:MAX_ID].replace("\\", "\\\\").replace("'", "''") + "'"
        features = await self.ask(f"SELECT * FROM client_features WHERE client_id = {wanted}")  # noqa: S608 (quoted)
        score = await self.ask(f"SELECT * FROM client_scores WHERE client_id = {wanted}")  # noqa: S608 (quoted)
        return Client(client_id=client_id, features=_first(features), score=_first(score))


def _first(reply: Reply) -> dict[str, Any]:
    return dict(zip(map(str.lower, reply.columns), reply.rows[0], strict=True)) if reply.rows else {}

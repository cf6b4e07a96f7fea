"""The page's queries: the guide's query, a client's features and score, and the SQL that a visitor types."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ingestd.core.errors import IngestdError
from ingestd.snowflake.features import RECORD

if TYPE_CHECKING:
    from ingestd.demo.warehouse.database import QueryResult

MAX_ROWS = 50
MAX_CLIENT_ID = 256  # characters
MAX_WAITING = 4  # queries of a lane; more are refused
TIMEOUT_S = 5.0  # of a query that a person waits for
COUNT_TIMEOUT_S = 30.0  # of the verification's query, which reads the whole table


class Table(Protocol):
    """Runs read-only SQL in Snowflake's dialect. Blocks; errors are ``IngestdError``."""

    def query(self, sql: str, limit: int = ..., timeout_s: float = ...) -> "QueryResult": ...


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


class Lane(Enum):
    """Whose queries wait for each other; each lane runs one query at a time."""

    DAEMON = "the daemon's own: the guide's query and the verification"
    PRESENTER = "requests from this host"
    VISITOR = "requests from other hosts"


class PageQueries:
    """Runs queries in lanes, so that visitors delay neither the presenter nor the verification nor the loader."""

    def __init__(self, table: Table, name: str, record: Sequence[str] = RECORD) -> None:
        """`name` is the table's name, an identifier; `record` are its columns that name a row's record."""
        self._record = record
        self._table = table
        self._name = name.lower()
        # Threads and not locks: the query of a visitor who leaves goes on, and still counts as this lane's one query.
        self._threads = {lane: ThreadPoolExecutor(1, thread_name_prefix=f"page {lane.name}") for lane in Lane}
        self._asked = Counter[Lane]()

    async def run(self, sql: str, lane: Lane, timeout_s: float = TIMEOUT_S) -> QueryReply:
        """Runs a query when the others of its lane have ended; refuses it where too many wait."""
        if self._asked[lane] > MAX_WAITING:
            return QueryReply(sql=sql, error="too many queries are waiting; try again")
        self._asked[lane] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads[lane], self._run, sql, timeout_s)
        finally:
            self._asked[lane] -= 1

    def _run(self, sql: str, timeout_s: float) -> QueryReply:
        started = time.perf_counter()
        try:
            result = self._table.query(sql, MAX_ROWS, timeout_s)
        except IngestdError as error:
            return QueryReply(sql=sql, error=str(error))
        duration = time.perf_counter() - started
        return QueryReply(sql=sql, columns=result.columns, rows=result.rows, duration_s=duration)

    async def guide(self) -> QueryReply:
        """Runs the guide's query: the number of events in the table from the last five minutes."""
        return await self.run(
            f"SELECT COUNT(*) FROM {self._name} "  # noqa: S608 (an identifier)
            "WHERE event_timestamp >= DATEADD(minute, -5, CURRENT_TIMESTAMP())",
            Lane.DAEMON,
        )

    async def count_rows(self) -> tuple[int, int]:
        """Returns the number of rows in the table, and of distinct records among them. ``IngestdError`` on failure."""
        record = " || '+' || ".join(self._record)
        sql = f"SELECT COUNT(*), COUNT(DISTINCT {record}) FROM {self._name}"  # noqa: S608 (identifiers)
        reply = await self.run(sql, Lane.DAEMON, COUNT_TIMEOUT_S)
        if reply.error is not None:
            raise IngestdError(reply.error)
        rows, records = reply.rows[0]
        return int(rows), int(records)

    async def client(self, client_id: str, lane: Lane) -> ClientProfile:
        """Returns a client's features and score; those of the busiest client where `client_id` is empty."""
        client_id = client_id or await self._busiest_client(lane)
        literal = "'" + client_id[:MAX_CLIENT_ID].replace("\\", "\\\\").replace("'", "''") + "'"
        features = await self.run(f"SELECT * FROM client_features WHERE client_id = {literal}", lane)  # noqa: S608 (quoted)
        score = await self.run(f"SELECT * FROM client_scores WHERE client_id = {literal}", lane)  # noqa: S608 (quoted)
        return ClientProfile(client_id=client_id, features=_first_row(features), score=_first_row(score))

    async def _busiest_client(self, lane: Lane) -> str:
        """Returns the id of the client with most events in the last five minutes; "" if there is no client."""
        reply = await self.run("SELECT client_id FROM client_features ORDER BY events_5m DESC, client_id LIMIT 1", lane)
        return str(reply.rows[0][0]) if reply.rows else ""


def _first_row(reply: QueryReply) -> dict[str, Any]:
    return dict(zip(map(str.lower, reply.columns), reply.rows[0], strict=True)) if reply.rows else {}

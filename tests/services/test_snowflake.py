"""The stand-in for Snowflake, and the store that notifies, as far as the other tests rely on them.

What is tried here of pipes and of the history is a simulation's: in the form that Snowflake documents, never recorded.
"""

import gzip
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.services.ministack import Ministack, Queue
from tests.services.snowflake import Snowflake

TABLE = "event_id VARCHAR(256) NOT NULL, happened TIMESTAMP_NTZ(6), properties VARIANT, file_name VARCHAR, line NUMBER"
COPY = """COPY INTO {0}.T (event_id, happened, properties, file_name, line) FROM (
  SELECT $1:event_id::STRING, $1:happened::TIMESTAMP_NTZ, $1:properties, METADATA$FILENAME, METADATA$FILE_ROW_NUMBER
  FROM @{0}.ST) FILE_FORMAT = (TYPE = JSON)"""


class Place:
    """A bucket with a stage, a table and a pipe of its own."""

    def __init__(self, store: Ministack, cursor: Any) -> None:
        self.store = store
        self.bucket = f"test-{uuid.uuid4().hex}"
        self.schema = f"MARKETING.S{uuid.uuid4().hex[:8].upper()}"
        self._cursor = cursor
        store.create_bucket(self.bucket)
        self.run(f"CREATE SCHEMA {self.schema}")
        self.run(f"CREATE TABLE {self.schema}.T ({TABLE})")
        self.run(f"CREATE STAGE {self.schema}.ST URL = 's3://{self.bucket}/events/'")
        self.create_pipe()

    def create_pipe(self) -> None:
        self.run(f"CREATE OR REPLACE PIPE {self.schema}.P AUTO_INGEST = TRUE AS {COPY.format(self.schema)}")

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self._cursor.execute(sql).fetchall()
        return found

    def put(self, name: str, *rows: dict[str, Any] | bytes) -> None:
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        body = gzip.compress(b"".join(line + b"\n" for line in lines))
        with closing(self.store.client()) as client:
            client.put_object(Bucket=self.bucket, Key=f"events/{name}", Body=body)

    def rows(self) -> list[tuple[Any, ...]]:
        return self.run(f"SELECT event_id, file_name, line FROM {self.schema}.T ORDER BY 1, 2, 3")  # noqa: S608

    def history(self) -> dict[str, list[tuple[int, str]]]:
        """Rows and state of each load, by file."""
        first, last = (f"'{year}-01-01T00:00:00+00:00'::TIMESTAMP_LTZ" for year in (2026, 2100))
        times = f"START_TIME => {first}, END_TIME => {last}"
        function = f"INFORMATION_SCHEMA.COPY_HISTORY(TABLE_NAME => '{self.schema}.T', {times})"
        found: dict[str, list[tuple[int, str]]] = {}
        for name, rows, state in self.run(f"SELECT file_name, row_count, status FROM TABLE(MARKETING.{function})"):  # noqa: S608
            found.setdefault(name, []).append((rows, state))
        return found

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(f"SELECT SYSTEM$PIPE_STATUS('{self.schema}.P')")[0][0])
        return found

    def refresh(self) -> None:
        self.run(f"ALTER PIPE {self.schema}.P REFRESH")
        until(lambda: self.status()["pendingFileCount"] == 0)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def event(name: str, **more: Any) -> dict[str, Any]:
    return {"event_id": name, "happened": "2026-11-23T08:00:00.123456Z", **more}


@pytest.fixture
def place(ministack: Ministack, snowflake: Snowflake) -> Iterator[Place]:
    with closing(snowflake.connect()) as connection, closing(connection.cursor()) as cursor:
        yield Place(ministack, cursor)


def test_a_new_object_gets_into_the_table_by_a_notification(place: Place, queue: Queue) -> None:
    place.store.notify(place.bucket, queue, "events/")
    name = "year=2026/topic+00000+1.jsonl.gz"
    place.put(name, event("a"), event("b", properties={"deep": [1, "ü"]}))
    place.put("year=2026/other.txt", event("c"))

    until(lambda: len(place.rows()) == 2)

    assert place.rows() == [("a", f"events/{name}", 1), ("b", f"events/{name}", 2)]
    assert place.history() == {name: [(2, "Loaded")]}
    assert place.run(f"SELECT properties:deep[1]::STRING FROM {place.schema}.T WHERE event_id = 'b'") == [("ü",)]  # noqa: S608
    assert place.status()["lastIngestedFilePath"] == name


def test_a_pipe_loads_a_name_once_and_one_that_was_made_anew_forgets(place: Place) -> None:
    place.put("a.jsonl.gz", event("a"))
    place.refresh()
    place.refresh()
    place.put("a.jsonl.gz", event("a"), event("changed"))
    place.refresh()
    assert [row[0] for row in place.rows()] == ["a"]

    place.create_pipe()
    place.refresh()
    assert [row[0] for row in place.rows()] == ["a"], "a refresh looks at the history of the table, too"


@pytest.mark.parametrize(
    "line", [b"{nonsense", b'{"happened": "2026-11-23T08:00:00Z"}', b'{"event_id": "x", "happened": "no"}']
)
def test_one_bad_row_costs_the_file_which_is_never_tried_again(place: Place, line: bytes) -> None:
    place.put("bad.jsonl.gz", event("a"), line)
    place.refresh()
    assert place.history() == {"bad.jsonl.gz": [(0, "Load failed")]}

    place.put("bad.jsonl.gz", event("a"), event("b"))
    place.refresh()
    assert place.rows() == []

    place.run(f"{COPY.format(place.schema)} FILES = ('bad.jsonl.gz')")
    assert place.history() == {"bad.jsonl.gz": [(0, "Load failed"), (2, "Loaded")]}


def test_an_object_without_rows_is_loaded_with_none(place: Place) -> None:
    place.put("empty.jsonl.gz")
    place.refresh()
    assert place.history() == {"empty.jsonl.gz": [(0, "Loaded")]}


def test_a_pipe_that_is_paused_waits(place: Place) -> None:
    place.run(f"ALTER PIPE {place.schema}.P SET PIPE_EXECUTION_PAUSED = TRUE")
    place.put("a.jsonl.gz", event("a"))
    place.run(f"ALTER PIPE {place.schema}.P REFRESH")
    status = place.status()
    assert (status["executionState"], status["pendingFileCount"]) == ("PAUSED", 1)
    assert status["oldestPendingFilePath"] == "a.jsonl.gz"

    place.run(f"ALTER PIPE {place.schema}.P SET PIPE_EXECUTION_PAUSED = FALSE")
    until(place.rows)


def test_the_guide_s_query_answers(place: Place) -> None:
    place.put("a.jsonl.gz", event("old"))
    place.refresh()
    sql = f"SELECT COUNT(*) FROM {place.schema}.T WHERE happened >= DATEADD(minute, -5, CURRENT_TIMESTAMP())"  # noqa: S608
    assert place.run(sql) == [(0,)]
    assert place.run(sql.replace(">=", "<")) == [(1,)]


def test_a_notification_has_the_key_as_aws_writes_it(ministack: Ministack) -> None:
    bucket, queue = f"test-{uuid.uuid4().hex}", ministack.create_queue(f"q-{uuid.uuid4().hex}")
    ministack.create_bucket(bucket)
    ministack.notify(bucket, queue, "events/")
    with closing(ministack.client()) as client:
        for key in ("events/year=2026/t+1.jsonl.gz", "events/no.txt", "other/t.jsonl.gz"):
            client.put_object(Bucket=bucket, Key=key, Body=b"")

    found: list[Any] = []
    with closing(ministack.queues()) as client:

        def received() -> list[Any]:
            answer = client.receive_message(QueueUrl=queue.url, WaitTimeSeconds=1, MaxNumberOfMessages=10)
            found.extend(json.loads(message["Body"]) for message in answer.get("Messages", []))
            return [record for message in found for record in message.get("Records", [])]

        until(received)

    [record] = [record for message in found for record in message.get("Records", [])]
    assert record["s3"]["object"]["key"] == "events/year%3D2026/t%2B1.jsonl.gz"

"""`ingestd snowflake apply` sets up the stand-in for Snowflake and a bucket, and what lands then gets into the table.

Roles, grants and integrations are said yes to, and dynamic tables and functions are simulated; the rest is SQL that
runs. The connector is the unmodified one.
"""

import gzip
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ingestd.config.model import S3Config, SnowflakeConfig
from ingestd.core.errors import EXIT_PROBLEMS, SinkForbidden, SnowflakeError
from ingestd.core.events import load_model
from ingestd.sinks.s3_notification import change_notification
from ingestd.snowflake.connection import Connection, open_connection
from ingestd.snowflake.table import columns
from tests.e2e.daemon import credentials
from tests.services.ministack import Ministack, Queue
from tests.services.seaweed import REGION
from tests.services.snowflake import Snowflake

COLUMNS = columns(load_model(None))
ROLE = "arn:aws:iam::123456789012:role/snowflake-reads-events"
DEADLINE = 60.0  # seconds


class Place:
    """A bucket and a schema of one test's own, and the commands that run on them as processes."""

    def __init__(self, store: Ministack, server: Snowflake, folder: Path) -> None:
        self.store = store
        self.bucket = f"test-{uuid.uuid4().hex}"
        self.schema = f"S{uuid.uuid4().hex[:12].upper()}"
        self._folder = folder
        self._keys = {
            **server.settings(),
            "snowflake.schema": self.schema,
            "snowflake.integration": f"I{self.schema}",
            "snowflake.aws_role_arn": ROLE,
            "snowflake.compute": "WH",
            "sink.url": f"s3://{self.bucket}/some/where",
            "s3.addressing": "path",
        }
        # Not s3.endpoint_url: that is a store which Snowflake cannot be told of by notification.
        self._environment = {**credentials(store), "AWS_ENDPOINT_URL_S3": store.endpoint}
        store.create_bucket(self.bucket)

    def run(self, *words: str, more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        flags = [part for key, value in {**self._keys, **(more or {})}.items() for part in ("--set", f"{key}={value}")]
        return subprocess.run(
            [sys.executable, "-m", "ingestd", *words, *flags], cwd=self._folder, env=self._environment,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def apply(self, *words: str) -> str:
        done = self.run("snowflake", "apply", *words)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        return done.stdout

    def rows(self) -> list[tuple[str, int, dict[str, Any]]]:
        """Each row of the data objects, with its key and its number there."""
        found = []
        with closing(self.store.client()) as client:
            for entry in client.list_objects_v2(Bucket=self.bucket, Prefix="some/where/events/")["Contents"]:
                body = client.get_object(Bucket=self.bucket, Key=entry["Key"])["Body"].read()
                lines = gzip.decompress(body).splitlines()
                found += [(entry["Key"], number, json.loads(line)) for number, line in enumerate(lines, 1)]
        return found

    def notifications(self) -> dict[str, Any]:
        with closing(self.store.client()) as client:
            found = client.get_bucket_notification_configuration(Bucket=self.bucket)
        return {name: value for name, value in found.items() if name != "ResponseMetadata"}


@pytest.fixture
def place(ministack: Ministack, snowflake: Snowflake, tmp_path: Path) -> Place:
    return Place(ministack, snowflake, tmp_path)


@pytest.fixture(scope="module")
def applied(ministack: Ministack, snowflake: Snowflake, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where apply has run once; what a test does to it, the others can stand."""
    place = Place(ministack, snowflake, tmp_path_factory.mktemp("applied"))
    place.apply("--notify")
    return place


@pytest.fixture
def connection(snowflake: Snowflake) -> Iterator[Connection]:
    keys = {key.removeprefix("snowflake."): value for key, value in snowflake.settings().items()}
    with open_connection(SnowflakeConfig(**keys)) as found:  # type: ignore[arg-type]
        yield found


def as_loaded(key: str, number: int, row: dict[str, Any]) -> tuple[Any, ...]:
    """What the table has for a row, all but when it was loaded."""
    load = {"file_name": key, "file_row_number": number}
    return tuple(
        as_python(row.get(column.path), column.type) if column.path else load[column.name] for column in COLUMNS[:-1]
    )


def as_python(value: Any, kind: str) -> Any:
    if value is not None and kind.startswith("TIMESTAMP"):
        return datetime.fromisoformat(value).replace(tzinfo=None)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) if isinstance(value, dict) else value


def ask(connection: Connection, place: Place, sql: str) -> list[tuple[Any, ...]]:
    return connection.execute(sql.replace("EVENTS.", f"MARKETING.{place.schema}.")).rows


def test_after_apply_what_lands_gets_into_the_table_once(place: Place, queue: Queue, connection: Connection) -> None:
    out = place.apply("--notify")
    assert f"now notifies {queue.arn} of some/where/events/*.jsonl.gz" in out
    [rule] = place.notifications()["QueueConfigurations"]
    assert rule["QueueArn"] == queue.arn

    # Duplicates are the producer's: two records, two rows, one event.
    history = {
        "simulator.history": "2h",
        "simulator.rate": "60",
        "simulator.duplicate": "0.1",
        "health.enabled": "false",
    }
    done = place.run("--source", "simulator", more=history)
    assert done.returncode == 0, done.stderr
    written = place.rows()
    landed = len(written)
    deadline = time.monotonic() + DEADLINE
    count = "SELECT COUNT(*) FROM EVENTS.MARKETING_EVENTS"
    while ask(connection, place, count) != [(landed,)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    [(rows, records, events, names, kafka, loaded)] = ask(
        connection,
        place,
        "SELECT COUNT(*), COUNT(DISTINCT source_partition || '-' || source_offset), COUNT(DISTINCT event_id), "
        "COUNT(DISTINCT file_name), COUNT(received_at), COUNT(loaded_at) FROM EVENTS.MARKETING_EVENTS",
    )
    assert rows == records == kafka == loaded == landed > events
    assert names == len({key for key, _, _ in written})
    assert ask(connection, place, "SELECT COUNT(*) FROM EVENTS.MARKETING_EVENTS_DEDUPLICATED") == [(events,)]
    names_of = ", ".join(column.name for column in COLUMNS[:-1])  # all but when it was loaded
    table = ask(connection, place, f"SELECT {names_of} FROM EVENTS.MARKETING_EVENTS")  # noqa: S608
    assert sorted(table, key=repr) == sorted((as_loaded(*it) for it in written), key=repr)
    [(clients, scored, low, high)] = ask(
        connection,
        place,
        "SELECT (SELECT COUNT(DISTINCT client_id) FROM EVENTS.MARKETING_EVENTS), COUNT(*), MIN(propensity), "
        "MAX(propensity) FROM EVENTS.CLIENT_SCORES",
    )
    assert clients == scored
    assert 0 < low <= high < 1


def test_applied_again_it_changes_nothing(applied: Place, connection: Connection) -> None:
    row = "(event_id, client_id, event_timestamp, event_type) VALUES ('e', 'c', '2026-11-23 08:00:00', 't')"
    ask(connection, applied, f"INSERT INTO EVENTS.MARKETING_EVENTS {row}")
    before = applied.notifications()
    assert "now notifies" not in applied.apply("--notify")
    assert applied.notifications() == before
    assert ask(connection, applied, "SELECT event_id FROM EVENTS.MARKETING_EVENTS") == [("e",)]


def test_the_table_refuses_a_row_without_an_event_id(applied: Place, connection: Connection) -> None:
    with pytest.raises(SnowflakeError, match="NOT NULL"):
        ask(connection, applied, "INSERT INTO EVENTS.MARKETING_EVENTS (client_id) VALUES ('c')")


def test_another_style_of_an_existing_pipe_is_told(applied: Place) -> None:
    done = applied.run("snowflake", "apply", "--style", "match")
    assert done.returncode == EXIT_PROBLEMS
    assert "differs from that of this version (style match)" in done.stdout


async def test_other_rules_of_the_bucket_are_kept(place: Place, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in credentials(place.store).items():
        monkeypatch.setenv(name, value)
    other = place.store.create_queue(f"other-{uuid.uuid4().hex}")
    place.store.notify(place.bucket, other, "quarantine/")
    settings = S3Config(endpoint_url=place.store.endpoint, region=REGION, addressing="path")

    def add(present: dict[str, Any]) -> dict[str, Any]:
        ours = {"Id": "ours", "QueueArn": queue.arn, "Events": ["s3:ObjectCreated:*"]}
        others = [it for it in present["QueueConfigurations"] if it["Id"] != "ours"]
        return {**present, "QueueConfigurations": [*others, ours]}

    url = f"s3://{place.bucket}/prefix"
    assert await change_notification(url, settings, add)
    assert {it["QueueArn"] for it in place.notifications()["QueueConfigurations"]} == {queue.arn, other.arn}
    with pytest.raises(SinkForbidden, match="cannot read the notification configuration of s3://no-such-bucket"):
        await change_notification("s3://no-such-bucket", settings, add)

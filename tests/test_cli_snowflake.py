"""`ingestd snowflake status` and `reconcile`, over a connection and a store of the tests' own."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

import pytest

from ingestd.cli.snowflake import reconcile, status
from ingestd.config.load import Flag, Settings, load
from ingestd.config.model import Config
from ingestd.core.errors import EXIT_PROBLEMS, ConfigError, SnowflakeRefused, SnowflakeUnavailable
from ingestd.core.records import TopicPartition
from ingestd.snowflake.connection import Connection, StatementResult
from ingestd.snowflake.copy_history import _COLUMNS, MAX_LINES
from ingestd.snowflake.reconcile import ReconcileReport
from tests.archive import Archive

TP = TopicPartition("t", 0)
NOW = datetime.now(UTC)
MS = int(NOW.timestamp() * 1000)
HOUR = 3_600_000
RUNNING = '{"executionState": "RUNNING", "pendingFileCount": 0}'


class Canned(Connection):
    """Answers by what a statement has in it."""

    def __init__(self, pipe: str = RUNNING) -> None:
        self.pipe = pipe
        self.history: list[tuple[Any, ...]] = []
        self.table: list[tuple[str, int]] = []
        self.statements: list[str] = []

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> StatementResult:
        self.statements.append(sql)
        if "PIPE_STATUS" in sql:
            return StatementResult(("status",), [(self.pipe,)])
        if "COPY_HISTORY" in sql:
            return StatementResult(_COLUMNS, self.history)
        return StatementResult(("file_name", "count"), list(self.table))

    def close(self) -> None:
        self.statements.append("closed")

    def __enter__(self) -> Self:
        return self

    def load(self, key: str, rows: int, state: str = "Loaded", error: str | None = None) -> None:
        self.history.append(
            (key.removeprefix("events/"), "s3://bucket/events/", NOW, rows, rows, 0, error, None, state, "P")
        )


def settings(**keys: str) -> Settings:
    given = {"sink.url": "s3://bucket", "snowflake.account": "a", "snowflake.user": "u", **keys}
    return load(environ={}, flags=[Flag("--set", key, value) for key, value in given.items()])


async def compared(archive: Archive, connection: Canned, **options: Any) -> ReconcileReport:
    config: Config = settings().config
    stage = reconcile.stage_of(config)
    return await reconcile.compare(config, reconcile.Options(**options), connection, archive.sink, stage)


async def test_objects_are_compared_with_the_history() -> None:
    archive, connection = Archive(), Canned()
    one, two, _ = (archive.add(TP, *ends, MS - 2 * HOUR) for ends in ((0, 5), (5, 8), (8, 12)))
    connection.load(one, 5)
    connection.load(two, 3)

    report = await compared(archive, connection)

    assert (report.objects, report.rows, report.loaded_rows) == (3, 12, 8)
    assert report.counts == {"missing": 1}


async def test_objects_of_one_offset_and_two_leader_epochs_are_compared_each() -> None:
    archive, connection = Archive(), Canned()
    lost, kept = (archive.add(TP, 0, 5, MS - 2 * HOUR, named=0, leader_epoch=epoch) for epoch in (1, 3))
    connection.load(lost, 5)

    report = await compared(archive, connection)

    assert (report.objects, report.rows, report.loaded_rows) == (2, 10, 5)
    assert [(finding.kind, finding.key) for finding in report.findings] == [("missing", kept)]


async def test_what_the_history_calls_twice_is_looked_up_in_the_table() -> None:
    archive, connection = Archive(), Canned()
    key = archive.add(TP, 0, 5, MS - 2 * HOUR)
    connection.load(key, 10)
    connection.table = [(key, 5)]

    report = await compared(archive, connection)

    assert (report.ok, report.counts) == (True, {})
    assert f"WHERE file_name IN ('{key}')" in connection.statements[-1]


async def test_only_the_objects_of_the_time_that_was_asked_for_count() -> None:
    archive, connection = Archive(), Canned()
    times = [MS - hours * HOUR for hours in (30, 20, 10)]
    for number, when in enumerate(times):
        archive.add(TP, number, number + 1, when)

    report = await compared(archive, connection, since=times[1], until=times[2])

    assert [finding.key for finding in report.findings] == [archive.layout.data_key(TP, 1, times[1], 2)]


async def test_a_history_that_is_cut_is_no_basis() -> None:
    archive, connection = Archive(), Canned()
    connection.load("events/a", 1)
    connection.history *= MAX_LINES
    with pytest.raises(SnowflakeRefused, match="COPY_HISTORY has more than"):
        await compared(archive, connection)


def test_a_time_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ConfigError, match="--since is not before --until"):
        reconcile.run(settings(), reconcile.Options(since=2, until=1))


def test_a_directory_is_no_place_that_snowflake_loads_from() -> None:
    with pytest.raises(ConfigError, match="is not a bucket"):
        reconcile.run(settings(**{"sink.url": "./data"}), reconcile.Options())


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Canned:
    made = Canned()
    monkeypatch.setattr(status, "open_connection", lambda _: made)
    return made


@pytest.mark.parametrize(
    ("pipe", "code", "words"),
    [
        (RUNNING, 0, "Healthy."),
        ('{"executionState": "PAUSED"}', EXIT_PROBLEMS, "Unhealthy: the pipe is not running: PAUSED"),
    ],
)
def test_the_exit_code_says_whether_the_pipe_is_healthy(
    connection: Canned, capsys: pytest.CaptureFixture[str], pipe: str, code: int, words: str
) -> None:
    connection.pipe = pipe
    assert status.run(settings(), status.Options()) == code
    assert words in capsys.readouterr().out


def test_a_failed_file_of_the_last_day_is_unhealthy(connection: Canned, capsys: pytest.CaptureFixture[str]) -> None:
    connection.load("events/bad.gz", 0, "Load failed", "too long")
    assert status.run(settings(), status.Options(json=True)) == EXIT_PROBLEMS
    assert '"error": "too long"' in capsys.readouterr().out


def test_an_answer_that_cannot_be_read_is_an_error_of_snowflakes(connection: Canned) -> None:
    connection.pipe = "?"
    with pytest.raises(SnowflakeRefused, match="cannot parse the pipe's status"):
        status.run(settings(), status.Options())


def test_a_watch_goes_on_when_snowflake_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: list[Canned | BaseException] = [
        SnowflakeUnavailable("no network", code="x"),
        Canned(),
        KeyboardInterrupt(),
    ]
    turns = iter(answers)

    def take_turns(_: object) -> Canned:
        turn = next(turns)
        if isinstance(turn, Canned):
            return turn
        raise turn

    waits: list[float] = []
    monkeypatch.setattr(status, "open_connection", take_turns)
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(KeyboardInterrupt):
        status.run(settings(), status.Options(watch=True))
    output = capsys.readouterr().out
    assert output.index("no network") < output.index("Healthy.")
    assert waits == [status.WATCH_S] * 2
    monkeypatch.setattr(status, "open_connection", lambda _: (_ for _ in ()).throw(SnowflakeUnavailable("x", code="")))
    with pytest.raises(SnowflakeUnavailable):
        status.run(settings(), status.Options())

"""What is tried with every SDK of a server: each call is one row, and a collector that dies loses none."""

from collections import defaultdict
from pathlib import Path

from tests.collect.calls import (
    CALLS,
    COLUMNS,
    PROPERTIES,
    SNOWPLOW_CALLS,
    SNOWPLOW_COLUMNS,
    SNOWPLOW_PROPERTIES,
    ids,
    numbered,
    numbers,
)
from tests.collect.recorder import Recorder
from tests.e2e.collector import Collector, Row
from tests.services.clients import CLIENTS, Sender, send_all

COUNT = 60  # calls, in requests of about five


async def check_rows(name: str, directory: Path) -> None:
    """Every call of the list is one row with the right columns, under the SDK's own id."""
    calls, columns, properties = CALLS, COLUMNS, PROPERTIES
    if name.startswith("snowplow"):
        calls, columns, properties = SNOWPLOW_CALLS, SNOWPLOW_COLUMNS, SNOWPLOW_PROPERTIES
    collector = Collector(directory)
    try:
        await collector.start_ready()
        async with Recorder(collector.url) as recorder:
            await send_all(CLIENTS[name], recorder.url, name.split("-")[0], calls)
        assert await collector.stop() == 0
    finally:
        collector.kill()
    assert {it.status for it in recorder.posts()} == {200}
    assert not collector.rejected()
    rows = collector.rows()
    assert [row["event_id"] for row in rows] == [event_id for it in recorder.posts() for event_id in ids(it)]
    for row, expected, inner in zip(rows, columns, properties, strict=True):
        assert {column: row.get(column) for column in expected} == expected
        assert inner.items() <= _with_traits(row).items()


def _with_traits(row: Row) -> Row:
    # One SDK has the traits of identify in the context.
    properties: Row = row["properties"]
    return {**properties.get("context", {}), **properties}


async def check_deaths(name: str, directory: Path) -> None:
    """The collector dies before it has taken a request, and later before its answer arrives: nothing is lost."""
    collector = Collector(directory)
    try:
        await collector.start_ready()
        async with Recorder(collector.url) as recorder, Sender(CLIENTS[name], recorder.url, name.split("-")[0]) as sdk:

            deaths = Deaths(collector)
            recorder.before, recorder.after = deaths.before, deaths.after
            for start in range(0, COUNT, 5):
                await sdk.send(numbered(5, start))
            await sdk.end(120)
        assert deaths.count == 2
        assert await collector.stop() == 0
    finally:
        collector.kill()
    check_nothing_lost(recorder, collector.rows())
    assert not collector.rejected()


class Deaths:
    """Kills the collector before it has the third request, and once more when it has answered the third."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._answers = 0
        self.count = 0

    async def before(self, number: int) -> None:
        if number == 3:
            self._die()

    async def after(self, _: int) -> None:
        self._answers += 1
        if self._answers == 3:
            self._die()

    def _die(self) -> None:
        self.count += 1
        self._collector.kill()
        self._collector.start()
        raise ConnectionResetError


def check_nothing_lost(recorder: Recorder, rows: list[Row], count: int = COUNT) -> None:
    """What was answered 200 is in a row; every call got through in the end; and each has one id."""
    landed = {row["event_id"] for row in rows}
    answered = [it for it in recorder.posts() if it.status == 200]
    assert {event_id for it in answered for event_id in ids(it)} <= landed
    assert {number for number, _ in numbers(answered)} == set(range(count))
    by_number = defaultdict(set)
    for number, event_id in numbers(recorder.posts()):
        by_number[number].add(event_id)
    assert all(len(it) == 1 for it in by_number.values())
    assert landed == {event_id for it in by_number.values() for event_id in it}

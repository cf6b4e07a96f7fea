"""What is tried with every SDK of a server: each call is one row, and a collector that dies loses none."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.collect.calls import Case, cases_of, ids, numbered, numbers
from tests.collect.recorder import Recorder
from tests.e2e.collector import Collector, Edge, Row
from tests.e2e.daemon import DEADLINE
from tests.services.clients import CLIENTS, Call, Sender

COUNT = 60  # calls, in requests of about five


async def check_rows(name: str, directory: Path) -> None:
    """Every call of the list is one row with the right columns, under the SDK's own id."""
    cases = cases_of(name)
    collector = Collector(directory)
    try:
        await collector.start_ready()
        async with Recorder(collector.url) as recorder:
            await send(name, recorder, [case.call for case in cases])
        rows = await collector.landed()
    finally:
        collector.kill()
    assert {it.status for it in recorder.posts()} == {200}
    assert [row["event_id"] for row in rows] == [event_id for it in recorder.posts() for event_id in ids(it)]
    assert len(rows) == len(cases)
    for case in cases:  # not every SDK keeps the order
        assert [row for row in rows if fits(case, row)], case


def fits(case: Case, row: Row) -> bool:
    """Whether a row is that of a call."""
    columns = {column: row.get(column) for column in case.columns}
    # One SDK has the traits of identify in the context.
    properties = {**row["properties"].get("context", {}), **row["properties"]}
    return columns == case.columns and case.properties.items() <= properties.items()


async def send(name: str, recorder: Recorder, calls: Sequence[Call]) -> None:
    """Have the SDK send calls, until each is answered 200."""
    async with sender(name, recorder) as sdk:
        await sdk.send(calls)
        sdk.close()
        await until_answered(recorder, len(calls))


async def send_numbered(sdk: Sender, recorder: Recorder) -> None:
    """Have the SDK send `COUNT` calls, in three requests at least."""

    def came(count: int) -> bool:
        return len(recorder.posts()) >= count

    for start in range(0, COUNT, 5):
        await sdk.send(numbered(5, start))
        # One SDK makes few requests of many calls.
        await recorder.until(partial(came, min(start // 5 + 1, 3)))
    sdk.close()


def sender(name: str, recorder: Recorder) -> Sender:
    """The SDK; it sends to the recorder."""
    return Sender(CLIENTS[name], recorder.url, name.partition("-")[0])


async def until_answered(recorder: Recorder, count: int) -> None:
    """Wait until so many events were answered 200: not every SDK can tell that."""
    await recorder.until(lambda: len(answered_ids(recorder)) >= count, 2 * DEADLINE)


def answered_ids(recorder: Recorder) -> set[str]:
    """The ids of the events that were answered 200."""
    return {event_id for it in recorder.posts() if it.status == 200 for event_id in ids(it)}


async def check_deaths(name: str, directory: Path) -> None:
    """The collector dies before it has taken a request, and later before its answer arrives: nothing is lost."""
    collector = Collector(directory)
    try:
        await collector.start_ready()
        async with (
            Recorder(collector.url) as recorder,
            sender(name, recorder) as sdk,
        ):
            deaths = Deaths(collector)
            recorder.before, recorder.after = deaths.before, deaths.after
            await send_numbered(sdk, recorder)
            await until_answered(recorder, COUNT)
        assert deaths.count == 2
        rows = await collector.landed()
    finally:
        collector.kill()
    check_nothing_lost(recorder, rows, COUNT)


class Deaths:
    """Kills the collector before it has the request of this number, and once more when it has answered so many."""

    def __init__(self, collector: Edge, number: int = 2) -> None:
        self._collector = collector
        self._number = number
        self._answers = 0
        self.count = 0

    async def before(self, number: int) -> None:
        if number == self._number:
            self._die()

    async def after(self, _: int) -> None:
        self._answers += 1
        if self._answers == self._number:
            self._die()

    def _die(self) -> None:
        self.count += 1
        self._collector.kill()
        self._collector.start()
        raise ConnectionResetError


def check_nothing_lost(recorder: Recorder, rows: Sequence[Row], count: int) -> None:
    """What was answered 200 has landed; every numbered call got through in the end; and each has one id."""
    landed = {row["event_id"] for row in rows}
    assert answered_ids(recorder) <= landed
    answered = [it for it in recorder.posts() if it.status == 200]
    assert {number for number, _ in numbers(answered)} == set(range(count))
    by_number = defaultdict(set)
    for number, event_id in numbers(recorder.posts()):
        by_number[number].add(event_id)
    assert all(len(it) == 1 for it in by_number.values())
    assert landed == {event_id for it in recorder.posts() for event_id in ids(it)}

"""Whatever happens to a log, `ingestd verify` finds each object that is missing or doubled, and nothing else."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.core.records import LogRange, Position
from ingestd.verify.findings import VerifyReport
from ingestd.verify.run import VerifyOptions
from tests.archive import DAY, NOON, P0, Archive
from tests.fakes.inspector import FakeInspector
from tests.fakes.leader_epochs import LeaderEpochs
from tests.verify_world import TAG, found, look


@dataclass
class Buffered:
    """Records that a writer has read and not landed: it may land them although Kafka has lost them since."""

    position: Position
    end: int
    epoch: int


@dataclass
class History:
    """A log that is appended to and truncated, and a correct writer of its chain."""

    archive: Archive = field(default_factory=Archive)
    epochs: LeaderEpochs = field(default_factory=LeaderEpochs)
    end: int = 0
    position: Position = field(default_factory=lambda: Position(0))
    zombie: Buffered | None = None
    spans: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # by key: leader epoch, start, end

    def append(self, count: int) -> None:
        for offset in range(self.end, self.end + count):
            self.epochs.append(offset)
        self.end += count

    def truncate(self, back: int) -> None:
        """The records at the end are lost; without any, another leader was elected."""
        position, end = self.position, self.end
        self.end = max(0, end - back)
        if self._follows() and position.offset < end:
            epoch = self.epochs.at(position.offset)
            self.zombie = Buffered(position, self.epochs.end(epoch, end).end, epoch)
        self.epochs.elect(self.end)

    def read(self, count: int) -> None:
        """The writer lands the next records, from where the log was truncated on."""
        at = self.position.offset
        if not self._follows():
            assert self.position.leader_epoch is not None
            at = self.epochs.end(self.position.leader_epoch, self.end).end
        if at < self.end:
            epoch = self.epochs.at(at)
            self._add(at, min(at + count, self.epochs.end(epoch, self.end).end), epoch)

    def land(self, count: int) -> None:
        """The zombie lands some of what it has, unless another writer was first."""
        held, self.zombie = self.zombie, None
        start = held.position.offset if held is not None else 0
        if held is not None and all((held.epoch, start) != span[:2] for span in self.spans.values()):
            before = self.position
            self._add(start, min(start + count, held.end), held.epoch)
            if before != held.position:
                self.position = before

    def _follows(self) -> bool:
        """Whether the log still has the record before the writer's position."""
        epoch = self.position.leader_epoch
        if epoch is None:
            return True
        known, end = self.epochs.end(epoch, self.end)
        return known == epoch and end >= self.position.offset

    def _add(self, start: int, end: int, epoch: int) -> None:
        time = NOON + len(self.spans) % 3 * DAY
        key = self.archive.add(P0, start, end, time, named=start, leader_epoch=epoch)
        self.spans[key] = (epoch, start, end)
        self.position = Position(end, TAG, leader_epoch=epoch)

    def look(self) -> VerifyReport:
        kafka = FakeInspector(({P0: self.position if self.spans else None}, {P0: LogRange(0, self.end)}))
        kafka.epochs[P0] = self.epochs
        return asyncio.run(look(self.archive, VerifyOptions(), kafka, kafka__start="latest"))

    def in_chain(self) -> list[str]:
        """The objects with records that no later leader epoch replaces, without the first one."""
        return [
            key
            for key, (epoch, start, _) in self.spans.items()
            if start and not any(other > epoch and begin <= start for other, begin, _ in self.spans.values())
        ]


STEPS = st.lists(
    st.tuples(st.sampled_from(["append", "truncate", "read", "read", "land"]), st.integers(0, 6)).filter(
        lambda step: step[1] or step[0] == "truncate"
    ),
    max_size=14,
)


def play(steps: Collection[tuple[str, int]]) -> History:
    history = History()
    for name, count in [("append", 5), ("read", 3), *steps, ("append", 2), *[("read", 6)] * 6]:
        getattr(history, name)(count)
    return history


@given(STEPS)
def test_whatever_happened_a_correct_writer_has_no_problem(steps: list[tuple[str, int]]) -> None:
    history = play(steps)
    report = history.look()
    assert report.ok, report.problems
    (it,) = report.partitions
    assert (it.end, it.leader_epoch) == (history.position.offset, history.position.leader_epoch)


@given(STEPS, st.data())
def test_every_object_that_is_missing_from_the_chain_is_found(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    history = play(steps)
    if not (in_chain := history.in_chain()):
        return
    key = data.draw(st.sampled_from(in_chain))
    history.archive.delete(key)
    assert history.look().problems


@given(STEPS, st.data())
def test_every_object_that_is_there_twice_is_found(steps: list[tuple[str, int]], data: st.DataObject) -> None:
    history = play(steps)
    key = data.draw(st.sampled_from(sorted(history.spans)))
    epoch, start, end = history.spans[key]
    copy = history.archive.add(P0, start, end, NOON + 9 * DAY, named=start, leader_epoch=epoch)
    report = history.look()
    assert found(report) == [("overlap", start, end)]
    assert {report.problems[0].key, report.problems[0].other} == {key, copy}


@given(STEPS, st.integers(1, 6), st.integers(1, 9))
@example([("truncate", 2), ("append", 1), ("read", 1), ("truncate", 3)], 1, 1)
def test_a_writer_that_goes_on_behind_a_truncation_is_found(steps: list[tuple[str, int]], back: int, more: int) -> None:
    history = play(steps)
    reached = history.position.offset
    back = min(back, reached)
    history.truncate(history.end - reached + back)
    history.append(back + more)
    history._add(reached, history.end, history.epochs.current)
    report = history.look()
    assert found(report) == [("log_truncated", reached - back, reached)]
    assert f"the new records at {reached - back}-{reached} ({back} offsets) are in no object" in (
        report.problems[0].message
    )

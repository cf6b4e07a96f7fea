"""Whatever happens to a log, `ingestd verify` finds each object that is missing or doubled, and nothing else."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from hypothesis import given
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

    start: int
    end: int
    epoch: int
    fork: int | None


@dataclass
class History:
    """A log that is appended to and truncated, and a correct writer of its chain."""

    archive: Archive = field(default_factory=Archive)
    epochs: LeaderEpochs = field(default_factory=LeaderEpochs)
    end: int = 0
    position: Position = field(default_factory=lambda: Position(0))
    zombie: Buffered | None = None
    spans: dict[str, tuple[int | None, int, int]] = field(default_factory=dict)  # by key: fork, start, end

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
            last = self.epochs.end(epoch, end).end
            self.zombie = Buffered(position.offset, last, epoch, position.fork)
        self.epochs.elect(self.end)

    def read(self, count: int) -> None:
        """The writer lands the next records, in the chain or in a fork of it."""
        at, fork = self.position.offset, self.position.fork
        if not self._follows():
            epoch = self.position.leader_epoch
            assert epoch is not None
            at = self.epochs.end(epoch, self.end).end
            if at >= self.end:
                return
            fork = self.epochs.at(at)
        if at < self.end:
            epoch = self.epochs.at(at)
            self._add(at, min(at + count, self.epochs.end(epoch, self.end).end), epoch, fork)

    def land(self, count: int) -> None:
        """The zombie lands some of what it has, in its own branch, unless another writer was first."""
        held, self.zombie = self.zombie, None
        if held is not None and all((held.fork, held.start) != span[:2] for span in self.spans.values()):
            before = self.position
            self._add(held.start, min(held.start + count, held.end), held.epoch, held.fork)
            if (before.fork, before.offset) != (held.fork, held.start):
                self.position = before

    def _follows(self) -> bool:
        """Whether the log still has the record before the writer's position."""
        epoch = self.position.leader_epoch
        if epoch is None:
            return True
        known, end = self.epochs.end(epoch, self.end)
        return known == epoch and end >= self.position.offset

    def _add(self, start: int, end: int, epoch: int, fork: int | None) -> None:
        time = NOON + len(self.spans) % 3 * DAY
        key = self.archive.add(P0, start, end, time, leader_epoch=epoch, fork=fork)
        self.spans[key] = (fork, start, end)
        self.position = Position(end, TAG, leader_epoch=epoch, fork=fork)

    def look(self) -> VerifyReport:
        kafka = FakeInspector(({P0: self.position if self.spans else None}, {P0: LogRange(0, self.end)}))
        kafka.epochs[P0] = self.epochs
        return asyncio.run(look(self.archive, VerifyOptions(), kafka, kafka__start="latest"))

    def chain(self) -> list[tuple[int | None, int, int]]:
        """The parts of branches that are in the chain, by its definition."""
        parts, cut = [], 2**62
        for fork in sorted({span[0] for span in self.spans.values()}, key=lambda it: -1 if it is None else it)[::-1]:
            begin = min(start for each, start, _ in self.spans.values() if each == fork)
            if begin < cut:
                parts.append((fork, begin, cut))
                cut = begin
        return parts


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
    assert (it.end, it.fork) == (history.position.offset, history.position.fork)


@given(STEPS, st.data())
def test_every_object_that_is_missing_from_the_chain_is_found(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    history = play(steps)
    in_chain = [
        key
        for key, (fork, start, _) in history.spans.items()
        if start and any(each == fork and begin <= start < cut for each, begin, cut in history.chain())
    ]
    if not in_chain:
        return
    key = data.draw(st.sampled_from(in_chain))
    history.archive.delete(key)
    assert history.look().problems


@given(STEPS, st.data())
def test_every_object_that_is_there_twice_is_found(steps: list[tuple[str, int]], data: st.DataObject) -> None:
    history = play(steps)
    key = data.draw(st.sampled_from(sorted(history.spans)))
    fork, start, end = history.spans[key]
    epoch = history.archive.landed(key).leader_epoch
    copy = history.archive.add(P0, start, end, NOON + 9 * DAY, leader_epoch=epoch, fork=fork)
    report = history.look()
    assert found(report) == [("overlap", start, end)]
    assert {report.problems[0].key, report.problems[0].other} == {key, copy}


@given(STEPS, st.integers(1, 6), st.integers(1, 9))
def test_a_writer_that_goes_on_behind_a_truncation_is_found(steps: list[tuple[str, int]], back: int, more: int) -> None:
    history = play(steps)
    reached = history.position.offset
    back = min(back, reached)
    history.truncate(history.end - reached + back)
    history.append(back + more)
    history._add(reached, history.end, history.epochs.current, history.position.fork)
    report = history.look()
    assert found(report) == [("log_truncated", reached - back, reached)]
    assert f"the new records at {reached - back}-{reached} ({back} offsets) are in no object" in (
        report.problems[0].message
    )

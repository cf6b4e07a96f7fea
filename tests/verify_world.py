"""Verifications of chains of one partition that the tests have written."""

from ingestd.config.load import Flag, load
from ingestd.core.records import LogRange, Position
from ingestd.verify.findings import VerifyReport
from ingestd.verify.run import VerifyOptions, verify
from tests.archive import DAY, NOON, P0, Archive
from tests.fakes.inspector import FakeInspector
from tests.fakes.leader_epochs import LeaderEpochs

TAG = Archive().layout.commit_tag("memory:///")
LOG = LogRange(0, 1900)
ALONE = VerifyOptions(objects_only=True)


async def look(
    archive: Archive, options: VerifyOptions = ALONE, kafka: FakeInspector | None = None, **keys: str
) -> VerifyReport:
    """Verify what is in the archive."""
    flags = [Flag("--set", key.replace("__", "."), value) for key, value in keys.items()]
    kafka = kafka or FakeInspector(({}, {}))
    return await verify(load(environ={}, flags=flags), options, archive.sink, kafka.open)


def found(report: VerifyReport) -> list[tuple[str, int | None, int | None]]:
    """Code and offsets of each problem."""
    return [(problem.code, problem.start, problem.end) for problem in report.problems]


def notes(report: VerifyReport) -> list[str]:
    """Codes."""
    return [note.code for note in report.notes]


def forked(archive: Archive) -> list[str]:
    """Kafka lost 1000-1500 of leader epoch 1, and the chain forked there: epoch 3."""
    return [
        archive.add(P0, 0, 900, leader_epoch=0),
        archive.add(P0, 900, 1500, leader_epoch=1),
        archive.add(P0, 1000, 1400, NOON + DAY, named=1000, leader_epoch=3),
        archive.add(P0, 1400, 1900, NOON + DAY, named=1400, leader_epoch=3),
    ]


def after_truncation(commit: Position | None, log: LogRange = LOG) -> FakeInspector:
    """Epoch 0 up to 900, 1 up to 1000, where the log was truncated, and 3 from there."""
    kafka = with_epochs({0: 0, 1: 900, 3: 1000}, log)
    kafka.says = [({P0: commit}, {P0: log})]
    return kafka


def with_epochs(starts: dict[int, int], log: LogRange) -> FakeInspector:
    """Each leader epoch of the log begins at an offset. The group has committed the log's end."""
    kafka = FakeInspector(({P0: Position(log.end, TAG)}, {P0: log}))
    epochs = kafka.epochs[P0] = LeaderEpochs()
    for epochs.current, start in starts.items():
        epochs.append(start)
    return kafka

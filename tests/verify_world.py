"""Verifications of chains of one partition that the tests have written."""

from ingestd import inspection
from ingestd.config.load import Flag, Settings, load
from ingestd.core.records import LogRange, Position
from ingestd.verify.findings import VerifyFinding, VerifyReport
from ingestd.verify.run import VerifyOptions, verify
from tests.archive import DAY, NOON, P0, Archive
from tests.fakes.inspector import FakeInspector
from tests.fakes.leader_epochs import LeaderEpochs

TAG = Archive().layout.commit_tag("memory:///")
LOG = LogRange(0, 1900)
ALONE = VerifyOptions(objects_only=True)


def settings(**keys: str) -> Settings:
    """Of `ingestd verify`; two underscores stand for the dot in a key."""
    return load(environ={}, flags=[Flag("--set", key.replace("__", "."), value) for key, value in keys.items()])


async def look(
    archive: Archive, options: VerifyOptions = ALONE, kafka: FakeInspector | None = None, **keys: str
) -> VerifyReport:
    """Verify what is in the archive."""
    if not archive.layout.exactly_once:
        keys["sink__delivery"] = "at-least-once"
    open_inspector = inspection.open_inspector if kafka is None else kafka.open
    return await verify(settings(**keys), options, archive.sink, open_inspector)


def found(report: VerifyReport) -> list[tuple[str, int | None, int | None]]:
    """Code and offsets of each problem."""
    return [(problem.code, problem.start, problem.end) for problem in report.problems]


async def against(
    archive: Archive,
    committed: int | None,
    log: tuple[int, int],
    *,
    mark: str = TAG,
    options: VerifyOptions = VerifyOptions(),  # noqa: B008  frozen
    **keys: str,
) -> VerifyReport:
    """Look at an archive of one partition, and at a group and a log that stay as they are."""
    position = Position(committed, mark) if committed is not None else None
    kafka = FakeInspector(({P0: position}, {P0: LogRange(*log)}))
    return await look(archive, options, kafka, **keys)


def codes(report: VerifyReport) -> list[str]:
    """Of all problems."""
    return [problem.code for problem in report.problems]


def only(report: VerifyReport) -> VerifyFinding:
    """The problem, of which there is one."""
    (problem,) = report.problems
    return problem


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

"""The benchmark of a stream and a queue counts what it says, and ends with an error where something does not come."""

import asyncio
import gzip
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.queues.__main__ import Counts, measure, report
from benchmarks.queues.consumers import Rows
from benchmarks.queues.feeds import fill_queue
from benchmarks.queues.report import BENTO, KAFKA, KINESIS, OURS, OURS_BARE, SQS, Run, cost_rows, goal_table
from benchmarks.rig import drain, results
from benchmarks.rig.meter import Metered
from tests.services.aws_emulator import CREDENTIALS
from tests.services.elasticmq import ElasticMQ
from tests.services.ports import free_port
from tests.services.process import ServiceError


def runs(*costs: tuple[str, str, float]) -> list[Run]:
    return [Run(source, system, 1000, 500.0, cpu_us) for source, system, cpu_us in costs]


FOUND = runs(
    (KAFKA, OURS, 4.0),
    (KINESIS, OURS, 10.0),
    (SQS, OURS, 180.0),
    (SQS, BENTO, 90.0),
    (KAFKA, OURS, 6.0),
    (KINESIS, OURS, 20.0),
    (SQS, OURS, 240.0),
)


def test_a_row_has_the_median_of_its_rounds_and_its_ratio_to_kafkas() -> None:
    assert cost_rows(FOUND) == [
        [KAFKA, OURS, "5.0 (4.0 to 6.0)", "1.0", "500 (500 to 500)"],
        [KINESIS, OURS, "15.0 (10.0 to 20.0)", "3.0", "500 (500 to 500)"],
        [SQS, OURS, "210.0 (180.0 to 240.0)", "42.0", "500 (500 to 500)"],
        [SQS, BENTO, "90.0", "18.0", "500"],
    ]


def test_goals_are_those_of_the_median() -> None:
    assert [row[1:] for row in goal_table(FOUND).rows] == [
        ["3.0", "at most 3.0", "reached"],
        ["210", "at most 200", "missed by 5%"],
    ]


def test_rows_are_those_of_whole_files(tmp_path: Path) -> None:
    whole = gzip.compress(b"{}\n{}\n")
    (tmp_path / "day").mkdir()
    (tmp_path / "day" / "whole.jsonl.gz").write_bytes(whole)
    (tmp_path / "half.jsonl.gz").write_bytes(whole[:-10])
    (tmp_path / ".ingestd").mkdir()
    (tmp_path / ".ingestd" / "manifest.gz").write_bytes(whole)
    rows = Rows(tmp_path)

    assert rows.count() == 2

    (tmp_path / "half.jsonl.gz").write_bytes(whole)
    assert rows.count() == 4


class Refusing(ElasticMQ):
    """Takes all messages of a batch but one."""

    def create_queue(self, name: str, **_: Any) -> str:
        return name

    def client(self, *_: Any, **__: Any) -> Any:
        return self

    def close(self) -> None: ...

    def send_message_batch(self, QueueUrl: str, Entries: Sequence[Any]) -> dict[str, Any]:  # noqa: N803 - as in botocore
        return {"Failed": [{"Id": Entries[-1]["Id"], "Code": "InternalError", "QueueUrl": QueueUrl}]}


def test_a_message_that_is_not_taken_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"elasticmq does not take 1 of 10 messages.*InternalError"):
        fill_queue(Refusing(tmp_path), "queue", 10)


class Silent(drain.Ingestd):
    """Runs, and never answers."""

    def __init__(self, folder: Path) -> None:
        Metered.__init__(self, "silent", [sys.executable, "-c", "import time; time.sleep(600)"], folder / "log")
        self._port = free_port()


async def test_a_daemon_that_consumes_nothing_is_an_error_and_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LIMIT_S", 0.1)
    daemon = Silent(tmp_path)

    with pytest.raises(ServiceError, match=r"silent has consumed nothing in 0\.1 s; the end of .*log"):
        await drain.drain_with([daemon], 1)

    assert not daemon.running


# -- with services


@pytest.mark.services
@pytest.mark.slow
def test_all_sources_are_read_to_their_ends_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    counts, found = Counts(events=2000, records=1000, messages=200), list[Run]()
    asyncio.run(measure(counts, 1, tmp_path, found.append, with_bento=False))

    assert [(it.source, it.system, it.events) for it in found] == [
        (KAFKA, OURS, 2000),
        (KINESIS, OURS, 1000),
        (SQS, OURS, 200),
        (SQS, OURS_BARE, 200),
    ]
    assert min(min(it.cpu_us, it.events_per_s) for it in found) > 0
    results.write(report(found, counts, 1), directory=tmp_path)
    assert "## Goals" in (tmp_path / "queues.md").read_text()

"""`ingestd verify` as a command: its lines, its JSON, its exit codes."""

from pathlib import Path

import msgspec
import pytest

from ingestd import wiring
from ingestd.cli.verify import Options, run
from ingestd.core.errors import EXIT_PROBLEMS, ConfigError, SinkForbidden
from ingestd.core.records import TopicPartition
from ingestd.verify.findings import VerifyReport
from tests.archive import P0, Archive
from tests.fakes.memory_sink import Fault
from tests.verify_world import found, settings


@pytest.fixture
def archive() -> Archive:
    return Archive()


def the_sink(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "make_sink", lambda config, connections: archive.sink)


def test_the_last_line_says_that_nothing_is_wrong(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.chain(P0, 0, 10, 20)
    the_sink(archive, monkeypatch)
    assert run(settings(), Options(objects_only=True, read=True)) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "Nothing wrong: 2 objects in an unbroken chain; every row was read."


def test_each_problem_is_printed_with_meaning_and_remedy(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = archive.chain(P0, *range(0, 400, 10))
    for key in keys[2:-1:2]:
        archive.delete(key)
    the_sink(archive, monkeypatch)
    assert run(settings(), Options(objects_only=True)) == EXIT_PROBLEMS == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "18 problems: gap 18"
    assert any(line.strip().startswith("gap (18): Offsets between two objects are in none of them") for line in lines)
    assert f"      20-30 (10 offsets) in no object, between {keys[1]} and {keys[3]}" in lines
    assert len(lines) < 100


def test_the_report_as_json_has_the_same_problems(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, lost, _ = archive.chain(P0, 0, 10, 20, 30)
    archive.delete(lost)
    the_sink(archive, monkeypatch)
    assert run(settings(), Options(objects_only=True, json=True)) == EXIT_PROBLEMS
    report = msgspec.json.decode(capsys.readouterr().out, type=VerifyReport)
    assert not report.ok
    assert report.problem_counts == {"gap": 1}
    assert found(report) == [("gap", 10, 20)]


def test_hundreds_of_partitions_are_a_short_report(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(300):
        archive.add(TopicPartition(P0.topic, number), 0, 2)
        if number >= 280:
            archive.add(TopicPartition(P0.topic, number), 3, 4)
    the_sink(archive, monkeypatch)
    assert run(settings(), Options(objects_only=True)) == EXIT_PROBLEMS
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 100
    assert any(f"{P0.topic}[299]" in line and line.endswith(" 1") for line in lines)
    assert "  and 260 more partitions, without problems" in lines


def test_the_whole_report_has_no_escape_sequences(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.chain(P0, 0, 10, cluster="\x1b[31mred")
    archive.put(f"{archive.layout.events}year=2026/month=01/day=01/\x1b]0;title", b"", None)
    the_sink(archive, monkeypatch)
    run(settings(), Options(objects_only=True))
    assert "\x1b" not in capsys.readouterr().out


def test_one_error_is_raised_not_one_for_each_call(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.chain(P0, *range(0, 500, 10))
    archive.sink.fail_when(lambda call: Fault(SinkForbidden) if call.operation == "head" else None)
    the_sink(archive, monkeypatch)
    monkeypatch.setattr("ingestd.verify.run.PATIENCE_S", 1)
    with pytest.raises(SinkForbidden):
        run(settings(), Options(objects_only=True))


def test_an_empty_time_range_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--since"):
        run(settings(), Options(since=5, until=5))


def test_a_missing_directory_is_an_error_and_not_created(tmp_path: Path) -> None:
    place = tmp_path / "typo"
    with pytest.raises(SinkForbidden, match="gone"):
        run(settings(sink__url=str(place)), Options(objects_only=True))
    assert not place.exists()

"""What `ingestd check` finds of a collector: its journal's folder, disk and lock, and the topic that it produces to."""

import asyncio
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from ingestd.config.model import CollectConfig, CollectSource, Config
from ingestd.config.types import Size
from ingestd.core.errors import SourceError
from ingestd.core.records import TopicAccess
from ingestd.preflight import CheckFinding, Verdict, collector_probe, producing
from ingestd.sources.journal.journal import Journal
from tests.services.ports import free_port

OK, NOTE, WRONG = Verdict.OK, Verdict.NOTE, Verdict.WRONG
LIMIT = Size(1 << 20)


def config(journal: Path, limit: Size = LIMIT) -> Config:
    sources = {"app": CollectSource(kind="native")}
    collect = CollectConfig(sources=sources, journal=str(journal), journal_bytes=limit, port=free_port())
    return Config(source="collector", collect=collect)


def by_check(findings: Iterable[CheckFinding]) -> dict[str, CheckFinding]:
    return {it.check: it for it in findings}


# -- the journal


async def test_a_journal_that_can_be_made_is_ok_and_nothing_is_left_behind(tmp_path: Path) -> None:
    found = by_check(await collector_probe.look(config(tmp_path / "new" / "journal.sqlite")))
    assert (found["collect.journal"].verdict, found["collect.journal_space"].verdict) == (OK, OK)
    assert "will be made" in found["collect.journal"].seen
    assert list(await asyncio.to_thread(tmp_path.rglob, "*")) == []


async def test_a_folder_that_takes_no_file_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = by_check(await collector_probe.look(config(tmp_path / "file" / "journal.sqlite")))
    assert found["collect.journal"].verdict is WRONG
    assert "collect.journal" in found["collect.journal"].todo


@pytest.mark.parametrize("exists", [False, True], ids=["new", "exists"])
async def test_a_disk_that_has_less_room_than_the_journal_may_take_is_wrong(tmp_path: Path, exists: bool) -> None:
    path, limit = tmp_path / "journal.sqlite", Size(1 << 50)
    if exists:
        journal = Journal(path, int(LIMIT))
        await journal.open()
        await journal.close()
    found = by_check(await collector_probe.look(config(path, limit)))
    assert found["collect.journal"].verdict is OK
    assert found["collect.journal_space"].verdict is WRONG
    assert f"collect.journal_bytes = {limit}" in found["collect.journal_space"].seen


async def test_the_bytes_that_a_journal_has_already_need_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(bytes(int(LIMIT) // 2))
    usage = shutil.disk_usage(tmp_path)
    for free, verdict in ((int(LIMIT) // 2, OK), (int(LIMIT) // 2 - 1, WRONG)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        found = by_check(await collector_probe.look(config(path)))
        assert found["collect.journal_space"].verdict is verdict


async def test_a_journal_that_another_process_has_is_noted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite", int(LIMIT))
    await journal.open()
    try:
        found = by_check(await collector_probe.look(config(tmp_path / "journal.sqlite")))
    finally:
        await journal.close()
    assert found["collect.journal"].verdict is NOTE
    assert "in use by another process" in found["collect.journal"].seen


# -- the topic

THREE = {0: 3, 1: 3}
SETTINGS = {"min.insync.replicas": "2", "max.message.bytes": "1048588"}


def judged(
    *,
    may_write: bool = True,
    is_idempotent: bool | SourceError = True,
    in_sync: Mapping[int, int] = THREE,
    settings: Mapping[str, str] | None = SETTINGS,
    collect: CollectConfig = CollectConfig(topic="events"),  # noqa: B008  frozen
) -> dict[str, CheckFinding]:
    facts = producing.ProduceFacts(TopicAccess(may_write, in_sync), is_idempotent, settings)
    return by_check(producing.findings(collect, facts))


def test_a_topic_that_takes_events_is_ok() -> None:
    assert {check: it.verdict for check, it in judged().items()} == {"collect.topic": OK, "collect.replicas": OK}


def test_the_right_that_is_missing_is_named() -> None:
    topic = judged(may_write=False)["collect.topic"]
    assert (topic.verdict, topic.todo) == (WRONG, "grant WRITE on it")
    cluster = judged(is_idempotent=False)["collect.topic"]
    assert (cluster.verdict, cluster.todo) == (WRONG, "grant IDEMPOTENT_WRITE on the cluster")


def test_a_question_without_an_answer_is_wrong() -> None:
    found = producing.findings(CollectConfig(), producing.ProduceFacts(SourceError("no answer"), True, None))
    assert [it.verdict for it in found] == [WRONG]
    assert judged(is_idempotent=SourceError("no answer"))["collect.topic"].verdict is WRONG


def test_partitions_that_would_refuse_acks_all_are_wrong() -> None:
    found = judged(in_sync={0: 3, 1: 1})["collect.replicas"]
    assert (found.verdict, found.seen[:11]) == (WRONG, "1 partition")


def test_a_topic_with_one_replica_is_noted() -> None:
    assert judged(settings={**SETTINGS, "min.insync.replicas": "1"})["collect.replicas"].verdict is NOTE


def test_a_topic_that_takes_smaller_events_than_the_collector_is_noted() -> None:
    collect = replace(CollectConfig(), max_body=Size(2 << 20))
    assert judged(collect=collect)["collect.message_size"].verdict is NOTE
    assert "collect.message_size" not in judged()


def test_settings_that_may_not_be_read_are_noted() -> None:
    found = judged(settings=None)
    assert found["collect.topic"].verdict is OK
    assert found["collect.topic_settings"].verdict is NOTE

"""How `ingestd check` tries what a run needs, and how it tells."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ingestd.cli import output
from ingestd.cli.check import CheckReport
from ingestd.config import secrets
from ingestd.config.model import Config, KafkaConfig, S3Config, SinkConfig
from ingestd.core.errors import EXIT_PROBLEMS, SinkForbidden, SourceError
from ingestd.core.gzip import compress
from ingestd.core.object_keys import OWN, ObjectKeys
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.stored import Stored
from ingestd.preflight import CheckFinding, Verdict, kafka_probe, not_tried, note, ok, sink_probe, wrong
from ingestd.sinks.base import Sink
from ingestd.sinks.local import LocalSink
from ingestd.sources.base import Fetched
from ingestd.sources.kafka import bootstrap_check
from tests.fakes.memory_sink import Fault, MemorySink
from tests.fakes.memory_source import MemoryLog, MemorySource
from tests.services.ports import HOST, free_port
from tests.simulation import virtual_time

T = TypeVar("T")

OK, NOTE, WRONG, NOT_TRIED = Verdict.OK, Verdict.NOTE, Verdict.WRONG, Verdict.NOT_TRIED
WRITES = ("sink.write", "sink.create_only", "sink.read")
ALL = ("sink.list", "sink.head", *WRITES)


# -- the sink


async def look(sink: Sink, config: Config = Config()) -> sink_probe.SinkProbe:  # noqa: B008  frozen
    store = sink_probe.SinkProbe(config, sink, ObjectKeys())
    await store.look()
    return store


def tried(sink: Sink, config: Config = Config()) -> dict[str, Verdict]:  # noqa: B008  frozen
    """In virtual time: nothing is waited for."""
    return {it.check: it.verdict for it in virtual_time.run(look(sink, config)).findings}


def test_a_sink_that_does_all_a_run_asks_of_it_is_ok() -> None:
    assert tried(MemorySink()) == dict.fromkeys(ALL, OK)


async def test_a_directory_does(tmp_path: Path) -> None:
    store = await look(LocalSink(tmp_path / "data"))
    assert {it.check: it.verdict for it in store.findings} == dict.fromkeys(ALL, OK)
    assert store.readable


def test_one_object_a_day_is_written_and_none_elsewhere() -> None:
    sink = MemorySink()
    for _ in range(5):
        assert tried(sink) == dict.fromkeys(ALL, OK)
    [key] = sink.objects
    assert key.startswith(OWN)


def test_a_later_check_of_the_day_tells_when_it_was_written() -> None:
    sink = MemorySink()
    [first, second] = [virtual_time.run(look(sink)) for _ in range(2)]
    [when] = [metadata["written-at"] for _, metadata in sink.objects.values()]
    said = [[it.seen for it in store.findings if it.check == "sink.write"] for store in (first, second)]
    assert said[0] == [f"wrote {next(iter(sink.objects))}"]
    assert when in said[1][0]


def test_another_way_to_write_is_tried_under_another_name() -> None:
    sink = MemorySink()
    for s3 in (S3Config(), S3Config(encryption="aws:kms"), S3Config(encryption="aws:kms", kms_key_id="alias/mine")):
        assert set(tried(sink, Config(s3=s3)).values()) == {OK}
    assert len(sink.objects) == 3


def test_whether_there_are_objects_is_known_afterwards() -> None:
    sink = MemorySink()
    assert virtual_time.run(look(sink)).holds_objects is False
    sink.objects["events/year=2026/month=01/day=01/x.jsonl.gz"] = (b"", {})
    assert virtual_time.run(look(sink)).holds_objects is True


def test_a_store_that_overwrites_is_wrong() -> None:
    assert tried(MemorySink(conditional=False)) == {**dict.fromkeys(ALL, OK), "sink.create_only": WRONG}


def test_a_store_that_may_overwrite_is_noted() -> None:
    config = Config(sink=SinkConfig(delivery="at-least-once"))
    assert tried(MemorySink(conditional=False), config)["sink.create_only"] is NOTE


class Middleman(MemorySink):
    """Changes what it is given."""

    def __init__(
        self, body: Callable[[bytes], bytes], metadata: Callable[[Mapping[str, str]], Mapping[str, str]]
    ) -> None:
        super().__init__()
        self._body, self._metadata = body, metadata

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        return await super().put_new(key, self._body(body), self._metadata(metadata))


@pytest.mark.parametrize(
    "sink",
    [
        Middleman(lambda _: b"written by ingestd check\n", dict),
        Middleman(lambda _: compress(b"other\n").data, dict),
        Middleman(lambda body: body[:-4], dict),
        Middleman(lambda body: body, lambda _: {}),
        Middleman(lambda body: body, lambda metadata: {**metadata, "purpose": "CHECK"}),
        Middleman(
            lambda body: body, lambda metadata: {name.replace("-", "_"): text for name, text in metadata.items()}
        ),
    ],
    ids=["unpacked", "another", "cut", "no-metadata", "other-value", "other-name"],
)
def test_what_does_not_come_back_as_it_was_written_is_wrong(sink: Middleman) -> None:
    assert tried(sink) == {**dict.fromkeys(ALL, OK), "sink.read": WRONG}


def denied(*operations: str, code: str = "AccessDenied") -> MemorySink:
    """A sink that refuses some operations."""
    sink = MemorySink()
    fault = Fault(SinkForbidden, code)
    sink.fail_when(lambda call: fault if call.operation in operations else None)
    return sink


def test_a_write_that_is_refused_leaves_the_others_tried() -> None:
    found = tried(denied("put_new"))
    assert found == {
        "sink.list": OK, "sink.head": OK, "sink.write": WRONG, "sink.create_only": NOT_TRIED, "sink.read": NOT_TRIED
    }  # fmt: skip


def test_encryption_is_not_tried_where_nothing_was_written() -> None:
    assert tried(denied("put_new"), Config(s3=S3Config(encryption="aws:kms")))["sink.encryption"] is NOT_TRIED


def test_a_listing_that_is_refused_leaves_the_others_tried() -> None:
    assert tried(denied("folders")) == {**dict.fromkeys(ALL, OK), "sink.list": WRONG}


def test_a_look_at_a_free_name_that_is_refused_is_wrong() -> None:
    sink = MemorySink()
    fault = Fault(SinkForbidden, "403")
    sink.fail_when(lambda call: fault if call.operation == "head" and call.key not in sink.objects else None)
    store = virtual_time.run(look(sink))
    assert {it.check: it.verdict for it in store.findings} == {**dict.fromkeys(ALL, OK), "sink.head": WRONG}
    assert not store.readable


def test_reading_that_is_refused_is_wrong() -> None:
    assert tried(denied("get")) == {**dict.fromkeys(ALL, OK), "sink.read": WRONG}


def test_credentials_that_are_refused_are_told_once() -> None:
    sink = denied("folders", "put_new", "head", "get", code="SignatureDoesNotMatch")
    assert tried(sink) == {**dict.fromkeys(ALL, NOT_TRIED), "sink.list": WRONG}
    assert sink.calls == {"folders": 1}


def test_a_sink_that_is_away_for_a_moment_is_ok() -> None:
    sink = MemorySink()
    sink.fail(2)
    assert tried(sink) == dict.fromkeys(ALL, OK)


def test_a_sink_that_stays_away_is_given_up() -> None:
    sink = MemorySink()
    sink.fail_when(lambda _: Fault())
    assert tried(sink) == {**dict.fromkeys(ALL, NOT_TRIED), "sink.list": WRONG}
    assert sink.calls == {"folders": sink_probe.TRIES}


def test_a_sink_that_does_not_answer_is_given_up() -> None:
    class Silent(MemorySink):
        async def folders(self, prefix: str) -> list[str]:
            await asyncio.sleep(3600)
            return await super().folders(prefix)

    async def timed() -> float:
        await look(Silent())
        return asyncio.get_running_loop().time()

    assert virtual_time.run(timed()) == sink_probe.WITHIN_S


def test_the_space_of_a_directory_is_known(tmp_path: Path) -> None:
    there = Config(sink=SinkConfig(url=str(tmp_path)))
    assert (sink_probe.free_space(there) or 0) > 0
    assert sink_probe.free_space(Config(sink=SinkConfig(url=str(tmp_path / "not yet")))) is None
    assert sink_probe.free_space(Config(sink=SinkConfig(url="s3://bucket"))) is None


# -- Kafka


P = [TopicPartition("t", number) for number in range(20)]


def memory_log(*lengths: int) -> MemoryLog:
    return MemoryLog(
        {
            partition: [PlainRecord(offset, 1000 + offset, b"%d" % offset) for offset in range(length)]
            for partition, length in zip(P, lengths, strict=False)
        }
    )


def sampled(log: MemoryLog, source: MemorySource | None = None) -> dict[TopicPartition, list[int]]:
    ranges = {partition: log.range(partition) for partition in log.partitions}
    found = virtual_time.run(kafka_probe.sample(source or MemorySource(log), ranges))
    return {partition: [record.offset for record in some] for partition, some in found.items()}


def test_a_sample_is_the_last_records_of_each_partition() -> None:
    assert sampled(memory_log(250, 0, 3)) == {P[0]: list(range(150, 250)), P[2]: [0, 1, 2]}


def test_a_sample_of_nothing_is_empty_and_asks_nobody() -> None:
    class Unused(MemorySource):
        async def start(self, listener: Any) -> None:
            raise AssertionError

    log = memory_log(0, 0)
    assert sampled(log, Unused(log)) == {}


def test_a_sample_is_of_some_partitions_only() -> None:
    assert len(sampled(memory_log(*range(1, 21)))) == kafka_probe.SAMPLE_PARTITIONS


def test_a_sample_has_something_of_each_topic() -> None:
    records = [PlainRecord(offset, 0, b"x") for offset in range(9)]
    log = MemoryLog({**dict.fromkeys(P, records), TopicPartition("u", 0): records[:1]})
    assert TopicPartition("u", 0) in sampled(log)


def test_a_sample_is_bounded_in_bytes() -> None:
    value = b"x" * (1 << 20)
    log = MemoryLog({partition: [PlainRecord(offset, 0, value) for offset in range(20)] for partition in P[:4]})
    count = sum(map(len, sampled(log, MemorySource(log, max_records=1)).values()))
    assert 16 <= count <= 20


def test_records_that_never_come_are_given_up() -> None:
    class Barren(MemorySource):
        async def fetch(self) -> Fetched:
            await asyncio.sleep(0.25)
            return {}

    log = memory_log(5)
    assert sampled(log, Barren(log)) == {}


def test_trouble_with_reading_is_told() -> None:
    class Denied(MemorySource):
        @property
        def error(self) -> str:
            return "reading topic t is not allowed; grant READ on it to our user"

    log = memory_log(5)
    with pytest.raises(SourceError, match="grant READ"):
        sampled(log, Denied(log))


def test_a_source_that_does_not_start_is_given_up() -> None:
    class Slow(MemorySource):
        async def start(self, listener: Any) -> None:
            await asyncio.sleep(3600)

    log = memory_log(5)
    with pytest.raises(SourceError, match="no answer, after 20 s"):
        sampled(log, Slow(log))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """It takes connections and says nothing."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


async def test_each_server_that_does_not_answer_is_told(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap_check, "ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr(bootstrap_check, "_PAUSE_S", 0.01)
    closed, silent = f"{HOST}:{free_port()}", f"{HOST}:{silent_port}"
    found = await bootstrap_check.bootstrap(KafkaConfig(bootstrap_servers=(closed, silent)))
    assert "ConnectionRefusedError" in str(found[closed])
    assert "has not answered within 0.5 s" in str(found[silent])
    facts = await kafka_probe.look(Config(kafka=KafkaConfig(bootstrap_servers=(closed, silent))))
    assert (facts.topics, facts.logs) == (None, None)


async def test_each_broker_that_cannot_be_reached_is_told(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap_check, "_CONNECT_TIMEOUT_S", 0.5)
    servers = [f"{HOST}:{free_port()}", f"{HOST}:{silent_port}"]
    closed, silent = (await bootstrap_check.reach(KafkaConfig(), servers)).values()
    assert "ConnectionRefusedError" in str(closed)
    assert str(silent) == "no answer within 0.5 s"


# -- the report


FINDINGS = [
    ok("a.b", "fine"), note("c", "look", "think"), wrong("d", "broken", "mend it"), not_tried("e", "d is broken")
]  # fmt: skip


def told(
    capsys: pytest.CaptureFixture[str], findings: Sequence[CheckFinding], *, as_json: bool = False
) -> tuple[str, int]:
    report = CheckReport(json=as_json)
    report.add(findings)
    code = report.end()
    return capsys.readouterr().out, code


def test_each_finding_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    text, code = told(capsys, FINDINGS)
    assert text == (
        "ok     a.b: fine\n"
        "note   c: look -> think\n"
        "WRONG  d: broken -> mend it\n"
        "-      e: not tried: d is broken\n"
        "\n1 ok, 1 to note, 1 WRONG, 1 not tried\n"
    )
    assert code == EXIT_PROBLEMS == 4


def test_notes_are_no_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, [FINDINGS[0], FINDINGS[1], FINDINGS[3]])[1] == 0


def test_each_finding_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    text, code = told(capsys, FINDINGS, as_json=True)
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[1] == {"kind": "check", "check": "c", "verdict": "note", "seen": "look", "todo": "think"}
    assert [line["verdict"] for line in lines[:-1]] == ["ok", "note", "wrong", "not_tried"]
    assert lines[-1] == {"kind": "result", "ok": 1, "note": 1, "wrong": 1, "not_tried": 1}
    assert code == EXIT_PROBLEMS


@pytest.mark.parametrize("as_json", [False, True])
def test_no_secret_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    redaction = secrets.Redaction()
    redaction.hide('hunter"2')
    monkeypatch.setattr(output, "REDACTION", redaction)
    text, _ = told(capsys, [wrong("a", 'it says hunter"2', 'try hunter"2')], as_json=as_json)
    assert "hunter" not in text
    assert text.count("<redacted>") == 2


def test_what_comes_from_outside_does_not_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    text, _ = told(capsys, [note("a", "x\x1b[2J\ny\r")])
    assert text.splitlines()[0] == "note   a: x [2J y "


def test_a_line_is_broken_where_a_person_looks_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    text, _ = told(capsys, [note("a", "word " * 20)])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[1].startswith(" " * 7 + "word")

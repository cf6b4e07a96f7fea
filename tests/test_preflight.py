"""What `ingestd check` concludes, and what it estimates."""

import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingestd.capacity import estimate
from ingestd.config.model import (
    BatchConfig,
    BreakerConfig,
    Config,
    EventsConfig,
    HealthConfig,
    KafkaConfig,
    S3Config,
    SinkConfig,
)
from ingestd.config.types import Seconds, Size
from ingestd.core.batch import Batch
from ingestd.core.errors import ConfigError, SinkForbidden, SinkUnavailable, SourceError
from ingestd.core.events import load_model
from ingestd.core.gzip import compress
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import EpochEnd, GroupState, LogRange, PlainRecord, Position, TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.preflight import CheckFinding, Verdict, cluster, records, store, values, volume

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)
MARK = "ingestd:1:here"
GB = 10**9

OK, NOTE, WRONG, NOT_TRIED = Verdict.OK, Verdict.NOTE, Verdict.WRONG, Verdict.NOT_TRIED


def verdicts(findings: Iterable[CheckFinding]) -> dict[str, Verdict]:
    """By check; the worst where there are several."""
    order = [OK, NOTE, NOT_TRIED, WRONG]
    found: dict[str, Verdict] = {}
    for finding in findings:
        before = found.get(finding.check, OK)
        found[finding.check] = max(before, finding.verdict, key=order.index)
    return found


def only(findings: Iterable[CheckFinding], verdict: Verdict) -> CheckFinding:
    """The only one that is not ok, which is of this verdict and says what to do."""
    [finding] = [finding for finding in findings if finding.verdict is not OK]
    assert finding.verdict is verdict
    assert finding.seen
    return finding


def s3_config(**changes: Any) -> Config:
    config = Config(sink=SinkConfig(url="s3://bucket"), s3=S3Config(put_timeout=Seconds(20)))
    return replace(config, **changes)


# -- settings


def test_settings_that_get_along_are_one_line() -> None:
    assert verdicts(values.findings(s3_config())) == {"settings": OK}


@pytest.mark.parametrize(
    ("config", "check", "words"),
    [
        (s3_config(grace=Seconds(10)), "settings.put_timeout", "grace = 10s"),
        (
            s3_config(kafka=KafkaConfig(rebalance_timeout=Seconds(30))),
            "settings.put_timeout",
            "half of kafka.rebalance_timeout",
        ),
        (s3_config(health=HealthConfig(stall=Seconds(5))), "settings.stall", "sink.retry_max"),
        (s3_config(health=HealthConfig(progress_timeout=Seconds(20))), "settings.progress", "batch.interval"),
        (s3_config(health=HealthConfig(host="0.0.0.0")), "settings.health", "0.0.0.0"),
        (
            s3_config(s3=S3Config(endpoint_url="http://store:9000", put_timeout=Seconds(20))),
            "settings.s3",
            "http://store:9000",
        ),
        (s3_config(kafka=KafkaConfig(skip_lost=True)), "settings.skip_lost", "are skipped"),
        (s3_config(breaker=BreakerConfig(max_share=1)), "settings.breaker", "quarantine"),
        (s3_config(sink=SinkConfig(url="s3://bucket", delivery="at-least-once")), "settings.delivery", "twice"),
    ],
)
def test_settings_at_odds_are_noted(config: Config, check: str, words: str) -> None:
    finding = only(values.findings(config), NOTE)
    assert finding.check == check
    assert words in finding.seen


def test_a_directory_has_no_put_timeout() -> None:
    assert verdicts(values.findings(Config(grace=Seconds(1)))) == {"settings": OK}


@pytest.mark.parametrize(
    ("region", "origin", "environ", "verdict", "words"),
    [
        (None, "default", {}, Verdict.OK, "is not set"),
        ("eu-west-1", "AWS_REGION", {"AWS_REGION": "eu-west-1"}, Verdict.OK, "eu-west-1 from AWS_REGION"),
        (
            "eu-west-1", "AWS_REGION", {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-2"},
            Verdict.NOTE, "not used: AWS_DEFAULT_REGION = us-east-2",
        ),
        ("eu-west-1", "environment", {"AWS_REGION": "us-east-2"}, Verdict.OK, "S3__REGION; not used: AWS_REGION"),
    ],
)  # fmt: skip
def test_the_region_is_told_with_who_set_it_and_what_it_overrides(
    region: str | None, origin: str, environ: dict[str, str], verdict: Verdict, words: str
) -> None:
    config = replace(s3_config(), s3=S3Config(region=region))
    [finding] = values.region(config, origin, environ)
    assert finding.verdict is verdict
    assert words in finding.seen


def test_a_directory_has_no_region() -> None:
    assert not list(values.region(Config(), "AWS_REGION", {"AWS_REGION": "eu-west-1"}))


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost", "[::1]:9000", "[::1]"])
def test_a_store_on_this_machine_needs_no_encryption_on_the_way(host: str) -> None:
    config = s3_config(s3=S3Config(endpoint_url=f"http://{host}", put_timeout=Seconds(20)))
    assert verdicts(values.findings(config)) == {"settings": OK}


def test_memory_that_is_too_small_for_the_partitions_is_noted_with_what_would_do() -> None:
    config = Config(batch=BatchConfig(memory=Size(16 << 20), bytes=Size(1 << 20)))
    finding = only([values.memory(config, 200, 0, of_a_day(objects=200 * 1440, row_bytes=1 << 20))], NOTE)
    assert "200 partitions" in finding.seen
    needed = Size.parse(finding.todo.split(" = ")[1].split(",")[0])
    found = of_a_day(objects=200 * 1440, row_bytes=1 << 20)
    assert values.memory(replace(config, batch=BatchConfig(memory=needed)), 200, 0, found).verdict is OK
    assert needed >= 2 * 200 * Batch.overhead_bytes


def test_batches_smaller_than_a_chunk_need_no_memory_for_the_compressor() -> None:
    config = Config(batch=BatchConfig(memory=Size(16 << 20), interval=Seconds(60)))
    small = of_a_day(objects=200 * 1440, row_bytes=20_000)
    assert values.memory(config, 200, 0, small).verdict is OK


def test_memory_is_shared_out_among_the_processes_that_run() -> None:
    config = Config(batch=BatchConfig(memory=Size(16 << 20), bytes=Size(1 << 20)))
    found = of_a_day(objects=200 * 1440, row_bytes=1 << 20)
    assert values.memory(config, 200, 0, found).verdict is NOTE
    assert values.memory(config, 200, 20, found).verdict is OK


def of_a_day(*, objects: int, row_bytes: int) -> estimate.Estimate:
    """An estimate with objects of so many bytes of rows each."""
    return estimate.Estimate(
        records=objects * 1000,
        objects=objects,
        quarantine_objects=0,
        object_bytes=row_bytes // 6,
        row_bytes=objects * row_bytes,
        usd_per_month=0.0,
        credits_per_month=0.0,
    )


# -- brokers, topics, the group


@pytest.mark.parametrize(
    ("protocol", "servers", "verdict"),
    [
        ("SASL_SSL", ("kafka:9093",), OK),
        ("SSL", ("kafka:9093",), OK),
        ("PLAINTEXT", ("kafka:9092",), NOTE),
        ("SASL_PLAINTEXT", ("kafka:9092",), NOTE),
    ],
)
def test_what_travels_unencrypted_is_noted(protocol: Any, servers: tuple[str, ...], verdict: Verdict) -> None:
    assert cluster.security(KafkaConfig(security_protocol=protocol, bootstrap_servers=servers)).verdict is verdict


def test_servers_that_do_not_answer_are_noted_while_one_does() -> None:
    finding = only(cluster.servers({"a:1": "id", "b:1": SourceError("refused")}), NOTE)
    assert "1 of 2" in finding.seen
    assert "b:1" in finding.seen


def test_servers_that_all_do_not_answer_are_wrong_and_each_reason_is_given_once() -> None:
    found = list(cluster.servers({"a:1": SourceError("x"), "b:1": SourceError("x"), "c:1": SourceError("y", hint="z")}))
    assert [(it.verdict, it.seen) for it in found] == [(WRONG, "x"), (WRONG, "y")]
    assert all(it.todo for it in found)


def test_servers_of_two_clusters_are_wrong() -> None:
    assert "one" in only(cluster.servers({"a:1": "one", "b:1": "two"}), WRONG).seen


def test_a_broker_that_is_not_where_it_says_is_wrong() -> None:
    finding = cluster.brokers({"a:1": None, "inside:9092": SourceError("no such host")})
    assert (finding.verdict, "inside:9092" in finding.seen) == (WRONG, True)
    assert "advertised.listeners" in finding.todo
    assert cluster.brokers({"a:1": None}).verdict is OK


def test_a_missing_topic_is_wrong_and_the_others_are_told() -> None:
    found = list(cluster.topics({"t": 6, "u": SourceError("topic u does not exist", hint="create it")}))
    assert [(it.verdict, it.todo) for it in found] == [(WRONG, "create it"), (OK, "")]
    assert "t has 6 partitions" in found[1].seen


@pytest.mark.parametrize(
    ("state", "verdict"),
    [(GroupState("Stable", ("a at 10.0.0.1",)), NOTE), (GroupState("Empty", ()), OK), (GroupState("Dead", ()), OK)],
)
def test_a_group_with_members_is_noted(state: GroupState, verdict: Verdict) -> None:
    assert cluster.group("g", state).verdict is verdict


def test_a_group_that_may_not_be_joined_is_wrong() -> None:
    assert cluster.right_to_join("g", given=True).verdict is OK
    assert only([cluster.right_to_join("g", given=False)], WRONG).todo == "grant READ on the group"


def offsets(log: LogRange, committed: int, mark: str = MARK, *, skip_lost: bool = False) -> list[CheckFinding]:
    return list(
        cluster.offsets({P0: log, P1: log}, {P0: Position(committed, mark), P1: None}, MARK, skip_lost=skip_lost)
    )


def test_offsets_tell_the_lag_of_each_topic() -> None:
    [finding] = offsets(LogRange(0, 100), 40)
    assert (finding.verdict, finding.seen) == (OK, "t: committed in 1 of 2 partitions, lag 60")


@pytest.mark.parametrize(
    ("log", "committed", "words"), [(LogRange(0, 10), 11, "past the log's end"), (LogRange(5, 10), 4, "retention")]
)
def test_offsets_that_a_run_would_halt_at_are_wrong(log: LogRange, committed: int, words: str) -> None:
    finding = only(offsets(log, committed), WRONG)
    assert words in finding.seen
    assert "halts" in finding.todo


def truncated(end: EpochEnd | None, *, fork: bool = False, mark: str = MARK) -> list[CheckFinding]:
    """The group has read up to 40, the last record in epoch 5."""
    return list(cluster.truncations({P0: Position(40, mark, "", 5), P1: None}, {(P0, 5): end}, MARK, fork=fork))


@pytest.mark.parametrize("end", [EpochEnd(5, 30), EpochEnd(4, 90), EpochEnd(-1, -1)], ids=["cut", "lost", "unknown"])
def test_a_log_that_has_lost_what_was_read_is_wrong(end: EpochEnd) -> None:
    finding = only(truncated(end), WRONG)
    assert "t[0]" in finding.seen
    assert 'kafka.on_truncation = "fork"' in finding.todo
    assert only(truncated(end, fork=True), NOTE).seen == finding.seen


def test_a_log_that_has_what_was_read_is_no_finding() -> None:
    """Nor is one that cannot tell, or a start in an epoch that has no record."""
    assert not truncated(EpochEnd(5, 40))
    assert not truncated(None)
    assert not truncated(EpochEnd(4, 40), mark="")


def test_a_hole_that_may_be_skipped_is_noted() -> None:
    assert "kafka.skip_lost" in only(offsets(LogRange(5, 10), 4, skip_lost=True), NOTE).seen


def test_offsets_of_another_place_are_noted() -> None:
    assert "t[0]" in only(offsets(LogRange(0, 10), 4, "ingestd:1:there"), NOTE).seen


@pytest.mark.parametrize(("in_sink", "verdict"), [(True, NOTE), (False, OK), (None, OK)])
def test_the_start_policy_is_told_where_the_group_has_no_offset(*, in_sink: bool | None, verdict: Verdict) -> None:
    logs = {P0: LogRange(0, 10), P1: LogRange(0, 10)}
    finding = cluster.start("earliest", logs, {P1: 3}, in_sink=in_sink)
    assert finding.verdict is verdict
    assert "1 of 2 partitions" in finding.seen
    assert "kafka.start = earliest begins 7 records before the end" in finding.seen


SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": "604800000",
    "retention.bytes": "-1",
    "max.message.bytes": "1048588",
    "min.compaction.lag.ms": "0",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"topic.retention": OK, "topic.message_size": OK}),
        ({"retention.ms": "-1"}, {"topic.retention": OK, "topic.message_size": OK}),
        ({"retention.ms": "3600000"}, {"topic.retention": NOTE, "topic.message_size": OK}),
        ({"retention.bytes": "1000000"}, {"topic.retention": NOTE, "topic.message_size": OK}),
        (
            {"cleanup.policy": "compact"},
            {"topic.retention": OK, "topic.compaction": WRONG, "topic.message_size": OK},
        ),
        (
            {"cleanup.policy": "compact,delete", "min.compaction.lag.ms": "604800000"},
            {"topic.retention": OK, "topic.compaction": OK, "topic.message_size": OK},
        ),
        ({"max.message.bytes": "5000000"}, {"topic.retention": OK, "topic.message_size": NOTE}),
        ({"max.message.bytes": "90000000"}, {"topic.retention": OK, "topic.message_size": NOTE}),
    ],
)
def test_a_topic_s_settings_are_judged(changes: Mapping[str, str], expected: Mapping[str, Verdict]) -> None:
    assert verdicts(cluster.settings({"t": {**SETTINGS, **changes}}, ["t"], Config())) == expected


def test_settings_that_are_not_shown_are_noted_with_the_right_that_is_missing() -> None:
    finding = only(cluster.settings({}, ["t"], Config()), NOTE)
    assert finding.check == "topic.settings"
    assert "DESCRIBE_CONFIGS" in finding.todo


def report(facts: cluster.Facts) -> dict[str, Verdict]:
    return verdicts(cluster.findings(facts, Config(), MARK, in_sink=None))


def test_what_could_not_be_asked_says_so() -> None:
    found = report(cluster.Facts(servers={"a:1": SourceError("refused")}))
    assert found == {
        "kafka.security": NOTE,
        "kafka.servers": WRONG,
        **dict.fromkeys(
            ("kafka.topics", "kafka.brokers", "kafka.group", "kafka.rights", "kafka.offsets", "topic.settings"),
            NOT_TRIED,
        ),
    }


def test_a_missing_file_is_wrong() -> None:
    assert report(cluster.Facts(servers=ConfigError("kafka.ssl_ca_file cannot be used")))["kafka.servers"] is WRONG


def test_one_failed_question_leaves_the_others_answered() -> None:
    facts = cluster.Facts(
        servers={"a:1": "id"},
        topics={"t": 2},
        brokers={"a:1": None},
        group=SourceError("describing group g is not allowed"),
        may_join=True,
        logs={P0: LogRange(0, 1), P1: LogRange(0, 1)},
        committed={P0: None, P1: None},
        epoch_ends={},
        starts={P0: 0, P1: 0},
        settings={"t": SETTINGS},
    )
    found = report(facts)
    assert found.pop("kafka.group") is WRONG
    assert set(found.values()) == {OK, NOTE}
    assert found["kafka.start"] is OK
    assert cluster.readable(facts)


@pytest.mark.parametrize(
    "facts",
    [
        cluster.Facts(),
        cluster.Facts(topics={"t": 1}),
        cluster.Facts(topics={"t": 1, "u": SourceError("none")}, logs={P0: LogRange(0, 1)}),
        cluster.Facts(topics={"t": 1}, logs=SourceError("no answer")),
    ],
)
def test_nothing_can_be_read_without_every_topic_and_its_log(facts: cluster.Facts) -> None:
    assert not cluster.readable(facts)


# -- the records


def event(number: int, **changes: Any) -> bytes:
    fields = {"event_id": f"e{number}", "client_id": "c", "event_timestamp": "2026-01-01T00:00:00Z"}
    return json.dumps({**fields, "event_type": "web_visit", **changes}).encode()


def sample(values_: list[bytes]) -> estimate.Sample:
    some = [PlainRecord(number, 1_750_000_000_000 + number, value) for number, value in enumerate(values_)]
    return records.take({P0: some}, EventValidator(EventsConfig(), load_model(None)))


def test_a_sample_that_makes_rows_is_ok_and_its_youngest_record_is_named() -> None:
    found = list(records.findings(sample([event(1), event(2)]), BreakerConfig()))
    assert [it.verdict for it in found] == [OK, OK]
    assert "t[0] offset 1 of 2025-06-15T15:06:40Z" in found[0].seen


def test_a_rejected_record_is_noted_with_reason_and_path() -> None:
    finding = only(records.findings(sample([event(1), event(2), event(3, client_id=7)]), BreakerConfig()), NOTE)
    assert "wrong_type 1" in finding.seen
    assert "t[0] offset 2: wrong_type at $.client_id" in finding.seen


def test_a_sample_that_would_open_the_breaker_is_wrong() -> None:
    finding = only(records.findings(sample([b"{", event(1), b"x"]), BreakerConfig()), WRONG)
    assert "breaker.max_share = 0.5" in finding.todo


def test_an_empty_sample_is_noted() -> None:
    assert only(records.findings(sample([]), BreakerConfig()), NOTE).seen == "there is no record to read"


def test_a_timestamp_beyond_the_calendar_is_no_failure() -> None:
    one = PlainRecord(0, 2**62, event(1))
    found = records.take({P0: [one]}, EventValidator(EventsConfig(), load_model(None)))
    assert [it.verdict for it in records.findings(found, BreakerConfig())] == [OK, OK]


# -- what it will come to


SAMPLE = sample([event(number, page_url=f"https://example.com/{number * 7919}") for number in range(500)])


def traffic(*a_day: int) -> dict[TopicPartition, estimate.Traffic]:
    return {
        TopicPartition("t", number): estimate.Traffic(LogRange(0, 10 + many), 10, 10 + many)
        for number, many in enumerate(a_day)
    }


def estimated(a_day: list[int], limits: BatchConfig = BatchConfig()) -> estimate.Estimate:  # noqa: B008  frozen
    found = estimate.estimate(traffic(*a_day), SAMPLE, limits)
    assert found is not None
    return found


def test_a_steady_partition_makes_an_object_each_interval() -> None:
    found = estimated([86_400_000])
    assert found.records == 86_400_000
    assert found.objects == pytest.approx(86_400 / 30, rel=0.01)


def test_a_partition_with_few_records_makes_an_object_for_each() -> None:
    found = estimated([10, 0, 0])
    assert found.objects == 10
    assert found.object_bytes == pytest.approx(len(compress(SAMPLE.rows[0]).data), rel=0.02)


def test_objects_of_full_size_follow_from_the_bytes() -> None:
    limits = BatchConfig(interval=Seconds(3600), bytes=Size(1 << 20), memory=Size(256 << 20))
    found = estimated([86_400_000], limits)
    assert found.objects * found.object_bytes == pytest.approx(86_400_000 * SAMPLE.packed_bytes(500) / 500, rel=0.05)
    assert found.object_bytes == pytest.approx(1 << 20, rel=0.05)


def test_a_limit_of_records_makes_more_objects() -> None:
    assert estimated([86_400_000], BatchConfig(records=1000)).objects == 86_400


def test_the_costs_are_the_list_prices() -> None:
    found = estimated([86_400_000])
    assert found.usd_per_month == pytest.approx(found.objects * 30 / 1000 * 0.005, rel=0.01)
    assert found.credits_per_month == pytest.approx(86_400_000 * 30 * SAMPLE.row_bytes / GB * 0.0037)


def test_rejects_make_quarantine_objects_and_no_rows() -> None:
    half = sample([event(1), b"x"])
    found = estimate.estimate(traffic(1_000_000), half, BatchConfig())
    assert found is not None
    assert found.quarantine_objects == found.objects
    assert found.row_bytes == pytest.approx(500_000 * half.row_bytes)


@pytest.mark.parametrize(("a_day", "some"), [([0, 0], SAMPLE), ([5], sample([b"x"])), ([5], sample([]))])
def test_there_is_no_estimate_without_traffic_and_rows(a_day: list[int], some: estimate.Sample) -> None:
    found = estimate.estimate(traffic(*a_day), some, BatchConfig())
    assert found is None
    assert only(volume.findings(traffic(*a_day), found, BatchConfig()), NOTE).check == "estimate.objects"


@given(
    st.lists(st.integers(0, 10**8), min_size=1, max_size=40),
    st.floats(0.1, 3600),
    st.none() | st.integers(1, 10**6),
)
def test_objects_are_at_most_the_records_and_no_fewer_than_the_limits_make(
    a_day: list[int], interval: float, most: int | None
) -> None:
    limits = BatchConfig(interval=Seconds(interval), records=most)
    each = estimate.RecordSize(300.0, 50.0)
    objects = estimate.objects_per_day(a_day, each, limits)
    assert objects <= sum(a_day) * (1 + 1e-9)
    assert objects >= sum(a_day) * 50.0 / limits.bytes * (1 - 1e-9)
    if most is not None:
        assert objects >= sum(a_day) / most * (1 - 1e-9)
    assert estimate.objects_per_day(a_day, each, replace(limits, interval=Seconds(2 * interval))) <= objects


def test_many_partitions_share_the_memory_for_rows_that_are_not_compressed_yet() -> None:
    limits = BatchConfig(memory=Size(16 << 20), interval=Seconds(3600))
    each = estimate.RecordSize(row=300.0, packed=50.0)
    a_day = [20e6] * 200
    rows = limits.memory / 2 / 200 - Batch.frame_bytes  # less than a chunk, so it waits as it is
    expected = sum(a_day) * each.row / rows
    assert estimate.objects_per_day(a_day, each, limits) == pytest.approx(expected)


@given(st.integers(1, 500))
def test_an_object_of_sampled_rows_is_as_large_as_they_are(count: int) -> None:
    assert SAMPLE.packed_bytes(count) == len(compress(b"".join(SAMPLE.rows[:count])).data)


def test_a_row_of_the_sample_is_a_line() -> None:
    assert len(SAMPLE.rows) == 500
    assert all(json.loads(row) for row in SAMPLE.rows)
    assert gzip.decompress(compress(b"".join(SAMPLE.rows)).data).count(b"\n") == 500


@pytest.mark.parametrize(
    ("a_day", "limits", "words"),
    [
        ([10**6] * 6, BatchConfig(), "batch.interval = 6m"),
        ([10**9], BatchConfig(interval=Seconds(3600), bytes=Size(1 << 20), memory=Size(1 << 30)), "larger batch.bytes"),
        (
            [10**11],
            BatchConfig(interval=Seconds(3600), bytes=Size(900 << 20), memory=Size(8 << 30)),
            "smaller batch.bytes",
        ),
    ],
)
def test_objects_far_from_what_snowflake_likes_are_noted_with_what_would_do(
    a_day: list[int], limits: BatchConfig, words: str
) -> None:
    found = list(volume.findings(traffic(*a_day), estimated(a_day, limits), limits))
    assert words in only(found, NOTE).todo


def test_the_interval_that_is_advised_would_do() -> None:
    a_day = [10**6] * 6
    assert estimated(a_day, BatchConfig(interval=Seconds(360))).objects <= estimate.FILES_PER_DAY


@pytest.mark.parametrize("a_day", [[1000], [10**10]])
def test_objects_that_are_few_or_large_are_ok(a_day: list[int]) -> None:
    limits = BatchConfig(interval=Seconds(600), bytes=Size(150 << 20), memory=Size(2 << 30))
    assert set(verdicts(volume.findings(traffic(*a_day), estimated(a_day, limits), limits)).values()) == {OK}


def test_a_log_that_is_shorter_than_a_day_is_told() -> None:
    young = {P0: estimate.Traffic(LogRange(5, 10), 5, 5)}
    assert "nothing older" in next(volume.findings(young, None, BatchConfig())).seen
    old = {P0: estimate.Traffic(LogRange(0, 10), 5, 5)}
    assert "nothing older" not in next(volume.findings(old, None, BatchConfig())).seen


# -- the store


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("s3://b", OK),
        ("s3://b/live", OK),
        ("s3://b/events", NOTE),
        ("s3://b/x/events", NOTE),
        ("s3://b/quarantine", NOTE),
    ],
)
def test_a_root_that_a_pipe_could_be_pointed_at_by_mistake_is_noted(url: str, verdict: Verdict) -> None:
    finding = store.places(ObjectKeys("2026"), url)
    assert finding.verdict is verdict
    assert f"rows go to {url}/events/2026/" in finding.seen


@pytest.mark.parametrize(
    ("message", "todo"),
    [
        (
            "AccessDenied: User: x is not authorized to perform: kms:GenerateDataKey on resource: y",
            "kms:GenerateDataKey",
        ),
        (
            "AccessDenied: not authorized to perform: kms:Decrypt",
            "kms:Decrypt to this process's user or role, in its policy",
        ),
        ("AccessDenied: not authorized to perform: s3:PutObject on resource z", "grant s3:PutObject to"),
        ("AccessDenied", "the hint"),
    ],
)
def test_a_refusal_names_the_right_that_is_missing(message: str, todo: str) -> None:
    finding = store.refused("sink.write", SinkForbidden(message, code="AccessDenied", hint="the hint"))
    assert finding.verdict is WRONG
    assert todo in finding.todo


def test_a_store_that_is_away_says_what_to_look_at() -> None:
    assert "network" in store.refused("sink.list", SinkUnavailable("cannot list", code="X")).todo


def test_encryption_is_told_where_it_is_asked_for() -> None:
    assert list(store.encryption(Config())) == []
    [finding] = store.encryption(Config(s3=S3Config(encryption="aws:kms", kms_key_id="alias/mine")))
    assert (finding.verdict, "alias/mine" in finding.seen, "kms:Decrypt" in finding.seen) == (OK, True, True)


@pytest.mark.parametrize(("free", "verdict"), [(1 << 20, WRONG), (2 << 30, NOTE), (1 << 45, OK)])
def test_a_disk_without_room_is_wrong_and_one_that_fills_within_days_noted(free: int, verdict: Verdict) -> None:
    assert store.space(free, Config(), estimated([10**8])).verdict is verdict

"""What a soak says of its samples and of the bucket."""

import math
from contextlib import closing
from random import Random

import pytest

from benchmarks.soak.count import count
from benchmarks.soak.load import Written
from benchmarks.soak.plan import BURST, EVERY, FACTOR, FIRST, LAST, Plan, Span
from benchmarks.soak.samples import Sample, Written2Landed, buckets, difference, quantile
from benchmarks.soak.verdict import WARM_UP, memory, recoveries, theil_sen
from ingestd.core.batch import Batch
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.quarantine import encode
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.validation import Rejected, Validated
from tests.services.seaweed import S3Store

HOUR = 3600.0


def sample(second: float, **values: object) -> Sample:
    fields: dict[str, object] = dict.fromkeys(Sample.__struct_fields__, 0)
    return Sample(**{**fields, "second": second, "daemon": "a", "phase": "steady", **values})  # type: ignore[arg-type]


# -- memory


def test_a_slope_is_told_in_mib_an_hour_and_outliers_do_not_move_it() -> None:
    points = [(minute / 60, 100 + minute / 60 * 12 + (500 if minute % 7 == 0 else 0)) for minute in range(60)]
    slope = theil_sen(points)
    assert slope is not None
    assert math.isclose(slope.per_hour, 12, abs_tol=0.5)
    assert slope.low <= slope.per_hour <= slope.high
    assert math.isclose(slope.hours, 59 / 60)


@pytest.mark.parametrize(("per_hour", "grows"), [(0, False), (-40, False), (5, False), (40, True)])
def test_memory_that_breathes_is_flat_and_memory_that_leaks_is_not(per_hour: float, grows: bool) -> None:
    rng = Random(7)
    seconds = [
        sample(second, rss_mib=150 + per_hour * second / HOUR + second % 30 + rng.gauss(0, 3)) for second in range(1800)
    ]
    slope = memory(seconds, [])
    assert slope is not None
    assert slope.grows is grows


def test_what_the_first_burst_brings_in_is_no_growth_and_what_each_one_adds_is() -> None:
    bursts = [Span(120 + 300 * number, 180 + 300 * number) for number in range(6)]

    def resident(second: float, first: float, each: float) -> float:
        if any(begin <= second < end + WARM_UP / 2 for begin, end in bursts):
            return 400
        through = sum(end <= second for _, end in bursts)
        return 100 + (first if through else 0) + each * through

    for first, each, grows in ((80, 0, False), (80, 8, True)):
        slope = memory([sample(second, rss_mib=resident(second, first, each)) for second in range(1800)], bursts)
        assert slope is not None
        assert slope.grows is grows


def test_of_too_little_time_nothing_is_said() -> None:
    assert memory([sample(second) for second in range(90)], []) is None
    assert theil_sen([(0, 1), (1, 2), (2, 3)]) is None


# -- bursts


def test_a_burst_is_over_when_the_value_stays_normal() -> None:
    bursts = [Span(120, 180), Span(420, 480)]

    def age(second: int) -> float:
        if 130 <= second < 210 or second >= 430:
            return 90
        return 35 if second == 212 else second % 30

    first, second = recoveries([sample(at, age_s=age(at)) for at in range(600)], bursts, lambda it: it.age_s)
    assert (first.normal, first.worst, first.seconds) == (1.25 * 29, 90, 30)
    assert (second.worst, second.seconds) == (90, None)


def test_bursts_leave_time_before_and_after_them() -> None:
    plan = Plan(100, 1800)
    assert plan.bursts[0] == Span(FIRST, FIRST + BURST)
    assert plan.bursts[1].begin - plan.bursts[0].begin == EVERY
    assert plan.bursts[-1].end + LAST <= 1800
    assert [plan.rate_at(it) for it in (0, FIRST, FIRST + BURST)] == [100, 100 * FACTOR, 100]
    assert plan.events == sum(plan.rate_at(second) for second in range(1800))
    assert Plan(100, 200).bursts == []


# -- samples


def test_the_age_is_that_of_the_oldest_report_that_has_not_landed() -> None:
    group = Written2Landed(2)
    for at, ends in ((10.0, [5, 0]), (11.0, [5, 5]), (12.0, [9, 5])):
        group.wrote(Written(at, ends, 0))
    assert (group.age(20.0), group.lag) == (10.0, 14)
    group.landed([(0, 5)])
    assert (group.age(20.0), group.lag) == (9.0, 9)
    group.landed([(1, 5)])
    assert (group.age(20.0), group.lag) == (8.0, 4)
    group.landed([(0, 9), (1, 3)])
    assert (group.age(20.0), group.lag) == (0.0, 0)


def test_a_quantile_is_the_bound_that_enough_values_keep() -> None:
    text = "".join(
        f'ingestd_loop_lag_seconds_bucket{{le="{bound}"}} {count}\n'
        for bound, count in (("0.005", 90.0), ("0.1", 99.0), ("1", 99.0), ("+Inf", 100.0))
    )
    found = buckets(text)
    assert [quantile(found, share) for share in (0.5, 0.9, 0.91, 0.99, 1.0)] == [0.005, 0.005, 0.1, 0.1, 1]
    assert quantile(difference(found, found), 0.5) == 0


# -- the bucket


def put(store: S3Store, bucket: str, span: range, offsets: list[int], rejected: list[int]) -> None:
    """An object of `t[0]` over a span, with these rows, and the quarantine object that belongs to it."""
    place, layout = TopicPartition("t", 0), ObjectKeys()
    batch = Batch(place, span.start)
    records = [PlainRecord(offset, 1_750_000_000_000, b"x") for offset in span]
    bad = [
        Rejected(offset - span.start, records[offset - span.start], Reason.NOT_JSON, "$", "bad") for offset in rejected
    ]
    rows = b"".join(b'{"source_offset":%d}\n' % offset for offset in offsets)
    batch.add(records, Validated([rows], {}, bad), encode(place, bad) if bad else b"", 0.0)
    sealed = batch.encode(layout, "cluster", "1")
    with closing(store.client()) as client:
        client.put_object(
            Bucket=bucket, Key=sealed.data_key, Body=sealed.data, Metadata=sealed.metadata.to_user_metadata()
        )
        if sealed.quarantine_key is not None:
            client.put_object(Bucket=bucket, Key=sealed.quarantine_key, Body=sealed.quarantine)


def test_a_bucket_that_has_everything_once_is_counted_as_such(s3: S3Store, bucket: str) -> None:
    put(s3, bucket, range(4), [0, 1, 3], [2])
    put(s3, bucket, range(4, 6), [4, 5], [])
    tally = count(s3, bucket, "t", [6, 0])
    assert not tally.problems
    assert (tally.records, tally.rows, tally.quarantined, tally.objects) == (6, 5, 1, 2)
    assert (tally.lost, tally.doubled, tally.gaps, tally.overlaps) == (0, 0, 0, 0)


def test_what_is_missing_and_what_is_there_twice_is_counted(s3: S3Store, bucket: str) -> None:
    put(s3, bucket, range(4), [0, 1, 1], [2])
    put(s3, bucket, range(6, 8), [6, 7], [])
    tally = count(s3, bucket, "t", [10, 3])
    assert (tally.lost, tally.doubled, tally.gaps) == (1 + 2 + 2 + 3, 1, 1)
    assert len(tally.problems) >= 4

"""When bad input stops the daemon."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from ingestd.config import model as config
from ingestd.core.breaker import Breaker
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.validation import Rejected

ONE, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)


def observe(breaker: Breaker, partition: TopicPartition, flags: list[bool]) -> str | None:
    """A chunk of records, of which the flagged ones were rejected."""
    bad = [position for position, flag in enumerate(flags) if flag]
    rejected = [Rejected(position, PlainRecord(position, 0, None), Reason.INVALID, "$", "") for position in bad]
    return breaker.observe(partition, len(flags), rejected)


chunks = st.lists(st.tuples(st.sampled_from([ONE, OTHER]), st.lists(st.booleans(), max_size=12)), max_size=12)
settings = st.builds(
    config.BreakerConfig,
    max_share=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
    window=st.integers(1, 12),
    max_consecutive=st.integers(1, 12),
)


@given(settings, chunks)
def test_opens_exactly_when_a_record_by_record_count_says_so(
    given_settings: config.BreakerConfig, given_chunks: list[tuple[TopicPartition, list[bool]]]
) -> None:
    breaker = Breaker(given_settings)
    history = [False] * given_settings.window
    in_a_row: dict[TopicPartition, int] = defaultdict(int)
    is_open = False
    for partition, flags in given_chunks:
        for flag in flags:
            history.append(flag)
            in_a_row[partition] = in_a_row[partition] + 1 if flag else 0
            share = sum(history[-given_settings.window :]) / given_settings.window
            is_open |= share > given_settings.max_share or in_a_row[partition] >= given_settings.max_consecutive
        assert (observe(breaker, partition, flags) is not None) == is_open


def test_names_the_share_and_the_setting() -> None:
    breaker = Breaker(config.BreakerConfig(max_share=0.5, window=4, max_consecutive=100))
    assert observe(breaker, ONE, [True, True, False, False]) is None
    assert observe(breaker, OTHER, [True, True, False, True]) == (
        "3 of the last 4 records were rejected, more than breaker.max_share = 0.5 of breaker.window = 4; "
        "3 of them for invalid, for example t[1] offset 3: invalid at $"
    )


def test_before_a_whole_window_it_names_the_records_that_were_read() -> None:
    breaker = Breaker(config.BreakerConfig(max_share=0.5, window=5000, max_consecutive=10_000))
    assert observe(breaker, ONE, [False] * 835) is None
    reason = observe(breaker, ONE, [True] * 2600)
    assert reason is not None
    assert reason.startswith("2,501 of the first 3,336 records were rejected, more than breaker.max_share = 0.5 of")


def test_names_the_most_frequent_reason_with_the_path_of_an_example() -> None:
    breaker = Breaker(config.BreakerConfig(max_share=1.0, window=5000, max_consecutive=3))
    rejected = [
        Rejected(0, PlainRecord(70, 0, None), Reason.MISSING_FIELD, "$.client_id", "secret-value"),
        Rejected(1, PlainRecord(71, 0, None), Reason.MISSING_FIELD, "$.client_id", "secret-value"),
        Rejected(2, PlainRecord(72, 0, b"{"), Reason.NOT_JSON, "$", "secret-value"),
    ]
    assert breaker.observe(ONE, 3, rejected) == (
        "3 records in a row were rejected in t[0] (breaker.max_consecutive); "
        "2 of them for missing_field, for example t[0] offset 71: missing_field at $.client_id"
    )


def test_names_the_partition_with_too_many_in_a_row() -> None:
    breaker = Breaker(config.BreakerConfig(max_share=1.0, window=5000, max_consecutive=3))
    assert observe(breaker, ONE, [True, True]) is None
    assert observe(breaker, OTHER, [False] * 100) is None
    assert observe(breaker, ONE, [True]) == (
        "3 records in a row were rejected in t[0] (breaker.max_consecutive); "
        "3 of them for invalid, for example t[0] offset 0: invalid at $"
    )


def test_first_few_bad_records_do_not_open_it() -> None:
    breaker = Breaker(config.BreakerConfig(max_share=0.5, window=100, max_consecutive=100))
    assert observe(breaker, ONE, [True] * 50) is None


def test_stays_open_whatever_comes() -> None:
    breaker = Breaker(config.BreakerConfig(max_share=0.5, window=10, max_consecutive=2))
    reason = observe(breaker, ONE, [True, True])
    assert reason is not None
    assert observe(breaker, ONE, [False] * 1000) == reason


def test_a_good_record_ends_a_row_of_bad_ones_also_between_chunks() -> None:
    breaker = Breaker(config.BreakerConfig(max_share=1.0, window=5000, max_consecutive=3))
    for flags in ([True, True, False], [True, True], [False], [True, True]):
        assert observe(breaker, ONE, flags) is None
    assert observe(breaker, ONE, []) is None
    assert observe(breaker, ONE, [True]) is not None

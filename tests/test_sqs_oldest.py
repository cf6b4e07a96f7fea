"""The age of the oldest message, by what was received."""

from ingestd.sources.sqs.oldest import WINDOW_S, OldestMessage


def test_is_the_greatest_age_at_receipt_of_two_windows() -> None:
    oldest = OldestMessage()
    assert oldest.age_s(0.0) is None
    oldest.note(0.0, 1000.0, [990_000, 700_000])
    oldest.note(1.0, 1001.0, [1_000_000])
    assert oldest.age_s(WINDOW_S - 1) == 300.0
    assert oldest.age_s(WINDOW_S + 1) == 300.0
    oldest.note(WINDOW_S + 2, 1062.0, [1_060_000])
    assert oldest.age_s(2 * WINDOW_S + 2) == 2.0


def test_an_empty_answer_says_that_nothing_waits() -> None:
    oldest = OldestMessage()
    oldest.note(0.0, 1000.0, [])
    assert oldest.age_s(1.0) == 0.0
    assert oldest.age_s(2 * WINDOW_S) is None


def test_a_sender_with_a_clock_ahead_gives_no_negative_age() -> None:
    oldest = OldestMessage()
    oldest.note(0.0, 1000.0, [2_000_000])
    assert oldest.age_s(0.0) == 0.0

"""Until when a message is hidden: never later than SQS may think."""

from ingestd.core.visibility import HeldMessage, extension, hidden_until, note_extension

V = 100.0


def held(requested_at: float = 0.0) -> HeldMessage:
    return HeldMessage(
        message_id="m", receipt="r", received_at=requested_at, hidden_until=hidden_until(requested_at, V)
    )


def test_a_message_is_hidden_for_less_than_its_visibility_from_the_start_of_the_request() -> None:
    message = held(10.0)
    assert message.is_hidden(107.9)
    assert not message.is_hidden(108.1)


def test_an_extension_counts_from_the_start_of_its_request() -> None:
    message = held()
    note_extension(message, requested_at=50.0, answered_at=60.0, seconds=100.0)
    assert message.hidden_until == 148.0


def test_an_extension_that_was_answered_too_late_does_not_count() -> None:
    """Somebody else may have received the message in between."""
    message = held()
    note_extension(message, requested_at=90.0, answered_at=98.5, seconds=100.0)
    assert not message.is_hidden(98.5)


def test_a_shorter_extension_takes_nothing_away() -> None:
    message = held()
    note_extension(message, requested_at=10.0, answered_at=11.0, seconds=10.0)
    assert message.hidden_until == 98.0


def test_nothing_is_extended_beyond_what_sqs_takes() -> None:
    message = held()
    assert extension(message, 50.0, V, longest=1000.0) == 100
    assert extension(message, 960.0, V, longest=1000.0) == 40
    assert extension(message, 1000.5, V, longest=1000.0) == 0

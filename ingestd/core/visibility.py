"""Until when a received message is hidden from other receivers, and what follows from it. Pure.

Times are those of one monotonic clock. SQS hides a message from the moment at which it answers a receive request. That
moment is not known, but it is later than the one at which the request began, so the time is counted from there. The
same holds for each extension, which counts only if it was answered while the message was hidden: after that, somebody
else may have received the message.
"""

import msgspec

#: Of a visibility: how much earlier than SQS we believe that it ends. More than two clocks drift apart.
MARGIN_SHARE = 0.02
#: A message is extended once it has been held for this share of its visibility.
EXTEND_SHARE = 0.5
#: A batch is flushed once only this share of a visibility is left: SQS does not take extensions.
FLUSH_SHARE = 0.25


class HeldMessage(msgspec.Struct, eq=False):
    """A message between its receipt and its deletion, without its value."""

    message_id: str
    receipt: str  # the latest
    received_at: float  # when the first request of this holding began
    hidden_until: float  # nobody else has received it before that

    def is_hidden(self, now: float) -> bool:
        return now < self.hidden_until


def hidden_until(requested_at: float, visibility: float) -> float:
    """Until when a message is certain to be hidden that was received or extended by a request that began then."""
    return requested_at + visibility * (1 - MARGIN_SHARE)


def extend_after(visibility: float) -> float:
    """A message needs an extension when less than this is left."""
    return visibility * EXTEND_SHARE


def flush_before(visibility: float) -> float:
    """A batch is flushed when less than this is left to one of its messages."""
    return visibility * FLUSH_SHARE


def extension(message: HeldMessage, now: float, visibility: float, longest: float) -> int:
    """For how many seconds from now on the message can be hidden, at most `longest` after its receipt; 0: no longer."""
    return max(0, int(min(visibility, message.received_at + longest - now)))


def note_extension(message: HeldMessage, requested_at: float, answered_at: float, seconds: float) -> None:
    """Note that SQS took an extension."""
    if message.is_hidden(answered_at):
        message.hidden_until = max(message.hidden_until, hidden_until(requested_at, seconds))

"""Which of several failures of Kafka is shown, and since when."""

import asyncio
import logging

from ingestd.sources.kafka.error_state import ErrorState


async def test_an_error_that_needs_an_operator_is_not_hidden_by_a_later_warning() -> None:
    it = ErrorState()
    it.begin("rights to t", "reading topic t is not allowed", level=logging.ERROR)
    it.begin("silence", "no broker has answered")
    assert it.error == "reading topic t is not allowed"
    it.end("rights to t")
    assert it.error == "no broker has answered"


async def test_of_equally_severe_errors_the_last_is_shown() -> None:
    it = ErrorState()
    it.begin("connect", "first")
    it.begin("silence", "second")
    it.begin("connect", "first, again")
    assert it.error == "second"


async def test_its_age_counts_from_when_it_began_and_not_from_when_it_was_seen() -> None:
    it, now = ErrorState(), asyncio.get_running_loop().time()
    it.begin("connect", "no connection")
    it.begin("silence", "no broker has answered", since=now - 10)
    assert it.since == now - 10
    it.end("silence")
    it.end("connect")
    assert it.since is None

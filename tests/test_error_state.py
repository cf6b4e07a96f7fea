"""Which of several failures of Kafka is shown, and since when."""

import asyncio
import logging

from aiokafka.errors import GroupCoordinatorNotAvailableError

from ingestd.config.model import KafkaConfig
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka.group_consumer import GroupConsumer
from tests.contract.source_contract import RecordingListener


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


class Member:
    """A member of a group to which nothing is assigned."""

    membership = 3, "m"

    def pause(self, *assigned: object) -> None: ...


async def test_a_coordinator_that_is_reached_but_ends_no_rebalance_stays_an_error() -> None:
    """So it is where the controllers have no quorum: a look-up succeeds, and no partition is ever given."""
    errors = ErrorState()
    consumer = GroupConsumer(KafkaConfig(), {}, RecordingListener(), lambda _: None, errors)
    await consumer._consumer.stop()  # it was not started
    told, member = consumer._consumer.client.on_coordinator, Member()
    consumer._consumer = member  # type: ignore[assignment]

    told(GroupCoordinatorNotAvailableError())
    told(None)
    assert errors, "no partition was given yet"
    consumer.on_partitions_assigned(())
    assert not errors

    told(GroupCoordinatorNotAvailableError())
    told(None)
    assert not errors, "a member that is in the group needs no rebalance"
    await consumer.on_partitions_revoked(())
    told(GroupCoordinatorNotAvailableError())
    told(None)
    assert errors, "it has to join again"

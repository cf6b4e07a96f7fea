"""What `ingestd check` asks an SQS queue, and what it says of the answers."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from ingestd.config.model import BatchConfig, Config, EventsConfig, SqsConfig
from ingestd.config.types import Seconds, Size
from ingestd.core.errors import SourceError
from ingestd.preflight import CheckFinding, Verdict, queue, sqs_probe
from ingestd.preflight.queue import QueueFacts
from ingestd.sources.sqs.client import QueueAttributes
from tests.scripted_sqs import QUEUE_ARN, SECRET, ScriptedSqs, fault

EVENT = b'{"event_type":"web_visit","event_id":"e","client_id":"c","event_timestamp":"2026-01-01T00:00:00Z"}'
DAY_S = 86400
QUEUE = QueueAttributes(
    arn=QUEUE_ARN, visible=1200, in_flight=3, visibility_s=30, retention_s=4 * DAY_S, max_message_bytes=1 << 20
)


def redrive(most: object) -> str:
    return f'{{"deadLetterTargetArn":"{QUEUE_ARN}-dead","maxReceiveCount":{most}}}'


def judged(facts: QueueFacts, **more: Any) -> dict[str, CheckFinding]:
    config = Config(sqs=SqsConfig(queue_url="https://sqs.eu-central-1.amazonaws.com/1/events"), **more)
    return {it.check: it for it in queue.findings(facts, config)}


def test_a_queue_that_is_well_has_nothing_to_do() -> None:
    found = judged(QueueFacts(attributes=QUEUE))
    assert {it.verdict for it in found.values()} == {Verdict.OK}
    assert found["sqs.queue"].seen == f"{QUEUE_ARN}, standard: 1,200 visible, 3 in flight, 0 delayed"
    assert "none is needed" in found["sqs.dead_letters"].seen


def test_says_how_many_messages_a_second_the_batches_leave_room_for() -> None:
    found = judged(QueueFacts(attributes=QUEUE), batch=BatchConfig(interval=Seconds(60)))
    assert "with batch.interval = 1m that is 2,000 a second" in found["sqs.in_flight"].seen


@pytest.mark.parametrize(
    ("most", "verdict", "outage"),
    [(1, Verdict.WRONG, "12h"), ('"1"', Verdict.WRONG, "12h"), (3, Verdict.NOTE, "36h"), (10, Verdict.OK, "5d")],
)
def test_a_small_receive_count_is_told_with_what_it_means(most: object, verdict: Verdict, outage: str) -> None:
    found = judged(QueueFacts(attributes=replace(QUEUE, redrive_policy=redrive(most))))["sqs.dead_letters"]
    assert found.verdict is verdict
    assert f"one for each 12h, which is {outage} in all" in found.seen
    assert ("set maxReceiveCount to 5 or more" in found.todo) == (verdict is not Verdict.OK)


def test_what_a_queue_keeps_too_short_or_takes_too_large_is_told() -> None:
    found = judged(
        QueueFacts(attributes=replace(QUEUE, retention_s=3600, kms_key_id="alias/k")),
        events=EventsConfig(max_bytes=Size(1 << 10)),
    )
    assert (found["sqs.retention"].verdict, found["sqs.retention"].seen) == (Verdict.NOTE, "messages are kept for 1h")
    assert "MessageRetentionPeriod to 259200" in found["sqs.retention"].todo
    assert "1MiB, and events.max_bytes is 1KiB" in found["sqs.message_size"].seen
    assert "kms:Decrypt" in found["sqs.encryption"].todo


def test_groups_of_a_fifo_queue_are_told_with_the_interval() -> None:
    found = judged(QueueFacts(attributes=replace(QUEUE, arn=f"{QUEUE_ARN}.fifo")))
    assert "10 messages of each group for each batch, with batch.interval = 30s" in found["sqs.groups"].seen


def test_a_queue_that_does_not_answer_names_what_to_check() -> None:
    found = judged(QueueFacts(attributes=SourceError("cannot connect")))
    assert list(found) == ["sqs.queue"]
    assert "sqs.queue_url" in found["sqs.queue"].todo


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)


async def looked(server: ScriptedSqs) -> QueueFacts:
    async with asyncio.timeout(30):
        return await sqs_probe.look(server.config())


@pytest.mark.usefixtures("credentials")
async def test_tries_the_rights_without_a_message() -> None:
    async with ScriptedSqs(DeleteMessageBatch=[fault("AccessDenied", "not authorized: sqs:deletemessage")]) as server:
        facts = await looked(server)
        assert "ReceiveMessage" not in server.requests
    assert isinstance(facts.attributes, QueueAttributes)
    assert facts.extend is None
    found = judged(facts)["sqs.rights"]
    assert found.verdict is Verdict.WRONG
    assert "sqs:DeleteMessage" in found.todo


@pytest.mark.parametrize("most", [1, 2])
def test_receives_nothing_where_that_makes_dead_letters(most: int) -> None:
    few = QueueFacts(attributes=replace(QUEUE, redrive_policy=redrive(most)))
    assert (
        f"maxReceiveCount is {most}: a dry run's receipts would bring messages to the dead letters"
        in few.why_no_dry_run
    )
    assert not QueueFacts(attributes=replace(QUEUE, redrive_policy=redrive(3))).why_no_dry_run
    assert not QueueFacts(attributes=QUEUE).why_no_dry_run


def test_receives_nothing_that_could_not_be_given_back() -> None:
    facts = QueueFacts(attributes=QUEUE, extend=SourceError("not authorized"))
    assert "may not change their visibility" in facts.why_no_dry_run

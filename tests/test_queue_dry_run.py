"""A dry run of a queue tells what a run would write, deletes nothing, and gives every message back."""

import asyncio
import signal
import time
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from ingestd import wiring
from ingestd.config.model import BatchConfig, BreakerConfig, Config, EventsConfig, SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.events import load_model
from ingestd.core.object_keys import EVENTS, QUARANTINE
from ingestd.core.row_origin import RowOrigin
from ingestd.core.validation import EventValidator
from ingestd.preflight import Verdict, queue_dry_run
from ingestd.preflight.queue_dry_run import BorrowedQueue, QueueDryRun, QueueSummary, QueueWouldBe, findings
from ingestd.sources.sqs import port
from ingestd.sources.sqs.port import Message
from tests.fakes.memory_queue import MemoryQueue, MemoryQueueSource
from tests.fakes.memory_sink import Fault, MemorySink
from tests.scripted_sqs import SECRET, Answer, ScriptedSqs, Step, all_done, fault, message
from tests.test_queue_flow import Flow, event, land_without_deleting, rows, until

CONFIG = Config(
    source="sqs",
    batch=BatchConfig(interval=Seconds(600)),
    breaker=BreakerConfig(max_share=1.0, max_consecutive=10**6),
    sink=SinkConfig(retry_initial=Seconds(0.01), retry_max=Seconds(0.01)),
    grace=Seconds(20),
)
VALIDATOR = EventValidator(EventsConfig(), load_model(None), RowOrigin.MESSAGE_ID)


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the queue in memory; and short waits."""
    monkeypatch.setattr(port, "clock", time.monotonic)
    monkeypatch.setattr(queue_dry_run, "WAIT_S", Seconds(0.05))


class Trial:
    """A queue in memory, a sink with what is there already, and what a dry run makes of both."""

    def __init__(self, events: int, most: int | None = None) -> None:
        self.queue = MemoryQueue(max_receive_count=most)
        self.sink = MemorySink()
        self.told: list[QueueWouldBe] = []
        self.sample: list[Message] = []
        self.most = most
        for number in range(events):
            self.queue.send(event(number))

    async def run(
        self, config: Config = CONFIG, tell: Callable[[QueueWouldBe], None] | None = None, wait_s: float = 0.05
    ) -> QueueSummary:
        config = queue_dry_run.settings(config)
        source = MemoryQueueSource(self.queue, visibility=config.sqs.visibility, wait=wait_s)
        borrowed = BorrowedQueue(source, self.most)
        summary = await QueueDryRun(config, borrowed, self.sink, VALIDATOR, tell or self.told.append).run()
        self.sample = borrowed.sample
        await asyncio.sleep(2 * queue_dry_run.WAIT_S)  # a request that was cancelled has found what it could
        return summary

    def verdicts(self, summary: QueueSummary) -> dict[str, Verdict]:
        return {it.check: it.verdict for it in findings(summary, 0.5, self.most)}


async def test_tells_what_a_run_would_write_and_leaves_the_queue_as_it_was() -> None:
    trial = Trial(25)
    trial.queue.send(b"{")
    trial.queue.send(b"not json")
    summary = await trial.run()

    assert (summary.messages, summary.rows, summary.rejected, summary.problem) == (27, 25, 2, None)
    assert summary.rejected_by_reason == {"truncated": 1, "not_json": 1}
    assert (summary.emptied, summary.hidden, summary.landed, summary.unfinished) == (True, 0, 0, 0)
    assert [(it.quarantine, it.rows, it.rejected) for it in trial.told] == [(True, 0, 2), (False, 25, 2)]
    assert [it.key.startswith(root) for it, root in zip(trial.told, (QUARANTINE, EVENTS), strict=True)] == [True] * 2
    assert trial.sink.objects == {}
    assert (trial.queue.depth().visible, trial.queue.depth().in_flight, trial.queue.dead) == (27, 0, [])
    assert trial.verdicts(summary) == {"dry_run": Verdict.OK, "dry_run.receipts": Verdict.OK}


async def test_receives_each_message_once() -> None:
    """However long it goes on: a message that was given back at once would use up its receipts."""
    trial = Trial(10, most=5)
    summary = await trial.run(replace(CONFIG, duration=Seconds(0.5)))
    assert {len(entry.receipts) for entry in trial.queue.entries.values()} == {1}
    assert (summary.messages, summary.most_receipts, summary.ended_by) == (10, 1, "")


async def test_ends_before_a_message_becomes_a_dead_letter() -> None:
    trial = Trial(40, most=4)
    for _ in range(2):  # by others
        for one in trial.queue.receive(30.0, 0.0, count=40):
            trial.queue.extend(one.receipt, 0.0)
    summary = await trial.run()
    assert summary.ended_by == "a message has 1 receipt left before it is a dead letter"
    assert not trial.queue.dead
    assert max(len(entry.receipts) for entry in trial.queue.entries.values()) == 3
    found = {it.check: it for it in findings(summary, 0.5, 4)}
    assert found["dry_run.receipts"].verdict is Verdict.NOTE
    assert "3 times in all, of maxReceiveCount = 4" in found["dry_run.receipts"].seen


async def test_takes_no_more_messages_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_dry_run, "MAX_MESSAGES", 30)
    trial = Trial(200)
    summary = await trial.run()
    assert 30 <= summary.messages <= 30 + 10 * CONFIG.sqs.receivers
    assert summary.ended_by == "a dry run takes 30 messages at most"
    assert trial.queue.depth().visible == 200


async def test_keeps_the_first_messages_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """In them `check` finds fields that producers name otherwise."""
    monkeypatch.setattr(queue_dry_run, "SAMPLE", 7)
    trial = Trial(30)
    await trial.run()
    assert len(trial.sample) == len({it.message_id for it in trial.sample}) == 7


async def test_messages_that_have_landed_would_only_be_deleted() -> None:
    trial = Trial(3)
    await land_without_deleting(trial.queue, trial.sink)
    before = dict(trial.sink.objects)
    for entry in trial.queue.entries.values():
        entry.visible_at = 0.0
    summary = await trial.run()
    assert (summary.messages, summary.landed, summary.objects) == (3, 3, 0)
    assert trial.sink.objects == before
    assert trial.verdicts(summary)["dry_run.landed"] is Verdict.NOTE


async def test_a_run_after_a_dry_run_lands_every_message_once() -> None:
    trial = Trial(30)
    await trial.run()
    source = MemoryQueueSource(trial.queue, wait=0.05)
    async with Flow(trial.queue, trial.sink, source=source).running():
        await until(lambda: not trial.queue.entries)
    assert len(rows(trial.sink)) == 30


async def test_a_signal_ends_it_and_the_messages_are_given_back() -> None:
    trial = Trial(5)
    running = asyncio.create_task(trial.run(replace(CONFIG, duration=Seconds(60))))
    await until(lambda: bool(trial.queue.depth().in_flight))
    signal.raise_signal(signal.SIGTERM)
    summary = await running
    assert (summary.messages, summary.problem) == (5, None)
    assert trial.queue.depth().in_flight == 0


async def test_a_sink_that_does_not_answer_ends_it_and_the_messages_are_given_back() -> None:
    trial = Trial(5)
    trial.sink.fail_when(lambda _: Fault())
    summary = await trial.run(replace(CONFIG, duration=Seconds(0.2), grace=Seconds(0.3)))
    assert summary.problem == "it did not end in time: the request was lost"
    assert trial.queue.depth().visible == 5


async def test_many_bad_messages_are_wrong() -> None:
    trial = Trial(1)
    for _ in range(2):
        trial.queue.send(b"{")
    assert trial.verdicts(await trial.run())["dry_run.rejects"] is Verdict.WRONG


@pytest.mark.parametrize("messages", [10, 100], ids=["others wait for messages", "others have some"])
async def test_a_storm_of_bad_messages_is_told_as_a_run_would_tell_it(messages: int) -> None:
    trial = Trial(0)
    for _ in range(messages):
        trial.queue.send(b"{")
    breaker = BreakerConfig(max_share=1.0, max_consecutive=5)
    summary = await trial.run(replace(CONFIG, breaker=breaker))
    assert summary.problem is not None
    assert "in a row" in summary.problem
    assert trial.queue.depth().visible == messages


async def test_an_empty_queue_is_told() -> None:
    trial = Trial(0)
    summary = await trial.run()
    assert [(it.verdict, it.seen) for it in findings(summary, 0.5, None)] == [
        (Verdict.NOTE, "there is no message to receive")
    ]


async def test_over_the_wire_deletes_nothing_and_shows_all_messages_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    receive = [Answer({"Messages": [message(0, event(0).decode()), message(1, "{")]}), Answer({})]
    changes: list[tuple[Step, int]] = [(all_done, 0), (fault("InternalError", status=500), 2)]
    for change, hidden in changes:
        async with ScriptedSqs(ReceiveMessage=receive[:], ChangeMessageVisibilityBatch=[change]) as server:
            config = queue_dry_run.settings(replace(CONFIG, sqs=server.config(receivers=1)))
            source = BorrowedQueue(wiring.make_queue_source(config), None)
            summary = await QueueDryRun(config, source, MemorySink(), VALIDATOR, lambda _: None).run()
            shown = server.requests["ChangeMessageVisibilityBatch"][-1]["Entries"]
            assert {it["ReceiptHandle"]: it["VisibilityTimeout"] for it in shown} == {"handle-0": 0, "handle-1": 0}
            assert server.requests["ReceiveMessage"][0]["VisibilityTimeout"] == 60 + 20 + 30
            assert "DeleteMessageBatch" not in server.requests
        assert (summary.messages, summary.rejected_by_reason, summary.hidden) == (2, {"truncated": 1}, hidden)
        told = {it.check: it.seen for it in findings(summary, 0.5, None)}
        assert ("hidden from others for up to 110s" in told.get("dry_run.hidden", "")) == bool(hidden)

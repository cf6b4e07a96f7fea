"""The flow from a queue in virtual time; and its rules, taken out one at a time, that this must notice."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from ingestd.core import visibility
from ingestd.core.queue_objects import Fate
from ingestd.core.visibility import HeldMessage
from ingestd.pipeline.queue import holding, manifests
from ingestd.pipeline.queue.flow import QueuePipeline
from ingestd.pipeline.queue.manifests import Manifests
from ingestd.pipeline.queue.writer import Outcome, QueueWriter
from ingestd.sinks.create_only import create_or_find
from ingestd.sources.sqs.port import Message
from tests.fakes.memory_queue import MemoryQueueSource
from tests.simulation import virtual_time
from tests.simulation.queue_world import VISIBILITY_S, QueueWorld
from tests.simulation.worker import Violation

COST = 4
MUTATION_SEEDS = 40  # each shows within the first dozen


def test_nothing_is_lost_or_doubled_on_a_queue(seeds: range) -> None:
    for seed in seeds:
        try:
            virtual_time.run(_run(seed, fifo=seed % 3 == 0))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_nothing_is_lost_where_a_queue_hands_out_messages_twice(seeds: range) -> None:
    """It may land twice then: both receivers had it before either could write a manifest."""
    for seed in seeds[: len(seeds) // 3 + 1]:
        try:
            virtual_time.run(_run(seed, twice=0.2))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


async def _run(seed: int, *, fifo: bool = False, twice: float = 0.0) -> None:
    await QueueWorld(seed, fifo=fifo, twice=twice).run()


def manifest_not_written(patch: pytest.MonkeyPatch) -> None:
    async def write(self: QueueWriter, batch: Any, encoded: Any) -> bool:
        return bool(batch.hidden_until > self._dependencies.clock())

    patch.setattr(QueueWriter, "_write_manifest", write)


def deadline_not_checked(patch: pytest.MonkeyPatch) -> None:
    async def write(self: QueueWriter, batch: Any, encoded: Any) -> bool:
        await create_or_find(self._sink, self._retrier, encoded.manifest_key, encoded.manifest, {})
        return True

    patch.setattr(QueueWriter, "_write_manifest", write)


def deadline_from_the_answer_on(patch: pytest.MonkeyPatch) -> None:
    """The time at which a message was received is taken once its answer is there."""
    original = MemoryQueueSource.receive

    async def receive(self: MemoryQueueSource) -> Sequence[Message] | None:
        messages = await original(self)
        now = asyncio.get_running_loop().time()
        return messages and [msgspec.structs.replace(message, requested_at=now) for message in messages]

    patch.setattr(MemoryQueueSource, "receive", receive)


def fence_left_out(patch: pytest.MonkeyPatch) -> None:
    async def settle(self: Manifests, data_key: str) -> Fate:
        found = await self._retrier.call(self._sink.head, data_key)
        return Fate.FENCED if found is None else Fate.LANDED

    patch.setattr(Manifests, "_settle", settle)


def fence_taken_for_data(patch: pytest.MonkeyPatch) -> None:
    """Two receivers of a message, one after the other, fence the same batch: for the second the name is taken."""
    patch.setattr(manifests, "is_fence", lambda metadata: False)


def fence_taken_for_the_own_object(patch: pytest.MonkeyPatch) -> None:
    """Shows where daemons stand still between the manifest and the data: here they often do."""
    original, manifest = QueueWriter.write, QueueWriter._write_manifest

    async def write(self: QueueWriter, batch: Any, encoded: Any) -> Outcome:
        outcome = await original(self, batch, encoded)
        return Outcome.LANDED if outcome is Outcome.FENCED else outcome

    async def write_manifest(self: QueueWriter, batch: Any, encoded: Any) -> bool:
        written = await manifest(self, batch, encoded)
        await asyncio.sleep(self._dependencies.random.choice([0.0, 2 * VISIBILITY_S]))
        return written

    async def extend_nothing(self: holding.Holding) -> None: ...

    patch.setattr(QueueWriter, "write", write)
    patch.setattr(QueueWriter, "_write_manifest", write_manifest)
    patch.setattr(holding.Holding, "extend_due", extend_nothing)


def verdict_remembered(patch: pytest.MonkeyPatch) -> None:
    """A message that had not landed when it was looked up is taken without a second look."""
    original = Manifests.landed
    known: dict[str, bool] = {}

    async def landed(self: Manifests, messages: Sequence[Message], group: Any) -> set[str]:
        new = [message for message in messages if message.message_id not in known]
        found = await original(self, new, group) if new else set()
        known.update({message.message_id: message.message_id in found for message in new})
        return {message.message_id for message in messages if known[message.message_id]}

    patch.setattr(Manifests, "landed", landed)


def deleted_before_the_put(patch: pytest.MonkeyPatch) -> None:
    original = QueueWriter.write

    async def write(self: QueueWriter, batch: Any, encoded: Any) -> Outcome:
        await self._dependencies.source.delete([message.receipt for message in batch.messages])
        return await original(self, batch, encoded)

    patch.setattr(QueueWriter, "write", write)


def receive_counts_not_read(patch: pytest.MonkeyPatch) -> None:
    async def all_of_them(self: QueuePipeline, taken: Any) -> Any:
        return taken

    patch.setattr(QueuePipeline, "_without_landed", all_of_them)


def extension_counts_after_a_gap(patch: pytest.MonkeyPatch) -> None:
    """An extension that was answered after the message had been visible for a while."""

    def note(message: HeldMessage, requested_at: float, answered_at: float, seconds: float) -> None:
        message.hidden_until = max(message.hidden_until, visibility.hidden_until(requested_at, seconds))

    patch.setattr(holding, "note_extension", note)
    patch.setattr(HeldMessage, "is_hidden", lambda self, now: True)


MUTATIONS = [
    manifest_not_written,
    deadline_not_checked,
    deadline_from_the_answer_on,
    fence_left_out,
    fence_taken_for_data,
    fence_taken_for_the_own_object,
    verdict_remembered,
    deleted_before_the_put,
    receive_counts_not_read,
    extension_counts_after_a_gap,
]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_rule_taken_out_shows(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    for seed in range(MUTATION_SEEDS):
        try:
            virtual_time.run(_run(seed))
        except (Violation, TimeoutError):
            return
    pytest.fail(f"{MUTATION_SEEDS} seeds do not show that {mutation.__name__}")

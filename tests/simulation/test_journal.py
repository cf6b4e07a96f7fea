"""The pipeline on a journal, in virtual time; and rules of the journal, taken out, that this must notice."""

from collections.abc import Callable

import pytest

from ingestd.core.records import TopicPartition
from ingestd.sources.base import Fetched
from tests.simulation import virtual_time
from tests.simulation.journal_world import JournalMember, JournalWorld
from tests.simulation.worker import PARTITIONS, Violation

COST = 4
MUTATION_SEEDS = 20


def test_nothing_is_lost_or_doubled_on_a_journal(seeds: range) -> None:
    for seed in seeds:
        try:
            virtual_time.run(JournalWorld(seed).run())
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def discard_what_was_handed_out(patch: pytest.MonkeyPatch) -> None:
    original = JournalMember.fetch

    async def fetch(self: JournalMember) -> Fetched | None:
        fetched = await original(self)
        for partition, (records, *_) in (fetched or {}).items():
            self.discard(partition, records[-1].offset + 1)
        return fetched

    patch.setattr(JournalMember, "fetch", fetch)


def offsets_begin_again_where_all_is_discarded(patch: pytest.MonkeyPatch) -> None:
    original = JournalMember.assign

    def assign(self: JournalMember, partitions: list[TopicPartition]) -> None:
        for partition in PARTITIONS:
            log = self._broker.logs[partition]
            self._broker.ends[partition] = log[-1].offset + 1 if log else 0
            self._broker.starts[partition] = min(self._broker.starts[partition], self._broker.ends[partition])
        original(self, partitions)

    patch.setattr(JournalMember, "assign", assign)


@pytest.mark.parametrize("mutation", [discard_what_was_handed_out, offsets_begin_again_where_all_is_discarded])
def test_a_rule_taken_out_shows(
    mutation: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutation(monkeypatch)
    for seed in range(MUTATION_SEEDS):
        try:
            virtual_time.run(JournalWorld(seed).run())
        except Violation:
            return
    pytest.fail(f"{MUTATION_SEEDS} seeds do not show that {mutation.__name__}")

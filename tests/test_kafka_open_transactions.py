"""How the answers to fetches tell of open transactions."""

from types import SimpleNamespace

from ingestd.core.records import TopicPartition
from ingestd.sources.base import OpenTransaction
from ingestd.sources.kafka._aiokafka.fetcher import Fetcher
from ingestd.sources.kafka._aiokafka.open_transactions import OpenTransactions

P0 = TopicPartition("t", 0)


def test_its_age_counts_from_the_first_to_the_last_answer_that_shows_it() -> None:
    it = OpenTransactions()
    it.note(P0, 3, 9, 100.0)
    assert it.get(P0) == OpenTransaction(3, 6, 0.0)
    it.note(P0, 3, 12, 160.0)
    assert it.get(P0) == OpenTransaction(3, 9, 60.0)


def test_the_next_transaction_begins_anew() -> None:
    it = OpenTransactions()
    it.note(P0, 3, 9, 100.0)
    it.note(P0, 7, 9, 160.0)
    assert it.get(P0) == OpenTransaction(7, 2, 0.0)


def test_none_is_open_where_all_is_stable_or_nothing_is_known() -> None:
    for stable, end in ((9, 9), (-1, 9), (None, 9), (3, None)):
        it = OpenTransactions()
        it.note(P0, 3, 9, 100.0)
        it.note(P0, stable, end, 101.0)
        assert it.get(P0) is None


async def test_an_answer_is_noted_where_a_transaction_is_open_or_was() -> None:
    fetcher = Fetcher.__new__(Fetcher)
    noted = fetcher.open_transactions = OpenTransactions()
    states = {TopicPartition("t", number): SimpleNamespace(lso=9, highwater=9) for number in range(3)}
    assignment = SimpleNamespace(state_value=states.get)
    request = SimpleNamespace(topics=[("t", [(number, 0, 1) for number in range(3)])])
    states[P0].lso = 4
    fetcher._note_transactions(assignment, request)
    assert [each for each in states if noted.get(each) is not None] == [P0]
    states[P0].lso, states[TopicPartition("t", 2)].lso = 9, 5
    fetcher._note_transactions(assignment, request)
    assert [each for each in states if noted.get(each) is not None] == [TopicPartition("t", 2)]

"""Fetches by topic id and leader epoch, within a bound of bytes, and makes fast records of the answers."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka.consumer.fetcher import Fetcher as AIOKafkaFetcher

from ingestd.core.records import TopicPartition
from ingestd.sources.kafka._aiokafka.check import with_globals
from ingestd.sources.kafka._aiokafka.fast_records import FastPartitionRecords, FetchedRecords, TolerantRecords
from ingestd.sources.kafka._aiokafka.fetch_request import FetchRequest
from ingestd.sources.kafka._aiokafka.leader_epochs import FetchPositions
from ingestd.sources.kafka._aiokafka.open_transactions import OpenTransactions
from ingestd.sources.kafka._aiokafka.prefetch_limit import Allowance, BoundedFetchResult, buffered_bytes


class Fetcher(AIOKafkaFetcher):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's fetcher. `topic_ids` may change at any time; "" stands for whatever topic has the name."""

    next_record = with_globals(AIOKafkaFetcher.next_record, FetchResult=BoundedFetchResult)
    fetched_records = with_globals(AIOKafkaFetcher.fetched_records, FetchResult=BoundedFetchResult)

    def __init__(
        self, *arguments: Any, topic_ids: Mapping[TopicPartition, str], positions: FetchPositions, **options: Any
    ) -> None:
        self.allowance = Allowance()
        self.open_transactions = OpenTransactions()
        self.tolerant: set[TopicPartition] = set()  # partitions whose next fetch may have bad header names
        self._topic_ids = topic_ids
        self._positions = positions
        self._fetch_and_parse = with_globals(
            AIOKafkaFetcher._proc_fetch_request,
            MemoryRecords=FetchedRecords,
            PartitionRecords=self._fast_records,
            FetchResult=BoundedFetchResult,
        )
        super().__init__(*arguments, **options)

    async def _proc_fetch_request(self, assignment: Any, node_id: int, request: Any) -> Any:
        needs_wakeup = await self._fetch_and_parse(self, assignment, node_id, request)
        if assignment.active:
            self._note_transactions(assignment, request)
        return needs_wakeup

    def _note_transactions(self, assignment: Any, request: Any) -> None:
        now = asyncio.get_running_loop().time()
        for topic, partitions in request.topics:
            for number, *_ in partitions:
                partition = TopicPartition(topic, number)
                state = assignment.state_value(partition)
                if state.lso != state.highwater or partition in self.open_transactions:
                    self.open_transactions.note(partition, state.lso, state.highwater, now)

    def _fast_records(self, partition: Any, records: FetchedRecords, *rest: Any) -> FastPartitionRecords:
        found: Any = records
        if partition in self.tolerant:
            self.tolerant.discard(partition)
            found = TolerantRecords(records.data)
        return FastPartitionRecords(self.allowance, self._positions, partition, found, *rest)

    def _get_actions_per_node(self, assignment: Any) -> tuple[Any, ...]:
        """Asks no broker for more while enough is buffered. An answer of each may be on its way at that moment."""
        requests, *others = super()._get_actions_per_node(assignment)
        if buffered_bytes(self._records.values()) >= self._fetch_max_bytes:
            requests = []
        checked = [(node, FetchRequest(request, self._topic_ids, self._positions)) for node, request in requests]
        return checked, *others

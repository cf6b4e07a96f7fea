"""The status of one partition, from its writer and the source."""

from ingestd.ops.readiness import PartitionStatus
from ingestd.pipeline.partition_writer import PartitionWriter
from ingestd.sources.base import Source


def partition_status(writer: PartitionWriter, source: Source, now: float) -> PartitionStatus:
    """`now` is on the event loop's clock."""
    buffer = writer.buffer
    held = [batch for batch in buffer.batches if batch.first is not None]
    log_end = source.end_offset(writer.partition)
    done = writer.landed if writer.landed is not None else writer.committed
    behind = buffer.position is not None and log_end is not None and log_end > buffer.position
    transaction = source.open_transaction(writer.partition)
    waits = transaction is not None and buffer.position is not None and not behind
    return PartitionStatus(
        topic=writer.partition.topic,
        partition=writer.partition.partition,
        state=writer.state,
        reached=writer.last_timestamp,
        position=buffer.position,
        committed=writer.committed,
        landed=writer.landed,
        log_end=log_end,
        lag=max(0, log_end - done) if log_end is not None and done is not None else None,
        behind=source.behind_s(writer.partition),
        batch_records=buffer.open.records if buffer.open else 0,
        batch_bytes=buffer.open.size if buffer.open else 0,
        batch_age=now - buffer.open.opened_at if buffer.open and buffer.open.first else None,
        sealed_batches=len(buffer.flushed),
        oldest_unlanded=now - held[0].opened_at if held else None,
        starved=now - writer.last_progress_at if behind else None,
        waiting_offsets=transaction.waiting if transaction is not None else 0,
        waiting=transaction.age if transaction is not None and waits else None,
        halted=writer.halt.message if writer.halt else None,
    )

"""Makes the report of a queue's objects. Pure."""

from ingestd import __version__
from ingestd.core.records import TopicPartition
from ingestd.verify.findings import ChainCounts, PartitionReport, VerifyReport
from ingestd.verify.queue_verifier import QueueVerifier
from ingestd.verify.report import ReportHeader


def make_queue_report(verifier: QueueVerifier, header: ReportHeader) -> VerifyReport:
    """The report, once all objects were looked at: a queue is one partition without offsets."""
    totals = ChainCounts()
    partitions = []
    for queue, counts in sorted(verifier.counts.items()):
        totals.add(counts)
        problems = verifier.problems.count(TopicPartition(queue, 0))
        partitions.append(PartitionReport(topic=queue, partition=0, problems=problems, counts=counts))
    return VerifyReport(
        version=__version__,
        sink=header.sink,
        lineage=header.lineage,
        delivery=header.delivery,
        since=verifier.scope.since,
        until=verifier.scope.until,
        read=header.read,
        source=header.source,
        cluster=None,
        group=None,
        days=header.days,
        ok=not verifier.problems.counts,
        totals=totals,
        problem_counts=dict(verifier.problems.counts),
        problems=verifier.problems.kept,
        note_counts=dict(verifier.notes.counts),
        notes=verifier.notes.kept,
        partitions=partitions,
    )

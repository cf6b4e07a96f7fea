"""Makes the report of a queue's objects. Pure."""

from ingestd.core.records import TopicPartition
from ingestd.verify.findings import ChainCounts, PartitionReport, VerifyReport
from ingestd.verify.queue_verifier import QueueVerifier
from ingestd.verify.report import ReportHeader, assemble


def make_queue_report(verifier: QueueVerifier, header: ReportHeader) -> VerifyReport:
    """The report, once all objects were looked at: a queue is one partition without offsets."""
    totals = ChainCounts()
    partitions = []
    for queue, counts in sorted(verifier.counts.items()):
        totals.add(counts)
        problems = verifier.problems.count(TopicPartition(queue, 0))
        partitions.append(PartitionReport(topic=queue, partition=0, problems=problems, counts=counts))
    return assemble(header, verifier.problems, verifier.notes, totals, partitions)

"""Makes the report of `ingestd verify`, and formats it as text. Pure."""

import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from ingestd import __version__
from ingestd.core.formatting import clean, number, size, table
from ingestd.verify.branches import UNKNOWN
from ingestd.verify.chains import ChainVerifier, PartitionChain
from ingestd.verify.findings import (
    MEANINGS,
    NOTES,
    PROBLEMS,
    ChainCounts,
    Findings,
    ForkReport,
    PartitionReport,
    VerifyFinding,
    VerifyReport,
)
from ingestd.verify.kafka_comparison import LogState

WIDTH = 118  # characters
MAX_PARTITION_LINES = 40  # the other partitions are counted
MAX_EXAMPLES = 5  # problems of one code
MAX_NOTES = 3  # notes of one code

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ReportHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What was verified, and where."""

    sink: str
    lineage: str | None
    delivery: str
    group: str | None
    read: bool
    days: int
    source: str
    cluster: str | None  # Kafka's, where Kafka was asked
    since: int | None
    until: int | None


def assemble(
    header: ReportHeader,
    problems: Findings,
    notes: Findings,
    totals: ChainCounts,
    partitions: list[PartitionReport],
) -> VerifyReport:
    """The report of what was found."""
    return VerifyReport(
        version=__version__,
        ok=not problems.counts,
        totals=totals,
        problem_counts=dict(problems.counts),
        problems=problems.kept,
        note_counts=dict(notes.counts),
        notes=notes.kept,
        partitions=partitions,
        **msgspec.structs.asdict(header),
    )


def make_report(chains: ChainVerifier, state: LogState | None, header: ReportHeader) -> VerifyReport:
    """The report, once all objects were scanned."""
    chains.note_lost()
    _check_clusters(chains, state.cluster if state is not None else None)
    totals = ChainCounts()
    wide = chains.layout.wide  # such positions count nothing, and the log does not tell where it ends
    partitions = []
    for partition, chain in sorted(chains.partitions.items()):
        totals.add(chain.counts)
        scanned, extent, commit = chain.branches.extent, chain.extent, chain.commit
        log = state.logs.get(partition) if state is not None else None
        partitions.append(
            PartitionReport(
                topic=partition.topic,
                partition=partition.partition,
                start=scanned.start if scanned else None,
                end=scanned.end if scanned else None,
                leader_epoch=chain.branches.newest if chain.branches.newest != UNKNOWN else None,
                forks=_forks(chain),
                committed=commit.offset if commit else None,
                committed_epoch=commit.leader_epoch if commit else None,
                log_start=log.start if log else None,
                log_end=log.end if log and not wide else None,
                lag=max(0, log.end - extent.end) if log and extent and not wide else None,
                problems=chains.problems.count(partition),
                counts=chain.counts,
            )
        )
    _note_totals(chains, totals)
    return assemble(header, chains.problems, chains.notes, totals, partitions)


def _forks(chain: PartitionChain) -> list[ForkReport]:
    return [
        ForkReport(leader_epoch=lost.epoch, start=lost.offsets.start, end=lost.offsets.end, later_epoch=lost.later)
        for lost in chain.branches.lost()
    ]


def _check_clusters(chains: ChainVerifier, expected: str | None) -> None:
    """Add a problem for objects of another cluster: not Kafka's, or, without Kafka, not that of most objects."""
    counts: dict[str, int] = {}
    for chain in chains.partitions.values():
        for cluster, (count, _) in chain.clusters.items():
            counts[cluster] = counts.get(cluster, 0) + count
    if not counts:
        return
    no_id = "without an id"
    right = expected if expected is not None else max(sorted(counts), key=lambda cluster: counts[cluster])
    for partition, chain in sorted(chains.partitions.items()):
        for cluster, (count, key) in chain.clusters.items():
            if cluster != right:
                text = f"{partition}: {number(count, 'object')} of cluster {cluster or no_id}, not {right or no_id}, "
                text += f"the first is {key}"
                chains.problems.add("cluster", text, partition, key=key)


def _note_totals(chains: ChainVerifier, totals: ChainCounts) -> None:
    holes, count = number(totals.holes, "object"), totals.hole_offsets
    notes = [
        (
            "holes",
            totals.holes,
            f"{holes} for {number(count, 'offset')}" if count else holes,
        ),
        ("superseded", totals.superseded, number(totals.superseded, "object")),
        ("repeated", totals.repeated_offsets, number(totals.repeated_offsets, "offset")),
        ("other_topics", chains.other_topics, number(chains.other_topics, "object")),
        ("strange_quarantine", chains.strange_quarantine, number(chains.strange_quarantine, "object")),
    ]
    for code, count, text in notes:
        if count:
            chains.notes.add(code, text)


# -- as text


def text(report: VerifyReport) -> str:
    """The report as text: totals, partitions, notes, problems, and the result in the last line."""
    here = MEANINGS.get(report.source, {})
    notes = _grouped("notes", report.notes, report.note_counts, _with(NOTES, here), MAX_NOTES)
    problems = _grouped("problems", report.problems, report.problem_counts, _with(PROBLEMS, here), MAX_EXAMPLES)
    blocks = [_head(report), _totals(report), _partitions(report), notes, problems, [summary(report)]]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def summary(report: VerifyReport) -> str:
    """The result in one line."""
    count = sum(report.problem_counts.values())
    if count:
        codes = ", ".join(f"{code} {times:,}" for code, times in sorted(report.problem_counts.items()))
        return f"{number(count, 'problem')}: {codes}"
    if not report.totals.objects:
        return "Nothing wrong, but there are no objects: check the sink, the lineage, the topics and the time range."
    if report.source == "sqs":
        read = "; every row was read" if report.read else ""
        return f"Nothing wrong: {number(report.totals.objects, 'object')}, and no message in two of them{read}."
    chains = sum(partition.start is not None for partition in report.partitions)
    what = "an unbroken chain" if chains == 1 else f"{chains:,} unbroken chains"
    read = "; every row was read" if report.read else ""
    forked = sum(bool(partition.forks) for partition in report.partitions)
    forks = f", {'forked' if chains == 1 else f'{forked:,} of them forked'}" if forked else ""
    return f"Nothing wrong: {number(report.totals.objects, 'object')} in {what}{forks}{read}."


def _with(meanings: dict[str, str], others: dict[str, str]) -> dict[str, str]:
    return {code: others.get(code, meaning) for code, meaning in meanings.items()}


def _head(report: VerifyReport) -> list[str]:
    place = clean(report.sink) + (f", lineage {report.lineage}" if report.lineage else "")
    cluster = clean(report.cluster or "")
    log = {None: "the log was not asked", "": f"compared with {cluster}"}
    group = log[report.group] if not report.group else f"group {clean(report.group)} in cluster {cluster}"
    lines = [f"{place}, {report.delivery}; {group}"]
    if report.since is not None or report.until is not None:
        since = f" from {_time(report.since)}" if report.since is not None else ""
        until = f" until {_time(report.until)}" if report.until is not None else ""
        lines.append(f"only objects with records{since}{until}, by the source's timestamps")
    return lines


def _totals(report: VerifyReport) -> list[str]:
    totals = report.totals
    quarantined = f" in {number(totals.quarantine_objects, 'quarantine object')}" if totals.rejected else ""
    lags = [partition.lag for partition in report.partitions if partition.lag is not None]
    facts = [
        ("objects", f"{totals.objects:,}, {size(totals.bytes)} compressed, in {number(report.days, 'day')}"),
        ("rows", f"{totals.rows:,}" + (", all read" if report.read else "")),
        ("rejected", f"{totals.rejected:,}{quarantined}"),
    ]
    if totals.skipped:
        records = totals.rows + totals.rejected + totals.skipped
        equation = f"{number(records, 'record')} = {totals.rows:,} landed + {totals.rejected:,} quarantined"
        facts.append(("skipped", f"{number(totals.skipped, 'tombstone')}: {equation} + {totals.skipped:,} skipped"))
    if totals.first_timestamp is not None and totals.last_timestamp is not None:
        facts.append(("records", f"from {_time(totals.first_timestamp)} to {_time(totals.last_timestamp)}"))
    if totals.lost_offsets:
        facts.append(("lost", f"{number(totals.lost_offsets, 'offset')} by Kafka, before a fork; their rows are kept"))
    if lags:
        facts.append(("lag", f"{number(sum(lags), 'offset')} in the log, not landed yet"))
    return [f"  {label:9} {fact}" for label, fact in facts]


def _partitions(report: VerifyReport) -> list[str]:
    """A line for each partition; where there are too many, partitions with problems take precedence."""
    partitions = [each for each in report.partitions if each.counts.objects or each.problems or each.log_end]
    shown = sorted(partitions, key=lambda each: not each.problems)[:MAX_PARTITION_LINES]
    if not shown:
        return []
    compared = report.group is not None
    forked = any(each.forks for each in partitions)
    skipped = ["skipped"] if report.totals.skipped else []
    rows = [["partition", "objects", "rows", "rejected", *skipped, *(["epoch"] if forked else []), "from", "to"]]
    rows[0] += [*(["committed", "lag"] if compared else []), "problems"]
    for each in sorted(shown, key=lambda each: (each.topic, each.partition)):
        counts = each.counts
        offsets = [each.start, each.end, *([each.committed, each.lag] if compared else [])]
        if forked:
            offsets.insert(0, each.leader_epoch)
        name = each.topic if report.source == "sqs" else f"{each.topic}[{each.partition}]"
        row = [name, f"{counts.objects:,}", f"{counts.rows:,}", f"{counts.rejected:,}"]
        row += [f"{counts.skipped:,}"] if skipped else []
        rows.append([*row, *("-" if it is None else str(it) for it in offsets), f"{each.problems or '-'}"])
    rest = len(partitions) - len(shown)
    more = [f"and {number(rest, 'more partition')}, without problems"] if rest else []
    return [f"  {line}" for line in [*table(rows), *more]]


def _grouped(
    title: str, findings: Sequence[VerifyFinding], counts: dict[str, int], meanings: dict[str, str], most: int
) -> list[str]:
    """For each code its meaning and remedy, once, and some of the findings."""
    lines = [title] if counts else []
    for code, meaning in meanings.items():
        if code not in counts:
            continue
        lines += textwrap.wrap(
            f"{code} ({counts[code]:,}): {meaning}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
        shown = [finding for finding in findings if finding.code == code][:most]
        # Not wrapped, so that a key can be copied whole.
        lines += [f"      {clean(finding.message)}" for finding in shown]
        if rest := counts[code] - len(shown):
            lines.append(f"      and {rest:,} more" + (" (see --json)" if rest and title == "problems" else ""))
    return lines


def _time(milliseconds: int | None) -> str:
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds or 0)
    except OverflowError:
        return f"{milliseconds} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%S")

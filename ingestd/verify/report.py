"""The report of `ingestd verify`: made out of an audit, and put in words. Pure."""

import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from ingestd import __version__
from ingestd.core.formatting import clean, number, size
from ingestd.verify.chains import Audit
from ingestd.verify.findings import NOTES, PROBLEMS, PartitionReport, Tally, VerifyFinding, VerifyReport
from ingestd.verify.reconcile import View

WIDTH = 118
MAX_PARTITIONS = 40  # lines; the rest is counted
MAX_EXAMPLES = 5  # of one code
MAX_NOTES = 3

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, and where."""

    sink: str
    lineage: str | None
    delivery: str
    group: str | None
    read: bool
    days: int


def conclude(audit: Audit, view: View | None, asked: Asked) -> VerifyReport:
    """The report, when everything was looked at."""
    _judge_clusters(audit, view.cluster if view is not None else None)
    totals = Tally()
    partitions = []
    for partition, links in sorted(audit.links.items()):
        totals.add(links.tally)
        whole, extent = links.ranges.whole, links.extent
        log = view.logs.get(partition) if view is not None else None
        partitions.append(
            PartitionReport(
                topic=partition.topic,
                partition=partition.partition,
                start=whole.start if whole else None,
                end=whole.end if whole else None,
                committed=links.commit.offset if links.commit else None,
                log_start=log.start if log else None,
                log_end=log.end if log else None,
                lag=max(0, log.end - extent.end) if log and extent else None,
                problems=audit.problems.of(partition),
                counts=links.tally,
            )
        )
    _note_totals(audit, totals)
    return VerifyReport(
        version=__version__,
        sink=asked.sink,
        lineage=asked.lineage,
        delivery=asked.delivery,
        since=audit.scope.since,
        until=audit.scope.until,
        read=asked.read,
        cluster=view.cluster if view is not None else None,
        group=asked.group,
        days=asked.days,
        ok=not audit.problems.counts,
        totals=totals,
        problem_counts=dict(audit.problems.counts),
        problems=audit.problems.kept,
        note_counts=dict(audit.notes.counts),
        notes=audit.notes.kept,
        partitions=partitions,
    )


def _judge_clusters(audit: Audit, expected: str | None) -> None:
    """All objects are of one cluster: Kafka's, or where it was not asked, that of most of them."""
    counts: dict[str, int] = {}
    for links in audit.links.values():
        for cluster, (count, _) in links.clusters.items():
            counts[cluster] = counts.get(cluster, 0) + count
    if not counts:
        return
    no_id = "without an id"
    right = expected if expected is not None else max(sorted(counts), key=lambda cluster: counts[cluster])
    for (topic, partition), links in sorted(audit.links.items()):
        for cluster, (count, key) in links.clusters.items():
            if cluster != right:
                text = f"{topic}[{partition}]: {number(count, 'object')} of cluster {cluster or no_id}, "
                text += f"not {right or no_id}, first {key}"
                audit.problems.add(
                    VerifyFinding(code="cluster", message=text, topic=topic, partition=partition, key=key)
                )


def _note_totals(audit: Audit, totals: Tally) -> None:
    notes = [
        ("holes", totals.holes, f"{number(totals.holes, 'object')} for {number(totals.hole_offsets, 'offset')}"),
        ("superseded", totals.superseded, number(totals.superseded, "object")),
        ("repeated", totals.repeated_offsets, number(totals.repeated_offsets, "offset")),
        ("other_topics", audit.other_topics, number(audit.other_topics, "object")),
        ("strange_quarantine", audit.strange_quarantine, number(audit.strange_quarantine, "object")),
    ]
    for code, there, text in notes:
        if there:
            audit.notes.add(VerifyFinding(code=code, message=text))


# -- in words


def text(report: VerifyReport) -> str:
    """For people: totals, partitions, what is worth knowing, what is wrong, and a verdict in the last line."""
    blocks = [_head(report), _totals(report), _table(report), _notes(report), _problems(report), [verdict(report)]]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def verdict(report: VerifyReport) -> str:
    """One line."""
    count = sum(report.problem_counts.values())
    if count:
        codes = ", ".join(f"{code} {times:,}" for code, times in sorted(report.problem_counts.items()))
        return f"{number(count, 'problem')}: {codes}"
    if not report.totals.objects:
        return "Nothing wrong, but there is no object: check the place, the lineage, the topics and the time."
    chains = sum(partition.start is not None for partition in report.partitions)
    what = "an unbroken chain" if chains == 1 else f"{chains:,} unbroken chains"
    read = ", every row was read" if report.read else ""
    return f"Nothing wrong: {number(report.totals.objects, 'object')} in {what}{read}."


def _head(report: VerifyReport) -> list[str]:
    place = clean(report.sink) + (f", lineage {report.lineage}" if report.lineage else "")
    group = f"group {clean(report.group)} in cluster {clean(report.cluster or '')}" if report.group else ""
    lines = [f"{place}, {report.delivery}; {group or 'Kafka was not asked'}"]
    if report.since is not None or report.until is not None:
        since = f" from {_time(report.since)}" if report.since is not None else ""
        until = f" until {_time(report.until)}" if report.until is not None else ""
        lines.append(f"only objects with records{since}{until}, by Kafka's timestamps")
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
    if totals.first_timestamp is not None and totals.last_timestamp is not None:
        facts.append(("records", f"from {_time(totals.first_timestamp)} to {_time(totals.last_timestamp)}"))
    if lags:
        facts.append(("lag", f"{number(sum(lags), 'offset')} in the log and not landed yet"))
    return [f"  {label:9} {fact}" for label, fact in facts]


def _table(report: VerifyReport) -> list[str]:
    """A line for each partition; where there are too many, those with problems first."""
    partitions = [each for each in report.partitions if each.counts.objects or each.problems or each.log_end]
    shown = sorted(partitions, key=lambda each: not each.problems)[:MAX_PARTITIONS]
    shown.sort(key=lambda each: (each.topic, each.partition))
    if not shown:
        return []
    compared = report.group is not None
    rows = [["partition", "objects", "rows", "rejected", "from", "to"]]
    rows[0] += [*(["committed", "lag"] if compared else []), "problems"]
    for each in shown:
        counts = each.counts
        row = [f"{clean(each.topic)}[{each.partition}]", f"{counts.objects:,}", f"{counts.rows:,}"]
        row += [f"{counts.rejected:,}", _offset(each.start), _offset(each.end)]
        rows.append(
            [*row, *([_offset(each.committed), _offset(each.lag)] if compared else []), f"{each.problems or '-'}"]
        )
    rest = len(partitions) - len(shown)
    return [*_aligned(rows), *([f"  and {number(rest, 'more partition')}, without problems"] if rest else [])]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(rest, widths[1:], strict=True)]
        yield f"  {first:{widths[0]}}  {'  '.join(cells)}"


def _notes(report: VerifyReport) -> list[str]:
    return _grouped("worth knowing", report.notes, report.note_counts, NOTES, MAX_NOTES)


def _problems(report: VerifyReport) -> list[str]:
    return _grouped("problems", report.problems, report.problem_counts, PROBLEMS, MAX_EXAMPLES)


def _grouped(
    title: str, findings: Sequence[VerifyFinding], counts: dict[str, int], meanings: dict[str, str], most: int
) -> list[str]:
    """By code: what it means and what to do, once, and some of the cases."""
    lines = [title] if counts else []
    for code, meaning in meanings.items():
        if code not in counts:
            continue
        lines += textwrap.wrap(
            f"{code} ({counts[code]:,}): {meaning}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
        shown = [finding for finding in findings if finding.code == code][:most]
        # Not wrapped: a key must be copied whole.
        lines += [f"      {clean(finding.message)}" for finding in shown]
        if rest := counts[code] - len(shown):
            lines.append(
                f"      and {rest:,} more" + (" (--json has more of them)" if rest and title == "problems" else "")
            )
    return lines


def _offset(offset: int | None) -> str:
    return "-" if offset is None else str(offset)


def _time(milliseconds: int | None) -> str:
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds or 0)
    except OverflowError:
        return f"{milliseconds} ms"
    return moment.strftime("%Y-%m-%d %H:%M:%S")

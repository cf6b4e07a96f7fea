"""The report of `ingestd requeue`. Pure."""

from collections.abc import Iterator, Sequence

import msgspec

from ingestd.core.formatting import number
from ingestd.requeue.requeuer import RequeueCounts


class RequeueReport:
    """What one run did, as JSON or as text."""

    def __init__(self, counts: RequeueCounts, targets: Sequence[str], *, dry_run: bool) -> None:
        self._counts = counts
        self._targets = list(targets)
        self._dry_run = dry_run

    def as_json(self) -> str:
        """The report as JSON."""
        document = {"dry_run": self._dry_run, "to": self._targets, **msgspec.structs.asdict(self._counts)}
        return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"

    def as_text(self) -> str:
        """The report as text."""
        counts, dry = self._counts, self._dry_run
        failing = ", ".join(f"{reason} {count:,}" for reason, count in counts.failing.most_common())
        facts = [
            ("read", f"{number(counts.read, 'record')} in {number(counts.objects, 'quarantine object')}"),
            ("matched", number(counts.matched, "record")),
            ("before", f"{number(counts.already_requeued, 'record')} already requeued"),
            ("valid now", number(counts.good, "record")),
            ("produced", "nothing (dry run)" if dry else number(counts.produced, "record")),
            ("rejected", f"{counts.failing.total():,}: {failing}" if failing else "none"),
            *self._skipped(),
            *(("would be", example) for example in counts.examples),
        ]
        lines = [f"requeue to {', '.join(self._targets)}", ""]
        lines += [f"  {label:12}{fact}" for label, fact in facts]
        return "\n".join(lines) + "\n"

    def _skipped(self) -> Iterator[tuple[str, str]]:
        counts = self._counts
        if counts.skipped:
            what = number(counts.skipped, "tombstone")
            yield "skipped", f"{what} not produced: with events.tombstones = skip they make no row"
        if counts.unclear:
            what = f"{number(counts.unclear, 'record')} not produced: another one with the offset was, and only one of"
            yield "unclear", f"{what} the two has a leader epoch; compare them by hand"
        if counts.superseded_objects:
            what = f"{number(counts.superseded_records, 'record')} in {number(counts.superseded_objects, 'object')}"
            yield "superseded", f"{what} of attempts that failed: they are in another object, or are rows"
        if counts.unlanded_objects:
            what = f"{number(counts.unlanded_records, 'record')} in {number(counts.unlanded_objects, 'object')}"
            yield "not landed", f"{what} without a data object: not landed yet, or deleted"
        if counts.unreadable_objects:
            yield "unreadable", f"{counts.unreadable_objects:,}: see the log"
        if counts.refused:
            yield "refused", f"{number(counts.refused, 'record')} by the topic, left in the quarantine for another run"
        for record in counts.refused_records:
            yield "refused", str(record)
        if (unnamed := counts.refused - len(counts.refused_records)) > 0:
            yield "refused", f"{number(unnamed, 'more record')}: see the log"

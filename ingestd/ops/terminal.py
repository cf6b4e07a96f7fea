"""Terminal output: a live table while the daemon runs, a summary at its end, and a progress bar for commands."""

import contextlib
import io
import shlex
import sys
import textwrap
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO, cast

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ingestd.config.model import Config
from ingestd.core.formatting import clean, clock, number, size
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.sink_url import parse_sink_url
from ingestd.ops.background_output import BackgroundOutput, BackgroundStream
from ingestd.ops.readiness import PartitionStatus, Status

MAX_KINDS = 6  # event types and reasons by name; the rest is one number
MAX_PARTITIONS = 6
RATE_WINDOW_S = 10.0  # the rate is averaged over this time
MAX_RATE_SAMPLES = 64  # of the window
BAR_WIDTH = 20  # characters
LINE_WIDTH = 80
NO_BREAK_SPACE = "\u00a0"  # keeps a name and its number on one line; shown as a plain space
MIN_OUTAGE_S = 1.0  # a shorter outage gets no line


class LiveView:
    """A table that is drawn in place where `console` is a terminal.

    Log lines must go to ``stream``, which prints them above the table. Drawing and printing happen in the thread of
    `output`: a terminal that is stopped holds up that thread alone, and misses the tables of that time.
    """

    def __init__(self, config: Config, console: Console, output: BackgroundOutput) -> None:
        self._config = config
        self._console = console
        self._output = output
        self._live: Live | None = None
        self._redirection = contextlib.ExitStack()
        self._samples: deque[_RateSample] = deque(maxlen=MAX_RATE_SAMPLES)
        self._records_to_drain: int | None = None
        self.stream = cast(TextIO, BackgroundStream(cast(TextIO, _LinesAbove(console)), output))

    @classmethod
    def on_stderr(cls, config: Config) -> "LiveView":
        """A view on standard error."""
        stderr = sys.stderr
        if not isinstance(stderr, BackgroundStream):
            stderr = BackgroundStream(stderr, BackgroundOutput())
        return cls(config, Console(file=stderr.target), stderr.output)

    def start(self) -> None:
        """Draw the table from now on. Call ``stop`` afterwards: the cursor stays hidden until then."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            return
        # rich's own redirection would make every print wait for the console's lock.
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        if sys.stdout.isatty():  # output into a file or a pipe stays there
            self._redirection.enter_context(contextlib.redirect_stdout(self.stream))
        self._redirection.enter_context(contextlib.redirect_stderr(self.stream))
        self._output.submit(self._live.start)

    def update(self, status: Status) -> None:
        """Show this status; four calls a second give a smooth display."""
        self._remember(status)
        if self._live is not None:
            self._output.show(partial(self._live.update, self.render(status), refresh=True))

    def stop(self) -> None:
        """Remove the table and restore the terminal. Without effect when it is not shown."""
        if self._live is not None:
            self._redirection.close()
            self._output.discard_frame()
            self._output.submit(self._live.stop)
            self._live = None

    def render(self, status: Status) -> RenderableType:
        """The table of this status."""
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True, style="dim")
        table.add_column(ratio=1, overflow="fold")
        table.add_row(Text("ingestd", style="bold"), self._headline(status))
        if problem := _problem(status):
            table.add_row("", Text(problem, style="bold red" if status.sink_forbidden else "bold yellow"))
        if progress := self._progress(status):
            table.add_row(*progress)
        totals = status.totals
        table.add_row("events", "   ".join(filter(None, (f"{totals.consumed:,}", self._rate()))))
        table.add_row("accepted", Text(_kinds(totals.accepted_by_type).replace(NO_BREAK_SPACE, " ") or "none yet"))
        table.add_row("rejected", Text(_rejected(status).replace(NO_BREAK_SPACE, " ")))
        table.add_row("landed", f"{number(totals.landed, 'record')} in {_objects(status)}")
        if totals.skipped:
            table.add_row("skipped", f"{number(totals.skipped, 'tombstone')}, without a row")
        for label, line in self._filling(status):
            table.add_row(label, Text(line, no_wrap=True, overflow="ellipsis"))
        lag = [it.lag for it in status.partitions if it.lag is not None]
        table.add_row("lag", f"{number(sum(lag), 'record')} not landed yet" if lag else "not known yet")
        return table

    def _remember(self, status: Status) -> None:
        now = _RateSample(status.uptime, status.totals.consumed)
        while len(self._samples) > 1 and self._samples[1].uptime <= now.uptime - RATE_WINDOW_S:
            self._samples.popleft()
        if not self._samples or now.uptime >= self._samples[-1].uptime + RATE_WINDOW_S / MAX_RATE_SAMPLES:
            self._samples.append(now)
        if self._records_to_drain is None and status.phase == "draining":
            self._records_to_drain = status.totals.in_flight

    def _headline(self, status: Status) -> Text:
        elapsed = clock(status.uptime)
        if (duration := self._config.duration) is not None:
            elapsed += f" of {clock(duration)}"
            if status.phase == "running":
                elapsed += f", {clock(max(0.0, duration - status.uptime))} left"
        line = f"{status.phase} {elapsed}   {status.source} -> {place(status.sink)}"
        return Text(clean(line), style="bold", no_wrap=True, overflow="ellipsis")

    def _rate(self) -> str:
        first, last = (self._samples[0], self._samples[-1]) if self._samples else (_RateSample(0, 0), _RateSample(0, 0))
        if last.uptime <= first.uptime:
            return ""
        rate = (last.consumed - first.consumed) / (last.uptime - first.uptime)
        return f"{rate:,.0f} a second" if rate >= 100 else f"{rate * 60:,.0f} a minute"

    def _progress(self, status: Status) -> tuple[str, Text] | None:
        """How much of a drain or of a simulated history is done; None where the run has no end."""
        if status.phase == "draining" and self._records_to_drain:
            left = status.totals.in_flight
            batches = sum(it.sealed_batches + (it.batch_records > 0) for it in status.partitions)
            words = f"{_bar(1 - left / self._records_to_drain)}  {number(left, 'record')} to land"
            return "draining", Text(words + (f" in {number(batches, 'batch', 'batches')}" if batches else ""))
        reached = max((it.reached for it in status.partitions if it.reached is not None), default=None)
        history = self._config.simulator.history
        if self._config.source == "simulator" and history is not None and reached is not None:
            seconds = status.started_at.timestamp() - reached / 1000
            share = min(1.0, max(0.0, 1 - seconds / history))
            return "history", Text(f"{_bar(share)}  {share:.0%} of {history}")
        return None

    def _filling(self, status: Status) -> Iterator[tuple[str, str]]:
        """A line for each of the first partitions, in a fixed order, so that the table does not jump."""
        partitions = sorted(status.partitions, key=lambda it: (it.topic, it.partition))
        if not partitions:
            yield "filling", "no partition is assigned" + (" yet" if status.phase in {"starting", "running"} else "")
            return
        shown = partitions[:MAX_PARTITIONS]
        width = max(len("partition"), *(len(it.name) for it in shown))
        age = f"age of {self._config.batch.interval}"
        yield "filling", f"{'partition':{width}} {'records':>9} {'size':>10}  {age:{BAR_WIDTH // 2 + 8}} to upload"
        for it in shown:
            yield "", f"{clean(it.name):{width}} {self._batch(it)}"
        if len(partitions) > len(shown):
            yield "", f"and {number(len(partitions) - len(shown), 'partition')} more"

    def _batch(self, it: PartitionStatus) -> str:
        """The columns after the partition's name."""
        if it.batch_records:
            age = it.batch_age or 0.0
            words = f"{_bar(age / self._config.batch.interval, BAR_WIDTH // 2)} {age:3.0f} s"
        else:
            words = "idle" if it.state == "filling" else it.state
        return f"{it.batch_records:9,} {size(it.batch_bytes):>10}  {words:{BAR_WIDTH // 2 + 8}} {it.sealed_batches:9,}"


class ProgressBar:
    """The progress of a long command, drawn in place on stderr, which must be a terminal.

    Log lines must go to ``stream``, as with ``LiveView``.
    """

    def __init__(self, unit: str, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self.stream = cast(TextIO, _LinesAbove(console))
        self._bar = Progress(
            BarColumn(BAR_WIDTH),
            TextColumn(f"{{task.completed:,.0f}} of {{task.total:,}} {unit}"),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(compact=True),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: TaskID | None = None

    def update(self, done: float, of: int, words: str) -> None:
        """Show `done` of `of` units, and `words` beside them."""
        with contextlib.suppress(OSError):  # a terminal that has gone away
            if self._task is None:
                self._task = self._bar.add_task(words, total=of)
                self._bar.start()
            self._bar.update(self._task, completed=done, total=of, description=words, refresh=True)

    def stop(self) -> None:
        """Remove the bar and restore the terminal."""
        with contextlib.suppress(OSError):
            self._bar.stop()


def summary(status: Status, config: Config, sink_url: str) -> str:
    """What the run did, where the objects are, and how to list them: 80 columns, but for commands and long words."""
    totals = status.totals
    terms = [
        (totals.landed, "landed", True),
        (totals.quarantined, "quarantined", True),
        (totals.skipped, "skipped", False),
        (totals.released, "released", False),
        (totals.in_flight, "in flight", False),
    ]
    equation = " + ".join(f"{count:,} {word}" for count, word, always in terms if count or always)
    facts = [
        ("consumed", f"{number(totals.consumed, 'record')} = {equation}"),
        ("landed", f"{_objects(status)}, in {place(sink_url)}"),
        ("accepted", _kinds(totals.accepted_by_type) or "none"),
        ("rejected", _rejected(status)),
        *_notes(status),
    ]
    lines = [f"ingestd ran for {clock(status.uptime)}.", ""]
    for label, fact in facts:
        lines += textwrap.wrap(
            fact, LINE_WIDTH, initial_indent=f"  {label:10}  ", subsequent_indent=" " * 14, break_on_hyphens=False
        )
    layout = ObjectKeys(config.sink.lineage, wide=config.wide)
    places = [(totals.objects > 0, "events", layout.events), (totals.quarantined > 0, "quarantine", layout.quarantine)]
    for used, name, folder in places:
        if used:
            lines += ["", f"Look at the {name}:", f"  {_list_command(sink_url, folder, config.s3.endpoint_url)}"]
    return "\n".join(lines).replace(NO_BREAK_SPACE, " ") + "\n"


def _notes(status: Status) -> Iterator[tuple[str, str]]:
    """Facts that not every run has."""
    totals = status.totals
    if totals.skipped:
        yield "skipped", f"{number(totals.skipped, 'tombstone')}, without a row (events.tombstones)"
    if totals.adopted:
        yield "adopted", f"{number(totals.adopted, 'object')} that another daemon had written first"
    if totals.released:
        yield "released", f"{number(totals.released, 'record')} to another owner, or to be read again"
    if totals.in_flight:
        yield "in flight", f"{number(totals.in_flight, 'record')} not delivered: to be read again at the next start"
    for it in status.partitions:
        if it.halted is not None:
            yield "halted", f"{it.name}: {clean(it.halted)}"
    if status.last_error is not None:
        yield "last error", clean(status.last_error)


def _list_command(sink_url: str, folder: str, endpoint_url: str | None) -> str:
    """A shell command that shows the objects below `folder` of the sink."""
    if parse_sink_url(sink_url).kind == "s3":
        endpoint = f"--endpoint-url {shlex.quote(endpoint_url)} " if endpoint_url else ""
        where = shlex.quote(f"{sink_url.rstrip('/')}/{folder}")
        return f"aws {endpoint}s3 ls --recursive --human-readable {where}"
    # zcat does not read .gz everywhere; quotes would keep the shell from expanding the stars.
    path = shlex.quote(place(sink_url) + "/" + folder.rstrip("/"))
    return f"gzip -dc {path}/year=*/month=*/day=*/*.jsonl.gz | head -n 3"


def place(sink_url: str) -> str:
    """The sink's root as people write it: a directory below the working directory as a relative path."""
    url = parse_sink_url(sink_url)
    if url.kind != "file":
        return clean(sink_url)
    path = Path(url.path).absolute()
    here = Path.cwd()
    return f"./{path.relative_to(here)}" if path.is_relative_to(here) and path != here else str(path)


def _problem(status: Status) -> str:
    """Says in one line what stops the flow and what happens to the records; empty when all is well."""
    store = "S3" if parse_sink_url(status.sink).kind == "s3" else "the sink"
    buffered = f"buffering {number(status.totals.in_flight, 'record')}, nothing is lost"
    age = status.sink_error_age or 0.0
    if status.sink_error is not None and status.sink_forbidden:
        return f"{store} access denied, operator action required; {buffered}: {clean(status.sink_error)}"
    if status.sink_error is not None and age >= MIN_OUTAGE_S:
        return f"{store} unavailable for {age:.0f} s: {buffered}"
    if status.source_error is not None and (status.source_error_age or 0.0) >= MIN_OUTAGE_S:
        return f"source unavailable for {status.source_error_age:.0f} s, retrying: {clean(status.source_error)}"
    halted = [it for it in status.partitions if it.halted is not None]
    if halted:
        others = f" (and {len(halted) - 1} more)" if len(halted) > 1 else ""
        return f"{halted[0].name}{others} halted: {clean(halted[0].halted or '')}"
    return ""


class _RateSample(NamedTuple):
    """How many records had been consumed at an uptime (seconds)."""

    uptime: float
    consumed: int


class _LinesAbove(io.TextIOBase):
    """A text stream that prints lines above what is drawn in place; plain output while nothing is drawn."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rest = ""

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._console.is_terminal

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            # soft_wrap leaves breaking to the terminal: a log line that is copied stays one line.
            self._console.print(Text.from_ansi(line), soft_wrap=True, highlight=False)
        return len(text)


def _rejected(status: Status) -> str:
    counts = status.totals.rejected_by_reason
    return f"{sum(counts.values()):,}: {_kinds(counts)}" if counts else "none"


def _kinds(counts: Mapping[str, int]) -> str:
    """The most frequent kinds by name, ties in alphabetical order; all others as one number."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{clean(kind)}{NO_BREAK_SPACE}{count:,}" for kind, count in ranked[:MAX_KINDS]]
    if rest := sum(count for _, count in ranked[MAX_KINDS:]):
        named.append(f"others{NO_BREAK_SPACE}{rest:,}")
    return ", ".join(named)


def _objects(status: Status) -> str:
    return f"{number(status.totals.objects, 'object')}, {size(status.totals.object_bytes)} compressed"


def _bar(share: float, width: int = BAR_WIDTH) -> str:
    """A bar in ASCII, which every terminal shows."""
    full = round(min(1.0, max(0.0, share)) * width)
    return "[" + "#" * full + "." * (width - full) + "]"

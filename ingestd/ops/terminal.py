"""What a person at a terminal sees: a small table while the daemon runs, a summary at the end, a command's progress."""

import contextlib
import io
import shlex
import sys
import textwrap
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TextIO, cast
from urllib.parse import unquote, urlsplit

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ingestd.config.model import Config
from ingestd.core.formatting import clean, clock, number, size
from ingestd.core.object_keys import ObjectKeys
from ingestd.ops.readiness import PartitionStatus, Status

MAX_KINDS = 6  # event types and reasons by name; the rest is one number
MAX_PARTITIONS = 6
RATE_WINDOW = 10.0  # seconds over which the rate is averaged
MAX_MARKS = 64  # of the window
BAR = 20  # characters
WIDTH = 80
GLUE = "\u00a0"  # holds a name and its number together while lines are broken; shown as a plain space
BLINK = 1.0  # seconds that a system may fail before it is worth a line


class LiveView:
    """A table that is drawn in place, on stderr; nothing at all where that is no terminal.

    Log lines must go to ``stream``: it puts them above the table, where they would tear it otherwise.
    """

    def __init__(self, config: Config, console: Console | None = None) -> None:
        self._config = config
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._marks: deque[_Mark] = deque(maxlen=MAX_MARKS)
        self._to_drain: int | None = None
        self.stream = cast(TextIO, _Above(self._console))

    def start(self) -> None:
        """Take the terminal's last lines. To be followed by ``stop``, or the cursor stays hidden."""
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            return
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # output into a file or a pipe stays there
        )
        with self._alive():
            self._live.start()

    def update(self, status: Status) -> None:
        """Draw it; some four times a second is pleasant."""
        self._remember(status)
        if self._live is not None:
            with self._alive():
                self._live.update(self.render(status), refresh=True)

    def stop(self) -> None:
        """Remove the table and give the terminal back. Without effect when it is not shown."""
        if self._live is not None:
            with self._alive():
                self._live.stop()
            self._live = None

    def render(self, status: Status) -> RenderableType:
        """The table as it stands."""
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True, style="dim")
        table.add_column(ratio=1, overflow="fold")
        table.add_row(Text("ingestd", style="bold"), self._headline(status))
        if trouble := _trouble(status):
            table.add_row("", Text(trouble, style="bold red" if status.sink_forbidden else "bold yellow"))
        if progress := self._progress(status):
            table.add_row(*progress)
        totals = status.totals
        table.add_row("events", "   ".join(filter(None, (f"{totals.consumed:,}", self._rate()))))
        table.add_row("accepted", Text(_kinds(totals.accepted_by_type).replace(GLUE, " ") or "none yet"))
        table.add_row("rejected", Text(_rejected(status).replace(GLUE, " ")))
        table.add_row("landed", f"{number(totals.landed, 'record')} in {_objects(status)}")
        for label, line in self._filling(status):
            table.add_row(label, Text(line, no_wrap=True, overflow="ellipsis"))
        lag = [it.lag for it in status.partitions if it.lag is not None]
        table.add_row("lag", f"{number(sum(lag), 'record')} not landed yet" if lag else "not known yet")
        return table

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        """A terminal that has gone away must not stop the daemon."""
        try:
            yield
        except OSError:
            self._live = None

    def _remember(self, status: Status) -> None:
        now = _Mark(status.uptime, status.totals.consumed)
        while len(self._marks) > 1 and self._marks[1].uptime <= now.uptime - RATE_WINDOW:
            self._marks.popleft()
        if not self._marks or now.uptime >= self._marks[-1].uptime + RATE_WINDOW / MAX_MARKS:
            self._marks.append(now)
        if self._to_drain is None and status.phase == "draining":
            self._to_drain = status.totals.in_flight

    def _headline(self, status: Status) -> Text:
        elapsed = clock(status.uptime)
        if (duration := self._config.duration) is not None:
            elapsed += f" of {clock(duration)}"
            if status.phase == "running":
                elapsed += f", {clock(max(0.0, duration - status.uptime))} left"
        line = f"{status.phase} {elapsed}   {status.source} -> {place(status.sink)}"
        return Text(clean(line), style="bold", no_wrap=True, overflow="ellipsis")

    def _rate(self) -> str:
        first, last = (self._marks[0], self._marks[-1]) if self._marks else (_Mark(0, 0), _Mark(0, 0))
        if last.uptime <= first.uptime:
            return ""
        rate = (last.consumed - first.consumed) / (last.uptime - first.uptime)
        return f"{rate:,.0f} a second" if rate >= 100 else f"{rate * 60:,.0f} a minute"

    def _progress(self, status: Status) -> tuple[str, Text] | None:
        """How far, where there is an end."""
        if status.phase == "draining" and self._to_drain:
            left = status.totals.in_flight
            batches = sum(it.sealed_batches + (it.batch_records > 0) for it in status.partitions)
            words = f"{_bar(1 - left / self._to_drain)}  {number(left, 'record')} to land"
            return "draining", Text(words + (f" in {number(batches, 'batch', 'batches')}" if batches else ""))
        reached = max((it.reached for it in status.partitions if it.reached is not None), default=None)
        history = self._config.simulator.history
        if self._config.source == "simulator" and history is not None and reached is not None:
            seconds = status.started_at.timestamp() - reached / 1000
            share = min(1.0, max(0.0, 1 - seconds / history))
            return "history", Text(f"{_bar(share)}  {share:.0%} of {history}")
        return None

    def _filling(self, status: Status) -> Iterator[tuple[str, str]]:
        """A line for each partition, always the same ones, so that the table keeps still."""
        partitions = sorted(status.partitions, key=lambda it: (it.topic, it.partition))
        if not partitions:
            yield "filling", "no partition is ours" + (" yet" if status.phase in {"starting", "running"} else "")
            return
        shown = partitions[:MAX_PARTITIONS]
        width = max(len("partition"), *(len(it.name) for it in shown))
        age = f"age of {self._config.batch.interval}"
        yield "filling", f"{'partition':{width}} {'records':>9} {'size':>10}  {age:{BAR // 2 + 8}} to upload"
        for it in shown:
            yield "", f"{clean(it.name):{width}} {self._batch(it)}"
        if len(partitions) > len(shown):
            yield "", f"and {number(len(partitions) - len(shown), 'partition')} more"

    def _batch(self, it: PartitionStatus) -> str:
        """The columns after the partition's name."""
        age = it.batch_age or 0.0
        words = f"{_bar(age / self._config.batch.interval, BAR // 2)} {age:3.0f} s" if it.batch_records else it.state
        if it.state == "filling" and not it.batch_records:
            words = "idle"
        return f"{it.batch_records:9,} {size(it.batch_bytes):>10}  {words:{BAR // 2 + 8}} {it.sealed_batches:9,}"


class ProgressBar:
    """How far a long command is, drawn in place on stderr. For a terminal only: whoever makes it has looked.

    Log lines must go to ``stream``, as with ``LiveView``.
    """

    def __init__(self, unit: str, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self.stream = cast(TextIO, _Above(console))
        self._bar = Progress(
            BarColumn(BAR),
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
        """Draw it: so many units of so many, and what else there is to say."""
        with contextlib.suppress(OSError):  # a terminal that has gone away
            if self._task is None:
                self._task = self._bar.add_task(words, total=of)
                self._bar.start()
            self._bar.update(self._task, completed=done, total=of, description=words, refresh=True)

    def stop(self) -> None:
        """Remove it and give the terminal back."""
        with contextlib.suppress(OSError):
            self._bar.stop()


def summary(status: Status, config: Config, sink_url: str) -> str:
    """What was done, where it is and how to look at it: text that fits 80 columns, but for commands and long words."""
    totals = status.totals
    terms = [
        (totals.landed, "landed", True),
        (totals.quarantined, "quarantined", True),
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
            fact, WIDTH, initial_indent=f"  {label:10}  ", subsequent_indent=" " * 14, break_on_hyphens=False
        )
    layout = ObjectKeys(config.sink.lineage)
    places = [(totals.objects > 0, "events", layout.events), (totals.quarantined > 0, "quarantine", layout.quarantine)]
    for used, name, folder in places:
        if used:
            lines += ["", f"Look at the {name}:", f"  {_look(sink_url, folder, config.s3.endpoint_url)}"]
    return "\n".join(lines).replace(GLUE, " ") + "\n"


def _notes(status: Status) -> Iterator[tuple[str, str]]:
    """What there is not always."""
    totals = status.totals
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


def _look(sink_url: str, folder: str, endpoint_url: str | None) -> str:
    """A command to paste that shows what is below `folder` of the sink."""
    url = urlsplit(sink_url)
    if url.scheme == "s3":
        endpoint = f"--endpoint-url {shlex.quote(endpoint_url)} " if endpoint_url else ""
        where = shlex.quote(f"{sink_url.rstrip('/')}/{folder}")
        return f"aws {endpoint}s3 ls --recursive --human-readable {where}"
    # zcat does not read .gz everywhere; quotes would keep the shell from expanding the stars.
    path = shlex.quote(place(sink_url) + "/" + folder.rstrip("/"))
    return f"gzip -dc {path}/year=*/month=*/day=*/*.jsonl.gz | head -n 3"


def place(sink_url: str) -> str:
    """A sink's root for people: a directory as a path, from here where it is below."""
    url = urlsplit(sink_url)
    if url.scheme not in {"", "file"}:
        return clean(sink_url)
    path = Path(unquote(url.path) if url.scheme else sink_url).absolute()
    here = Path.cwd()
    return f"./{path.relative_to(here)}" if path.is_relative_to(here) and path != here else str(path)


def _trouble(status: Status) -> str:
    """One line on what keeps records from moving, and what becomes of them; empty when nothing does."""
    store = "S3" if status.sink.startswith("s3:") else "the sink"
    held = f"holding {number(status.totals.in_flight, 'record')}, nothing is lost"
    age = status.sink_error_age or 0.0
    if status.sink_error is not None and status.sink_forbidden:
        return f"{store} refuses us, somebody must act; {held}: {clean(status.sink_error)}"
    if status.sink_error is not None and age >= BLINK:
        return f"{store} unavailable for {age:.0f} s: {held}"
    if status.source_error is not None and (status.source_error_age or 0.0) >= BLINK:
        return f"source unavailable for {status.source_error_age:.0f} s, retrying: {clean(status.source_error)}"
    halted = [it for it in status.partitions if it.halted is not None]
    if halted:
        others = f" (and {len(halted) - 1} more)" if len(halted) > 1 else ""
        return f"{halted[0].name}{others} halted: {clean(halted[0].halted or '')}"
    return ""


class _Mark(NamedTuple):
    """How much had been consumed when."""

    uptime: float
    consumed: int


class _Above(io.TextIOBase):
    """A text stream whose lines appear above whatever is drawn in place; plain output while nothing is."""

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
    """The most frequent by name, with ties in the order of names; the rest as one number."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{clean(kind)}{GLUE}{count:,}" for kind, count in ranked[:MAX_KINDS]]
    if rest := sum(count for _, count in ranked[MAX_KINDS:]):
        named.append(f"others{GLUE}{rest:,}")
    return ", ".join(named)


def _objects(status: Status) -> str:
    return f"{number(status.totals.objects, 'object')}, {size(status.totals.object_bytes)} compressed"


def _bar(share: float, width: int = BAR) -> str:
    """ASCII, because it must read well anywhere."""
    full = round(min(1.0, max(0.0, share)) * width)
    return "[" + "#" * full + "." * (width - full) + "]"

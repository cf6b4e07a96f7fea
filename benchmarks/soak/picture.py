"""The samples as a picture: time runs to the right, in minutes, and bursts are shaded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks.soak.plan import FACTOR, Plan, Span
from benchmarks.soak.samples import Sample
from ingestd import __version__

Line = tuple[str, Callable[[Sample], float], str]  # name, value, colour


class Panel(NamedTuple):
    """Lines of every daemon, or of the group as the first one tells of it."""

    label: str
    lines: Sequence[Line]
    of_group: bool = False
    logarithmic: bool = False


PANELS = (
    Panel(
        "memory (MiB)",
        (("resident", lambda it: it.rss_mib, "tab:blue"), ("buffered", lambda it: it.buffered_mib, "tab:orange")),
    ),
    Panel(
        "loop lag (ms)",
        (
            ("worst of late", lambda it: it.loop_worst_ms, "tab:red"),
            ("99 % of half a minute", lambda it: it.loop_p99_ms, "tab:orange"),
            ("50 %", lambda it: it.loop_p50_ms, "tab:green"),
        ),
        logarithmic=True,
    ),
    Panel(
        "age of the oldest record\nthat has not landed (s)",
        (
            ("since it was written", lambda it: it.age_s, "tab:blue"),
            ("since it was taken", lambda it: it.held_s, "tab:cyan"),
        ),
    ),
    Panel(
        "lag (thousand records)",
        (("written, not landed", lambda it: it.lag_records / 1000, "tab:purple"),),
        of_group=True,
    ),
    Panel("CPU (% of one core)", (("daemon", lambda it: it.cpu_percent, "tab:brown"),)),
)  # fmt: skip


def draw(plan: Plan, bursts: Sequence[Span], samples: Sequence[Sample], file: Path) -> None:
    """A PNG, of 960 pixels across."""
    by_daemon: dict[str, list[Sample]] = {}
    for sample in samples:
        by_daemon.setdefault(sample.daemon, []).append(sample)
    figure = Figure(figsize=(12, 17), layout="constrained")  # without a screen, and without the library's global state
    axes = figure.subplots(len(PANELS) + 1, 1, sharex=True)
    who = "one daemon" if len(by_daemon) == 1 else f"{len(by_daemon)} daemons"
    figure.suptitle(f"ingestd {__version__}: {who}, {plan.rate:,.0f} events/s, bursts of {FACTOR} times that")
    for axis, panel in zip(axes, PANELS, strict=False):
        _draw_panel(axis, panel, list(by_daemon.values()))
    _draw_rates(axes[-1], list(by_daemon.values()))
    for axis in axes:
        for number, burst in enumerate(bursts):
            axis.axvspan(burst.begin / 60, burst.end / 60, color="0.88", label=None if number else "burst")
        axis.grid(alpha=0.3)
        axis.legend(loc="upper left", fontsize="small", ncols=4)
    axes[-1].set_xlabel("minutes since the load began")
    figure.savefig(file, dpi=80)


def _draw_panel(axis: Any, panel: Panel, daemons: Sequence[Sequence[Sample]]) -> None:
    for number, samples in enumerate(daemons[: 1 if panel.of_group else None]):
        minutes = [it.second / 60 for it in samples]
        for name, value, colour in panel.lines:
            label = None if number else name
            axis.plot(minutes, list(map(value, samples)), color=colour, alpha=1 / (1 + number), lw=1.0, label=label)
    axis.set_ylabel(panel.label)
    if panel.logarithmic:
        axis.set_yscale("symlog", linthresh=1)
        axis.set_yticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
    axis.set_ylim(bottom=0)


def _draw_rates(axis: Any, daemons: Sequence[Sequence[Sample]]) -> None:
    written = rates(daemons[0], lambda it: it.produced) if daemons else []
    axis.plot(*zip(*written, strict=True), color="tab:gray", lw=1.0, label="written")
    for number, samples in enumerate(daemons):
        taken = rates(samples, lambda it: it.consumed)
        label = None if number else "taken"
        axis.plot(*zip(*taken, strict=True), color="tab:blue", alpha=1 / (1 + number), lw=1.0, label=label)
    axis.set_ylabel("events a second (thousand)")
    axis.set_ylim(bottom=0)


def rates(samples: Sequence[Sample], total: Callable[[Sample], int], over: int = 5) -> list[tuple[float, float]]:
    """Minutes, and thousands a second over so many samples."""
    return [
        (after.second / 60, (total(after) - total(before)) / (after.second - before.second) / 1000)
        for before, after in zip(samples, samples[over:], strict=False)
        if after.second > before.second
    ]

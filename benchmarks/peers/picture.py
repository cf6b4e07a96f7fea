"""The picture of a run: CPU and memory by system."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.peers.race import Raced
from benchmarks.peers.report import OURS, title
from benchmarks.peers.systems import SYSTEMS, System
from benchmarks.rig.results import median


def picture(races: Sequence[Raced]) -> Figure:
    """Bars: CPU and memory by system, the least on top."""
    figure = Figure(figsize=(14, 5), layout="constrained")
    flat, sdk, memory = figure.subplots(1, 3, sharey=True)
    races_of = {kind: [it for it in races if it.kind == kind] for kind in ("flat", "sdk")}
    order = sorted(_raced(races), key=lambda it: -_cost(races_of["flat"] or races, it))
    names = [title(it.key) for it in order]
    colours = ["tab:red" if it.key == OURS else "tab:blue" if it.parses else "tab:gray" for it in order]
    for axes, kind, words in ((flat, "flat", "flat, 335 bytes"), (sdk, "sdk", "as SDKs send them, 1.2 kB")):
        axes.barh(names, [_cost(races_of[kind], it) for it in order], color=colours)
        axes.set_xlabel(
            f"CPU-seconds per million events, {words}\n(red: ours, blue: parses, grey: passes bytes through)"
        )
    memory.barh(names, [median([run.peak_mib for run in _of(races, it)]) for it in order], color=colours)
    memory.set_xlabel("Peak memory, MiB\n(red: ours, blue: parses, grey: passes bytes through)")
    return figure


def _cost(races: Sequence[Raced], system: System) -> float:
    runs = _of(races, system)
    return median([run.cpu_s_per_million for run in runs]) if runs else 0.0


def _raced(races: Sequence[Raced]) -> list[System]:
    return [it for it in SYSTEMS if _of(races, it)]


def _of(races: Sequence[Raced], system: System) -> list[Raced]:
    return [it for it in races if it.system == system.key]

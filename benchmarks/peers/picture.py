"""The picture of a run: CPU and memory by system."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.peers.race import Raced
from benchmarks.peers.report import OURS, title
from benchmarks.peers.systems import SYSTEMS, System
from benchmarks.rig.results import median


def picture(races: Sequence[Raced]) -> Figure:
    """Bars: CPU and memory by system, the least on top."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    cpu, memory = figure.subplots(1, 2, sharey=True)
    order = sorted(_raced(races), key=lambda it: -median([run.cpu_s_per_million for run in _of(races, it)]))
    names = [title(it.key) for it in order]
    colours = ["tab:red" if it.key == OURS else "tab:blue" if it.parses else "tab:gray" for it in order]
    cpu.barh(names, [median([run.cpu_s_per_million for run in _of(races, it)]) for it in order], color=colours)
    cpu.set_xlabel("CPU-seconds per million events\n(red: ours, blue: parses, grey: passes bytes through)")
    memory.barh(names, [median([run.peak_mib for run in _of(races, it)]) for it in order], color=colours)
    memory.set_xlabel("Peak memory, MiB")
    return figure


def _raced(races: Sequence[Raced]) -> list[System]:
    return [it for it in SYSTEMS if _of(races, it)]


def _of(races: Sequence[Raced], system: System) -> list[Raced]:
    return [it for it in races if it.system == system.key]

"""Charts of benchmarks, without a screen and without the library's global state."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure


class Bars(NamedTuple):
    """A panel: one value for each label. A mark stands across a bar; NaN: none."""

    x_label: str
    values: Sequence[float]
    marks: Sequence[float] = ()
    mark_label: str = ""
    logarithmic: bool = False


class Curve(NamedTuple):
    """A panel of lines over one axis."""

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    logarithmic: bool = False  # the axis from left to right


def bars(title: str, labels: Sequence[str], panels: Sequence[Bars]) -> Figure:
    """Panels beside each other, the first label on top."""
    figure = Figure(figsize=(13, 1.5 + 0.34 * len(labels)), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    places = range(len(labels))
    for axis, panel in zip(axes, panels, strict=True):
        axis.barh(places, panel.values, color="tab:blue")
        if panel.marks:
            axis.plot(panel.marks, places, "|", color="black", ms=14, mew=2.5, label=panel.mark_label)
            axis.legend(loc="lower right", fontsize="small")
        axis.set_xlabel(panel.x_label)
        if panel.logarithmic:
            axis.set_xscale("log")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(places, labels)
    axes[0].invert_yaxis()
    return figure


def curves(title: str, panels: Sequence[Curve]) -> Figure:
    """Two panels to a row."""
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(13, 1 + 3.6 * rows), layout="constrained")
    figure.suptitle(title)
    axes = list(figure.subplots(rows, 2, squeeze=False).flat)
    for axis, panel in zip(axes, panels, strict=False):
        for label, points in panel.lines.items():
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label)
        axis.set_title(panel.title, fontsize="medium")
        axis.set_xlabel(panel.x_label)
        axis.set_ylabel(panel.y_label)
        if panel.logarithmic:
            axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        if len(panel.lines) > 1:
            axis.legend(fontsize="small")
    for axis in axes[len(panels) :]:
        axis.remove()
    return figure

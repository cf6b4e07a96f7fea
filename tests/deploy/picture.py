"""A picture of the dashboard from its own queries: no Grafana runs here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from tests.deploy.board import Board, Panel

Series = list[dict[str, Any]]  # `metric` (labels) and `values` (time, value as text), as Prometheus answers
_COLUMNS = 4
_UNITS = {"short": "", "eps": "events/s", "cps": "1/s", "Bps": "bytes/s", "percentunit": "share"}


def asked(expr: str, window: str) -> str:
    """A query as Grafana sends it, with everything chosen."""
    filled = expr.replace("$__rate_interval", window).replace("$job", ".*").replace("$instance", ".*")
    assert "$" not in filled, filled
    return filled


def ask(board: Board, query: Callable[[str, float], Series], seconds: float, window: str = "5s") -> dict[str, Series]:
    """The last so many seconds of each query; a series that has no number in them is left out."""
    exprs = {query.expr for panel in board.panels for query in panel.queries}
    return {expr: [one for one in query(asked(expr, window), seconds) if _has_data(one)] for expr in exprs}


def draw(board: Board, answers: Mapping[str, Series], file: Path) -> None:
    """All panels that have data, as a PNG; time is in seconds from the first answer on."""
    panels = [panel for panel in board.panels if any(answers[query.expr] for query in panel.queries)]
    times = [at for series in answers.values() for one in series for at, _ in one["values"]]
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * 4.5, rows * 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, _COLUMNS, number + 1)
        for query in panel.queries:
            for one in answers[query.expr]:
                points = [(at - min(times), float(value)) for at, value in one["values"]]
                axes.plot(*zip(*points, strict=True), label=_legend(query.legend, one))
        _dress(axes, panel)
        axes.set_xlim(0, max(times) - min(times))
    figure.savefig(file, dpi=72)


def _dress(axes: Any, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.set_ylabel(_UNITS.get(panel.unit, panel.unit), fontsize=7)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6, loc="best", frameon=False)


def _has_data(one: dict[str, Any]) -> bool:
    return any(value != "NaN" for _, value in one["values"])


def _legend(legend: str, one: dict[str, Any]) -> str:
    for name, value in one["metric"].items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend

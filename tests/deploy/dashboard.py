"""The dashboard as Grafana's JSON, made with Grafana's own types. ``python -m tests.deploy.dashboard --write``."""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, GridPos

from tests.deploy.board import BOARD, Panel, Row

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "ingestd.json"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH = 24  # of Grafana's grid
_HEIGHT = 7


def text() -> str:
    """The file."""
    board = (
        dashboard.Dashboard("ingestd")
        .uid("ingestd")
        .description("Kafka to S3 to Snowflake, each record exactly once.")
        .tags(["ingestd", "kafka", "s3", "snowflake"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("job", "label_values(ingestd_build_info, job)"))
        .with_variable(_variable("instance", 'label_values(ingestd_build_info{job=~"$job"}, instance)'))
    )
    top = 0
    for row in BOARD.rows:
        board = board.with_row(dashboard.Row(row.title).grid_pos(GridPos(h=1, w=_WIDTH, x=0, y=top)))
        top += 1
        for panel, place in zip(row.panels, _places(row, top), strict=True):
            board = board.with_panel(_panel(panel, place))
        top = max(place.y + place.h for place in _places(row, top))
    return json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _places(row: Row, top: int) -> list[GridPos]:
    columns = len(row.panels) if len(row.panels) <= 4 else 3
    width = _WIDTH // columns
    return [
        GridPos(h=_HEIGHT, w=width, x=number % columns * width, y=top + number // columns * _HEIGHT)
        for number in range(len(row.panels))
    ]


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .query(query)
        .datasource(_SOURCE)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def _panel(panel: Panel, place: GridPos) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .min(0)
        .fill_opacity(10)
        .grid_pos(place)
    )
    for number, query in enumerate(panel.queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).range()
        made = made.with_target(target.ref_id(chr(ord("A") + number)))
    return made


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.deploy.dashboard --write")
    DASHBOARD.write_text(text())

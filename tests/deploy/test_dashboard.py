"""The dashboard is what Grafana reads, and asks only for what the daemon exports."""

import json
import re
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from ingestd.ops import metrics
from tests.deploy.board import BOARD, Panel
from tests.deploy.dashboard import DASHBOARD, text
from tests.deploy.picture import asked
from tests.services.prometheus import promtool

#: Of every process.
OTHERS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}

per_panel = pytest.mark.parametrize("panel", BOARD.panels, ids=lambda panel: panel.title)


def written() -> Any:
    return json.loads(DASHBOARD.read_text())


def test_the_file_is_what_is_made_from_the_board() -> None:
    assert DASHBOARD.read_text() == text(), "run `make docs`"


def test_grafana_s_types_know_every_field() -> None:
    """What they do not know is lost on the way through them."""
    read = Dashboard.from_json(written())
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == written()


def test_grafana_s_types_refuse_nonsense() -> None:
    nonsense = written() | {"panel": []}
    read = Dashboard.from_json(nonsense)
    assert json.loads(json.dumps(read, cls=JSONEncoder)) != nonsense


def test_panels_do_not_overlap_and_stay_on_the_grid() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in written()["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        cells |= own


def test_every_panel_has_a_title_of_its_own_and_says_what_it_is() -> None:
    titles = [panel.title for panel in BOARD.panels]
    assert len(set(titles)) == len(titles)
    assert all(panel.description.endswith(".") for panel in BOARD.panels)


@per_panel
def test_it_asks_for_metrics_that_exist_and_shows_labels_that_they_have(panel: Panel) -> None:
    known = {name: set(labels) for name, _, labels, _ in metrics.table()}
    for query in panel.queries:
        shown = set(re.findall(r"{{(\w+)}}", query.legend)) - {"instance"}
        for name in re.findall(r"\b(?:ingestd|process)_\w+", query.expr):
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            assert base in known or name in OTHERS, name
            assert shown <= known.get(base, set()), query.legend


@per_panel
def test_its_queries_are_promql(panel: Panel, tmp_path: Any) -> None:
    rules = [
        {"record": f"a:b:c{number}", "expr": asked(query.expr, "5m")} for number, query in enumerate(panel.queries)
    ]
    file = tmp_path / "rules.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "it", "rules": rules}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stderr

"""Each alert fires when it must, stays quiet when it must, and says what to do: asked of promtool."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingestd.ops import metrics, readiness
from tests.deploy import alert_cases
from tests.deploy.alert_cases import Case, Series
from tests.deploy.collector_alert_cases import COLLECTOR_CASES
from tests.services.prometheus import amtool, promtool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
GROUPS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
ALL: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in ALL if "alert" in rule}
RECORDED: dict[str, dict[str, Any]] = {rule["record"]: rule for rule in ALL if "record" in rule}
#: Of Prometheus itself, and of every process.
OTHERS = {"up", "process_resident_memory_bytes"}
CASES = alert_cases.CASES | COLLECTOR_CASES

per_alert = pytest.mark.parametrize("name", ALERTS)


def needed(rule: dict[str, Any]) -> list[dict[str, Any]]:
    """The rule, and before it what it is made from."""
    return [*(RECORDED[name] for name in sorted(set(re.findall(r"ingestd:\w+:\w+", rule["expr"])))), rule]


def series_of(series: Series, case: Case) -> dict[str, Any]:
    return {
        "interval": case.step,
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
    }


def says(series: Series, case: Case, name: str, expected: list[dict[str, Any]]) -> dict[str, Any]:
    look = {"eval_time": f"{case.at}m", "alertname": name, "exp_alerts": expected}
    return {**series_of(series, case), "alert_rule_test": [look]}


def fires(series: Series, case: Case, name: str) -> dict[str, Any]:
    firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    look = {"expr": firing, "eval_time": f"{case.at}m", "exp_samples": [{"labels": "{}", "value": 1}]}
    return {**series_of(series, case), "promql_expr_test": [look]}


def test_the_rules_are_rules() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stderr


def test_alertmanager_reads_its_file_and_pages_for_what_is_critical() -> None:
    file = RULES.with_name("alertmanager.yml")
    done = amtool("check-config", file)
    assert done.returncode == 0, done.stderr
    for severity, receiver in (("critical", "page"), ("warning", "ticket")):
        routed = amtool("config", "routes", "test", f"--config.file={file}", f"severity={severity}")
        assert routed.stdout.strip() == receiver


def test_only_alerts_that_exist_are_inhibited_and_inhibit() -> None:
    """A name that is wrong would be no inhibition, for ever."""
    named = set(re.findall(r"Ingestd\w+", RULES.with_name("alertmanager.yml").read_text()))
    assert named <= set(ALERTS)


def test_each_alert_has_a_case_and_each_case_an_alert() -> None:
    assert set(CASES) == set(ALERTS)


# Weeks are evaluated, so each alert comes with the rules that it needs and no others.
@per_alert
def test_it_fires_when_it_must_and_is_quiet_when_it_must(name: str, tmp_path: Path) -> None:
    rule, case = ALERTS[name], CASES[name]
    annotations = {"summary": case.summary, "runbook_url": rule["annotations"]["runbook_url"]}
    alert = {"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": annotations}
    rules, tests = tmp_path / "rules.yml", tmp_path / "tests.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "it", "rules": needed(rule)}]}))
    written = {
        "rule_files": [str(rules)],
        "evaluation_interval": case.step,
        "tests": [
            says(case.fires, case, name, [alert]),
            *(fires(one, case, name) for one in case.also),
            *(says(one, case, name, []) for one in case.quiet),
        ],
    }
    tests.write_text(yaml.safe_dump(written, default_flow_style=False))

    done = promtool("test", "rules", tests)

    assert done.returncode == 0, done.stdout + done.stderr


@per_alert
def test_it_has_a_severity_the_value_and_a_section_of_the_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert "$value" in rule["annotations"]["summary"]
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == name.lower()
    assert f"\n### `{name}`\n" in (ROOT / path).read_text(), "the runbook has no section for it"


def test_the_runbook_has_no_section_for_an_alert_that_is_gone() -> None:
    text = (ROOT / "deploy" / "runbook.md").read_text()
    assert set(re.findall(r"^### `(Ingestd\w+)`$", text, re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.get("alert") or rule["record"])
def test_it_asks_for_metrics_that_exist_by_labels_that_they_have(rule: dict[str, Any]) -> None:
    known = {name: set(labels) for name, _, labels, _ in metrics.table()}
    for name, selectors in re.findall(r"(\bingestd_\w+|\bprocess_\w+)(?:\{(.*?)\})?", rule["expr"]):
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        assert base in known or name in OTHERS, name
        asked = set(re.findall(r"(\w+)[=!]", selectors)) - {"le"}
        assert asked <= known.get(base, set()), name


def test_the_reasons_that_alerts_name_are_those_of_readiness() -> None:
    for name in ALERTS:
        for codes in re.findall(r'reason[=!~]+"([^"]+)"', ALERTS[name]["expr"]):
            assert set(codes.split("|")) <= set(readiness.REASONS), name


def test_every_reason_not_to_be_ready_has_an_alert() -> None:
    """Except to be told to stop, and to be a spare."""
    left_out = re.search(r'reason!~"([^"]+)"', ALERTS["IngestdNotReady"]["expr"])
    assert left_out is not None
    elsewhere = {
        "sink_forbidden": "IngestdPermissionDenied",
        "sink_unavailable": "IngestdUploadsFailing",
        "partition_halted": "IngestdPartitionHalted",
        "waiting_for_transaction": "IngestdWaitingForTransaction",
        "registry_unavailable": "IngestdRegistryUnavailable",
    }
    assert set(left_out[1].split("|")) == {"draining", "no_assignment", *elsewhere}
    assert all(code in ALERTS[alert]["expr"] for code, alert in elsewhere.items())


def test_the_bound_of_the_objective_is_one_of_the_histogram() -> None:
    """A bucket that does not exist would be no alert, for ever."""
    exposed = metrics.Metrics().exposition()[0].decode()
    selected = {found for rule in ALL for found in re.findall(r'(\w+_bucket{le="[^"]+"})', rule["expr"])}
    assert selected
    assert all(f"\n{bucket} " in exposed for bucket in selected)

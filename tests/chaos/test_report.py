"""What a run of faults leaves behind."""

from pathlib import Path

import msgspec

from tests.chaos import short_forms
from tests.chaos.all_faults import FAULTS
from tests.chaos.aws_faults import AWS_FAULTS
from tests.chaos.kills import Bulk, rounds
from tests.chaos.report import RESULTS, Report, save
from tests.chaos.runner import Result
from tests.e2e.ledger import Tally


def result(name: str, **more: object) -> Result:
    return Result(name, "something breaks", 7, **{"outcome": "held", "recovery": 1.25, **more})  # type: ignore[arg-type]


def test_a_later_run_replaces_what_it_ran_and_leaves_the_rest(tmp_path: Path) -> None:
    save([result("one"), result("two", outcome="before")], None, tmp_path)
    save([result("two", outcome="after")], None, tmp_path)
    save([], Bulk(10, 7, kills=10), tmp_path)

    report = msgspec.json.decode((tmp_path / "chaos.json").read_bytes(), type=Report)
    assert [(it.name, it.outcome) for it in report.faults] == [("one", "held"), ("two", "after")]
    assert report.kills is not None
    assert report.kills.kills == 10


def test_the_table_tells_what_was_lost_and_what_never_recovered(tmp_path: Path) -> None:
    bad = result("bad", recovery=None, tally=Tally(1_000, lost=3, doubled=2), problems=["lost: 3 offsets | or so"])
    save([result("good", tally=Tally(2_000)), bad], None, tmp_path)

    page = (tmp_path / "chaos.md").read_text()
    assert "| good | something breaks | held | 2,000 | 0 | 0 | 1.2 |\n" in page
    assert "| bad | something breaks | held; lost: 3 offsets \\| or so | 1,000 | 3 | 2 | never |\n" in page


def test_rounds_have_all_kills_and_none_too_many() -> None:
    for kills in (1, 3, 99, 500, 10_001):
        assert sum(rounds(kills, groups=5)) == kills
        assert 0 < min(rounds(kills, groups=5)) <= max(rounds(kills, groups=5)) <= 100


def test_every_fault_of_kinesis_and_sqs_is_in_the_report() -> None:
    report = msgspec.json.decode((RESULTS / "chaos.json").read_bytes(), type=Report)
    assert AWS_FAULTS.keys() <= {it.name for it in report.faults}


def test_each_short_form_is_run_by_one_file() -> None:
    run = [*short_forms.BROKER, *short_forms.CLUSTER, *short_forms.DAEMON, *short_forms.STORE]
    assert sorted(it.name for it in run) == sorted(it.name for it in FAULTS.values() if it.short and it.possible)

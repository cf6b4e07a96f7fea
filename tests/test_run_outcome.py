"""The exit code that follows from what a run has delivered and proven."""

import pytest

from ingestd.core.errors import EXIT_INTERRUPTED, EXIT_PROBLEMS, DeadlineExceeded
from ingestd.core.run_outcome import RunOutcome

CLEAN = {"began": True, "interrupted": False, "consumed": 5}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, 0),
        ({"consumed": 0}, 0),
        ({"trouble": "the store is down now"}, 0),
        ({"to_verify": True, "verified": True}, 0),
        ({"to_verify": True, "verified": False}, EXIT_PROBLEMS),
        ({"to_verify": True, "verified": None}, EXIT_PROBLEMS),
        ({"began": False, "interrupted": True, "consumed": 0}, EXIT_INTERRUPTED),
        ({"began": False, "interrupted": True, "consumed": 0, "to_verify": True}, EXIT_INTERRUPTED),
    ],
)
def test_the_exit_code(more: dict[str, object], code: int) -> None:
    assert RunOutcome(**{**CLEAN, **more}).exit_code == code  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"held_records": 3000}, "stopped with 3000 records undelivered (they will be read again)"),
        ({"held_records": 1, "to_verify": True}, "stopped with 1 records undelivered (they will be read again)"),
        ({"began": False, "trouble": "x"}, "stopped before the stream began: x (nothing was read)"),
        ({"consumed": 0, "trouble": "x"}, "stopped without having read a record: x (nothing is lost)"),
        (
            {"undone": "objects of 1 partition not committed"},
            "stopped before the source was told of everything: objects of 1 partition not committed "
            "(the next run continues after them)",
        ),
        ({"unprocessed": "2 left"}, "stopped before everything was loaded: 2 left (the next run loads them)"),
    ],
)
def test_what_is_left_undone_is_told(more: dict[str, object], said: str) -> None:
    outcome = RunOutcome(**{**CLEAN, **more})  # type: ignore[arg-type]
    with pytest.raises(DeadlineExceeded) as failure:
        _ = outcome.exit_code
    assert str(failure.value) == said
    assert not outcome.lacks_proof


def test_a_proof_that_was_cut_off_is_lacking_only_where_everything_else_is_done() -> None:
    assert RunOutcome(**CLEAN, to_verify=True).lacks_proof  # type: ignore[arg-type]
    assert not RunOutcome(**CLEAN, to_verify=True, verified=False).lacks_proof  # type: ignore[arg-type]
    assert not RunOutcome(**CLEAN).lacks_proof  # type: ignore[arg-type]

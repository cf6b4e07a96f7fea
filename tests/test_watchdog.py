"""The watchdog judges progress, not signs of life."""

from ingestd.watchdog import Verdict, Watchdog


def test_rebuilds_and_then_gives_up_where_nothing_comes() -> None:
    watchdog = Watchdog(10, now=0)
    verdicts = [watchdog.judge(now, 5, idle=False) for now in (0, 9, 10, 15, 19, 20)]
    assert verdicts == [Verdict.WELL] * 2 + [Verdict.REBUILD] + [Verdict.WELL] * 2 + [Verdict.GIVE_UP]


def test_is_well_at_the_logs_end_however_long() -> None:
    watchdog = Watchdog(10, now=0)
    assert {watchdog.judge(now, 5, idle=True) for now in range(100)} == {Verdict.WELL}
    assert watchdog.judge(105, 5, idle=False) is Verdict.WELL


def test_progress_after_a_rebuild_earns_another() -> None:
    watchdog = Watchdog(10, now=0)
    watchdog.judge(0, 5, idle=False)
    assert watchdog.judge(10, 5, idle=False) is Verdict.REBUILD
    watchdog.judge(11, 6, idle=False)
    assert watchdog.judge(21, 6, idle=False) is Verdict.REBUILD

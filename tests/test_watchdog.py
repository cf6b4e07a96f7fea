"""The watchdog judges progress, not signs of life."""

from ingestd.pipeline.watchdog import Verdict, Watchdog


def test_is_well_while_no_partition_waits_for_long() -> None:
    watchdog = Watchdog(10)
    assert {watchdog.judge(waited, 5) for waited in (0, 9.9, 0)} == {Verdict.HEALTHY}


def test_rebuilds_and_then_gives_up_where_nothing_has_come_since() -> None:
    watchdog = Watchdog(10)
    assert [watchdog.judge(waited, 5) for waited in (10, 3, 10)] == [Verdict.REBUILD, Verdict.HEALTHY, Verdict.GIVE_UP]


def test_progress_after_a_rebuild_earns_another() -> None:
    watchdog = Watchdog(10)
    assert [watchdog.judge(10, progress) for progress in (5, 6)] == [Verdict.REBUILD] * 2

"""For each alert: series with which it fires, what it says then, and series with which it must stay quiet.

Values are in promtool's notation: ``0+60x40`` begins at 0, adds 60, forty times; one value each `step`.
"""

from typing import NamedTuple

Series = dict[str, str]  # name with labels: values

WEEK = 7 * 24 * 60  # minutes


class Case(NamedTuple):
    at: int  # when to look, in minutes
    fires: Series
    labels: dict[str, str]  # beside the severity
    summary: str
    quiet: list[Series]  # each alone
    step: str = "1m"
    also: tuple[Series, ...] = ()  # each alone fires, too


def of(name: str, **labels: str) -> str:
    """A series of daemon `a`, unless `labels` say otherwise."""
    found = {"instance": "a", "job": "ingestd", **labels}
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in found.items()) + "}"


A = {"instance": "a", "job": "ingestd"}
JOB = {"job": "ingestd"}
TOPIC = {"job": "ingestd", "topic": "t"}
VISIT = {"job": "ingestd", "event_type": "web_visit"}
P3 = {"topic": "t", "partition": "3"}

CONSUMED = of("ingestd_records_consumed_total", topic="t")
LANDED = of("ingestd_records_landed_total", topic="t")
SKIPPED = of("ingestd_records_skipped_total", topic="t")
ACCEPTED = of("ingestd_events_accepted_total", event_type="web_visit")
REJECTED = of("ingestd_events_rejected_total", reason="not_json")
BUILD = of("ingestd_build_info")
START = of("ingestd_start_time_seconds")
LAG = of("ingestd_partition_lag_records", **P3)
POSITION = of("ingestd_partition_position_offset", **P3)
BEHIND = of("ingestd_partition_behind_seconds", **P3)
OLDEST = of("ingestd_partition_oldest_unlanded_seconds", **P3)
UNLOADED_ROWS = of("ingestd_snowflake_unloaded_rows")
COMPARED = of("ingestd_snowflake_compared_seconds")
DELAY = "ingestd_landing_delay_seconds"
ON_TIME, ALL = of(f"{DELAY}_bucket", le="300.0"), of(f"{DELAY}_count")
LATE = {of(f"{DELAY}_bucket", le=bound): values for bound, values in
        {"900.0": "0x100", "3600.0": "0+1x100", "+Inf": "0+1x100"}.items()}  # fmt: skip


def reason(code: str) -> str:
    return of("ingestd_not_ready", reason=code)


def loop_lag(bound: str) -> str:
    return of("ingestd_loop_lag_seconds_bucket", le=bound)


def ledger(in_flight: int, **others: int) -> Series:
    kept = {"consumed_total": 100, "landed_total": 90, "quarantined_total": 5, "released_total": 2}
    counts = {**kept, **others, "in_flight": in_flight}
    return {of(f"ingestd_records_{name}", topic="t"): f"{value}x20" for name, value in counts.items()}


VOLUME = {
    # Two hours after the week: yesterday's hour is around value 1752, the one of a week ago around value 24.
    "IngestdNoEvents": Case(
        WEEK + 120,
        {CONSUMED: "0x2016 0+200x10 2000x30"},  # some in the hour before
        TOPIC,
        "0 records of t in 15 minutes, although there usually are some at this time.",
        [
            {CONSUMED: "0+200x2100"},
            {CONSUMED: "0x2016 0+20x10 200x30"},
            {CONSUMED: "0x1700 0+2x100 200x300"},
            {CONSUMED: "0+2x50 100x2100"},
        ],
        "5m",
        ({CONSUMED: "0x1700 0+50x100 5000x300"}, {CONSUMED: "0+50x50 2500x2100"}),
    ),
    "IngestdEventsDropped": Case(
        WEEK + 120,
        {ACCEPTED: "0+100x2016 201600+10x40"},
        VISIT,
        "60 events of type web_visit in 30 minutes: less than half of yesterday and of a week ago at this hour.",
        [
            {ACCEPTED: "0+100x2016 201600+70x40"},
            {ACCEPTED: "0+19x100 2000+100x1915 193600+10x40"},  # as few as a week ago
            {ACCEPTED: "0+100x1700 170019+19x315 176014+10x40"},  # as few as yesterday
            {ACCEPTED: "0+16x100 1700+100x1915 193200+1x40"},  # too few a week ago to say
            {ACCEPTED: "0+100x1700 170016+16x315 175057+1x40"},  # too few yesterday to say
        ],
        "5m",
    ),
    "IngestdEventTypeSilent": Case(
        WEEK + 120,
        {ACCEPTED: "0+100x2016 stale"},
        VISIT,
        "No event of type web_visit in 30 minutes; 600 yesterday at this hour.",
        [
            {ACCEPTED: "0+100x2016 201600+1x40"},
            {ACCEPTED: "0+16x100 1700+100x1915 stale"},
            {ACCEPTED: "0+100x1700 170016+16x315 stale"},
        ],
        "5m",
        ({ACCEPTED: "0+100x2016 201600x40"},),
    ),
    "IngestdEventsSpiked": Case(
        WEEK + 120,
        {ACCEPTED: "0+100x2016 201600+400x40"},
        VISIT,
        "2.4k events of type web_visit in 30 minutes: more than three times as many as yesterday and a week ago at "
        "this hour.",
        [
            {ACCEPTED: "0+100x2016 201600+250x40"},
            {ACCEPTED: "0+1x2016 2016+5x40"},
            {ACCEPTED: "0+400x100 40100+100x1915 231600+400x40"},  # as many as a week ago
            {ACCEPTED: "0+100x1700 170100+400x700"},  # as many as yesterday
        ],
        "5m",
    ),
}

QUALITY = {
    "IngestdRejectedShare": Case(
        30,
        {REJECTED: "0+6x60", CONSUMED: "0+100x60"},
        JOB,
        "6% of the records are rejected.",
        [{REJECTED: "0+4x60", CONSUMED: "0+100x60"}],
    ),
    "IngestdRejectedShareHigh": Case(
        30,
        {REJECTED: "0+30x60", CONSUMED: "0+100x60"},
        JOB,
        "30% of the records are rejected; the daemons stop at breaker.max_share.",
        [{REJECTED: "0+20x60", CONSUMED: "0+100x60"}],
    ),
    "IngestdNewRejectReason": Case(
        1535,
        {BUILD: "1x400", REJECTED: "_x305 0+1x20"},
        {**JOB, "reason": "not_json"},
        "2 events were rejected as not_json, a reason not seen for a week.",
        [
            {BUILD: "1x400", REJECTED: "5x200 stale _x100 1x20"},  # seen before, by a daemon that has ended
            {BUILD: "_x300 1x20", REJECTED: "_x305 0+1x20"},  # no day of history: everything is new
        ],
        "5m",
    ),
    "IngestdNewEventType": Case(
        1535,
        {BUILD: "1x400", ACCEPTED: "_x305 0+1x20"},
        VISIT,
        "2 events of type web_visit, a type not seen for a week.",
        [{BUILD: "1x400", ACCEPTED: "5x200 stale _x100 1x20"}, {BUILD: "_x300 1x20", ACCEPTED: "_x305 0+1x20"}],
        "5m",
    ),
    "IngestdLateEvents": Case(
        80,
        {**LATE, LAG: "500x100", LANDED: "0+100x100"},
        JOB,
        "Half of the objects land 37m 30s after the timestamp of their last record, without a backlog.",
        [
            {**LATE, LAG: "2000x100", LANDED: "0+100x100"},  # old because they had to wait
            {**LATE, of(f"{DELAY}_bucket", le="300.0"): "0x100", of(f"{DELAY}_bucket", le="900.0"): "0+1x100"},
        ],
    ),
}

PIPELINE = {
    "IngestdAbsent": Case(
        10, {'up{job="other"}': "1x20"}, {}, "Prometheus scrapes no ingestd daemon (absent = 1).", [{BUILD: "1x20"}],
    ),
    "IngestdDown": Case(
        6,
        {of("up"): "0x20"},
        A,
        "a does not answer Prometheus (up = 0).",
        [{of("up"): "1x2 0x2 1x20"}, {of("up", job="other"): "0x20"}],
        also=({of("up", job="other"): "0x20", of("ingestd_build_info", job="other"): "1x2 stale"},),
    ),
    "IngestdRestarting": Case(
        18,
        {START: "0x5 300x5 600x5 900x20"},
        A,
        "a has started 3 times in 30 minutes.",
        [{START: "0x5 300x5 600x20"}],
    ),
    "IngestdNotReady": Case(
        11,
        {reason("stalled"): "1x20"},
        {**A, "reason": "stalled"},
        "a is not ready: stalled (= 1).",
        [{reason("stalled"): "1x5 0x20"}, {reason("no_assignment"): "1x20"}, {reason("draining"): "1x20"},
         {reason("waiting_for_transaction"): "1x20"}],
    ),
    "IngestdPermissionDenied": Case(
        2,
        {reason("sink_forbidden"): "1x20"},
        {**A, "reason": "sink_forbidden"},
        "The store denies access to a (sink_forbidden = 1); repair the rights and it continues by itself.",
        [{reason("sink_forbidden"): "0x20"}],
    ),
    "IngestdUploadsFailing": Case(
        3,
        {reason("sink_unavailable"): "1x20"},
        {**A, "reason": "sink_unavailable"},
        "The store does not answer a (sink_unavailable = 1).",
        [{reason("sink_unavailable"): "1x1 0x20"}],
    ),
    "IngestdUploadsRetried": Case(
        40,
        {of("ingestd_upload_retries_total", code="SlowDown"): "0+2x60",
         of("ingestd_objects_landed_total", topic="t"): "0+1x60"},
        {**JOB, "code": "SlowDown"},
        "30 calls to the store were retried in 15 minutes because of SlowDown.",
        [{of("ingestd_upload_retries_total", code="SlowDown"): "0+1x60",
          of("ingestd_objects_landed_total", topic="t"): "0+100x60"}],
    ),
    "IngestdPartitionHalted": Case(
        1,
        {of("ingestd_partition_halted", **P3): "1x5"},
        {**A, **P3},
        "t[3] is halted (= 1): operator action required.",
        [{of("ingestd_partition_halted", **P3): "0x5"}],
    ),
    "IngestdWaitingForTransaction": Case(
        3,
        {reason("waiting_for_transaction"): "1x20"},
        {**A, "reason": "waiting_for_transaction"},
        "Records for a wait for the end of an open transaction (waiting_for_transaction = 1).",
        [{reason("waiting_for_transaction"): "1x1 0x20"}],
    ),
    "IngestdRegistryUnavailable": Case(
        3,
        {reason("registry_unavailable"): "1x20"},
        {**A, "reason": "registry_unavailable"},
        "Records for a wait for the schema registry (registry_unavailable = 1).",
        [{reason("registry_unavailable"): "1x1 0x20"}],
    ),
    "IngestdPartitionWithoutOwner": Case(
        45,
        {POSITION: "5x30 stale"},
        {**JOB, **P3},
        "No daemon owns t[3] (= 1), but one owned it within the last 6 hours.",
        [{POSITION: "5x30 stale", of("ingestd_partition_position_offset", instance="b", **P3): "_x33 5x60"}],
    ),
    "IngestdRecordsLost": Case(
        15,
        {of("ingestd_records_lost_upstream_total", topic="t"): "0x10 7x60"},
        TOPIC,
        "Retention has removed 7 records of t before they were read.",
        [{of("ingestd_records_lost_upstream_total", topic="t"): "7x60"}],
    ),
    "IngestdLogTruncated": Case(
        15,
        {of("ingestd_partition_forks_total", topic="t"): "0x10 2x60"},
        TOPIC,
        "Kafka has lost records of t; chains have gone on after it 2 times.",
        [{of("ingestd_partition_forks_total", topic="t"): "2x60"}],
    ),
    "IngestdUnaccounted": Case(
        6,
        ledger(in_flight=2),
        {**A, "topic": "t"},
        "a cannot account for 1 records of t.",
        [ledger(in_flight=3), ledger(in_flight=1, skipped_total=2)],
    ),
    "IngestdLagging": Case(
        50,
        {LAG: "200000x60", LANDED: "0+6000x60"},
        JOB,
        "ingestd needs 33m 20s for its backlog at the rate of the last half hour.",
        [{LAG: "50000x60", LANDED: "0+6000x60"}, {LAG: "0x60", LANDED: "0x60"},
         {LAG: "50000x60", LANDED: "0x60", SKIPPED: "0+6000x60"}],
    ),
    "IngestdLagGrowing": Case(
        90,
        {LAG: "0+600x180", LANDED: "0+6000x180"},
        TOPIC,
        "The lag of t grows by 10 records a second and has doubled in an hour.",
        [{LAG: "54000x180", LANDED: "0+6000x180"}, {LAG: "0+100x180", LANDED: "0+6000x180"},
         {LAG: "54000+60x180", LANDED: "0+6000x180"}],
    ),
    "IngestdBehind": Case(
        50,
        {BEHIND: "1200x60"},
        TOPIC,
        "t is read 20m 0s behind its end.",
        [{BEHIND: "600x60"}, {BEHIND: "1200x10 0x50"}],
    ),
    "IngestdQueueBehind": Case(
        50,
        {of("ingestd_queue_oldest_message_seconds"): "1200x60"},
        JOB,
        "The oldest message that ingestd received from its queue is 20m 0s old.",
        [{of("ingestd_queue_oldest_message_seconds"): "600x60"}],
    ),
    "IngestdQueueInFlight": Case(
        50,
        {of("ingestd_queue_in_flight_messages"): "110000x60"},
        JOB,
        "110k messages of the queue of ingestd are in flight; SQS allows 120,000.",
        [{of("ingestd_queue_in_flight_messages"): "90000x60"}],
    ),
    "IngestdQueueGivenUp": Case(
        50,
        {of("ingestd_queue_batches_given_up_total", reason="late"): "0+1x60"},
        JOB,
        "ingestd gave up 50 batches in an hour, whose messages come again.",
        [{of("ingestd_queue_batches_given_up_total", reason="late"): "0x40 3x20"}],
    ),
    "IngestdOldestUnlanded": Case(
        25,
        {OLDEST: "0+60x40"},
        {**JOB, **P3},
        "A record of t[3] has been buffered for 25m 0s and has not landed.",
        [{OLDEST: "600x40"}],
    ),
    "IngestdSourceRebuilt": Case(
        20,
        {of("ingestd_source_restarts_total"): "0 1 2 3x30"},
        A,
        "a has rebuilt its consumer 3 times in an hour.",
        [{of("ingestd_source_restarts_total"): "0 1x30"}],
    ),
    "IngestdRebalancing": Case(
        20,
        {of("ingestd_rebalances_total"): "0+1x40"},
        A,
        "a went through 20 rebalances in an hour.",
        [{of("ingestd_rebalances_total"): "0+1x8 8x40"}],
    ),
    "IngestdLoopLag": Case(
        20,
        {loop_lag("1.0"): "0x40", loop_lag("2.5"): "0+10x40", loop_lag("+Inf"): "0+10x40"},
        A,
        "The event loop of a is 2.485s late at its 99th percentile.",
        [{loop_lag("1.0"): "0+10x40", loop_lag("2.5"): "0+10x40", loop_lag("+Inf"): "0+10x40"}],
    ),
    "IngestdBudgetUsedUp": Case(
        16,
        {of("ingestd_buffered_bytes"): "95x40", of("ingestd_buffer_budget_bytes"): "100x40"},
        A,
        "a uses 95% of batch.memory; at 100% it stops fetching.",
        [{of("ingestd_buffered_bytes"): "80x40", of("ingestd_buffer_budget_bytes"): "100x40"}],
    ),
    "IngestdMemoryHigh": Case(
        20,
        {of("process_resident_memory_bytes"): f"{2 << 30}x40", of("ingestd_buffer_budget_bytes"): f"{256 << 20}x40"},
        A,
        "a uses 2GiB of memory: more than batch.memory explains.",
        [
            {of("process_resident_memory_bytes"): f"{319 << 20}x40",
             of("ingestd_buffer_budget_bytes"): f"{256 << 20}x40"},
            {of("process_resident_memory_bytes", job="other"): f"{2 << 30}x40"},
        ],
    ),
    "IngestdFreshnessBurnsFast": Case(
        430,
        {ON_TIME: "0+8x500", ALL: "0+10x500"},
        JOB,
        "20% of the objects take longer than 5 minutes to land; 1 % is allowed over 30 days.",
        [
            {ON_TIME: "0+20x425 8500+4x10", ALL: "0+20x500"},  # five minutes of an outage
            {ON_TIME: "0+20x400 8000+4x20 8099+19x80", ALL: "0+20x500"},  # it is over
            {ON_TIME: "0+50x300 15000+25x60 16549+49x80", ALL: "0+50x500"},  # it is over for longer
        ],
        also=(
            {ON_TIME: "0+10x410 4100+2x40", ALL: "0+10x500"},  # much within the hour
            {ON_TIME: "0+9x500", ALL: "0+10x500"},  # less, for hours
        ),
    ),
    "IngestdFreshnessBurnsSlowly": Case(
        2400,
        {ON_TIME: "0+98x500", ALL: "0+100x500"},
        JOB,
        "2% of the objects take longer than 5 minutes to land; 1 % is allowed over 30 days.",
        [
            {ON_TIME: "0+500x20 10998+998x480", ALL: "0+1000x500"},  # it is over
            {ON_TIME: "0+1000x400 400980+980x90", ALL: "0+1000x500"},  # some hours only
        ],
        "5m",
    ),
}  # fmt: skip

SNOWFLAKE = {
    "IngestdSnowflakeNotLoading": Case(
        40,
        {of("ingestd_snowflake_oldest_unloaded_seconds"): "0+60x60"},
        A,
        "Snowflake has not loaded an object of a that landed 40m 0s ago.",
        [{of("ingestd_snowflake_oldest_unloaded_seconds"): "600x60"}],
    ),
    "IngestdSnowflakeBehind": Case(
        50,
        {UNLOADED_ROWS: "500000x60", LANDED: "0+6000x60"},
        JOB,
        "500k landed rows are not loaded: more than half an hour of traffic.",
        [{UNLOADED_ROWS: "100000x60", LANDED: "0+6000x60"}, {UNLOADED_ROWS: "0x60", LANDED: "0x60"}],
    ),
    "IngestdSnowflakeFailedFiles": Case(
        1,
        {of("ingestd_snowflake_failed_files"): "2x5"},
        JOB,
        "Snowflake failed to load 2 files and does not retry them.",
        [{of("ingestd_snowflake_failed_files"): "0x5"}],
    ),
    "IngestdSnowflakeUnknown": Case(
        40,
        {START: "0x60", of("ingestd_snowflake_unloaded_objects"): "1x60"},  # it has never compared
        A,
        "a has had no answer from Snowflake for 40m 0s.",
        [
            {COMPARED: "600x60", START: "0x60", of("ingestd_snowflake_unloaded_objects"): "1x60"},
            {START: "0x60"},  # it does not follow its objects
        ],
    ),
}

CASES: dict[str, Case] = VOLUME | QUALITY | PIPELINE | SNOWFLAKE

"""The result of the benchmark of queues: every run, and the tables that follow from them."""

from collections.abc import Sequence

import msgspec

from benchmarks.rig.results import Table, aim, median, spread

KAFKA, KINESIS, SQS = "Kafka", "Kinesis", "SQS"
OURS, OURS_BARE, BENTO = "ingestd", "ingestd, received and deleted alone", "Bento 1.19"
KINESIS_TIMES_KAFKA = 3.0  # the goals
SQS_US = 200.0
_SOURCES = (KAFKA, KINESIS, SQS)
_SYSTEMS = (OURS, OURS_BARE, BENTO)


class Run(msgspec.Struct):
    """One round of one system on one source."""

    source: str
    system: str
    events: int
    events_per_s: float
    cpu_us: float  # an event


def costs(runs: Sequence[Run], source: str, system: str = OURS) -> list[float]:
    """The CPU time of an event in each round."""
    return [it.cpu_us for it in runs if (it.source, it.system) == (source, system)]


def times_kafka(runs: Sequence[Run], source: str, system: str = OURS) -> float:
    """The CPU time of an event over that of one of Kafka's."""
    return median(costs(runs, source, system)) / median(costs(runs, KAFKA))


def cost_rows(runs: Sequence[Run]) -> list[list[str]]:
    """A row for each source and system that was measured."""
    rows = []
    for source in _SOURCES:
        for system in _SYSTEMS:
            if own := [it for it in runs if (it.source, it.system) == (source, system)]:
                rate = spread([it.events_per_s for it in own], 0)
                times = f"{times_kafka(runs, source, system):.1f}"
                rows.append([source, system, spread(costs(runs, source, system)), times, rate])
    return rows


COST_HEAD = ("Source", "System", "CPU µs/event", "Of ingestd's from Kafka", "Events/s")


def cost_table(runs: Sequence[Run]) -> Table:
    note = (
        "CPU is that of the system's process. The broker and the stand-ins for AWS are on the same cores, and limit "
        "events per second. Of a shard, ingestd reads 2 MiB/s, as AWS allows. A last batch of Bento waits for a second."
    )
    return Table(title="Cost", head=COST_HEAD, rows=cost_rows(runs), note=note)


def goal_table(runs: Sequence[Run]) -> Table:
    rows = [
        aim("Kinesis: CPU of an event over Kafka's", times_kafka(runs, KINESIS), KINESIS_TIMES_KAFKA, most=True),
        aim("SQS: CPU µs of a message", median(costs(runs, SQS)), SQS_US, most=True, digits=0),
    ]
    return Table(title="Goals", head=("Goal", "Measured", "Aimed at", "Outcome"), rows=rows)

"""Measured capacity of a daemon, as defaults for planning. Pure.

`make bench` measures the daemon again, and a sample of simulated events gives the sizes; `ingestd check` reports those
of your own events.
"""

import msgspec


class Measured(msgspec.Struct, frozen=True):
    """One daemon with everything on, on two cores that it shared with the broker and the S3 server."""

    events_per_second: float = 339_000.0  # draining a backlog of 6 partitions, lz4
    cpu_seconds_per_million: float = 3.0  # of events, over all threads
    resident_bytes: int = 91_000_000  # without events: the interpreter and its libraries
    row_bytes: float = 460.0  # of a row of simulated marketing events
    object_bytes: float = 65.0  # of such a row in an object, compressed; real events hold more that differs


MEASURED = Measured()

#: The same daemon on the stand-ins for Kinesis and SQS, which are slower than AWS: its CPU alone limits these rates.
MEASURED_FROM = {
    "kinesis": Measured(events_per_second=100_000.0, cpu_seconds_per_million=9.0),
    "sqs": Measured(events_per_second=5_000.0, cpu_seconds_per_million=200.0),
}

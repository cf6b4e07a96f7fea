"""Cuts a Kafka partition's log on the disk of a broker that does not run, as a disk that was restored from a backup."""

import struct
from pathlib import Path

_BASE_AND_LENGTH = struct.Struct(">qi")


def truncate_log(directory: Path, end: int) -> None:
    """Remove the batches from offset `end` on from a partition's log, which has one segment."""
    [segment] = directory.glob("*.log")
    data, at = segment.read_bytes(), 0
    while at < len(data):
        base, length = _BASE_AND_LENGTH.unpack_from(data, at)
        if base >= end:
            break
        at += _BASE_AND_LENGTH.size + length
    segment.write_bytes(data[:at])
    # The broker makes them again from the segment.
    for pattern in ("*.index", "*.timeindex", "*.txnindex", "*.snapshot"):
        for file in directory.glob(pattern):
            file.unlink()

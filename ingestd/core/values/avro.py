"""Avro values as JSON text. Pure.

Input is hostile: reading is bounded by the payload's bytes, whatever a count or a length in it says. An array whose
items have no bytes would grow without end, so its schema is refused. Python's limit of calls stops values of recursive
types. Names of fields are in the text and not in the value: what a byte can become at most is known from the schema.
"""

import struct
from collections.abc import Mapping

from ingestd.core.decoding import ENCODER
from ingestd.core.rejections import MESSAGES, Reason, RejectedRecord
from ingestd.core.values.avro_reader import compile_reader
from ingestd.core.values.avro_scalars import truncated, undecodable
from ingestd.core.values.avro_schema import longest_payload, parse_avro
from ingestd.core.values.base import Decode


def compile_avro(text: str, references: Mapping[str, str]) -> Decode:
    """How values of this schema are decoded. `references` are in the order of their needs. Raises ``SchemaError``."""
    root = parse_avro(text, references.values())
    longest = longest_payload(root)
    read, encode = compile_reader(root), ENCODER.encode

    def decode(payload: bytes) -> bytes:
        size = len(payload)
        if size > longest:
            message = f"{size} bytes; with this schema, more than {longest} could become too much JSON"
            raise RejectedRecord(Reason.TOO_LARGE, "$", message)
        try:
            value, end = read(payload, 0)
            if end == size:
                return encode(value)
        except RejectedRecord:
            raise
        except Exception as error:
            raise _rejection(error) from error
        raise undecodable(f"{size - end} bytes behind the value") if end < size else truncated()

    return decode


def _rejection(error: Exception) -> RejectedRecord:
    if isinstance(error, RecursionError):
        return RejectedRecord(Reason.TOO_DEEP, "$", MESSAGES[Reason.TOO_DEEP])
    if isinstance(error, OverflowError):
        return RejectedRecord(Reason.TIMESTAMP_OUT_OF_RANGE, "$", f"a time that is not within the calendar: {error}")
    if isinstance(error, IndexError | struct.error):
        return truncated()
    return undecodable(f"{type(error).__name__}: {error}")

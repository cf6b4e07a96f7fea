"""Checks keys and metadata against what both S3 and a file system can store. Pure."""

import re
from collections.abc import Mapping

MAX_KEY_BYTES = 1024  # S3's limit, with the root prefix included
MAX_SEGMENT_BYTES = 255  # most file systems' limit of a name
MAX_METADATA_BYTES = 2048  # S3's limit of names and values together

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")  # a header loses spaces at its ends; some stores lose an empty value


def check_key(key: str) -> None:
    """ValueError if `key` is not a relative path of plain segments, within the limits of every store."""
    if not key.isprintable():  # no NUL, no line ends, nothing that UTF-8 or a listing in XML cannot carry
        raise ValueError(f"key {key!r} has characters that cannot be printed")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"key {key!r} is longer than {MAX_KEY_BYTES} bytes")
    for segment in key.split("/"):
        if segment in {"", ".", ".."}:
            raise ValueError(f"key {key!r} has the segment {segment!r}: expected a relative path without . or ..")
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise ValueError(f"key {key!r} has a segment longer than {MAX_SEGMENT_BYTES} bytes")


def check_folder(prefix: str) -> None:
    """ValueError if `prefix` is neither "" nor a key followed by "/"."""
    if prefix and not prefix.endswith("/"):
        raise ValueError(f"prefix {prefix!r} does not end with '/'")
    if prefix:
        try:
            check_key(prefix[:-1])
        except ValueError as error:
            raise ValueError(f"prefix {prefix!r}: {error}") from error


def check_metadata(metadata: Mapping[str, str]) -> None:
    """ValueError if an S3 header would not return `metadata` unchanged."""
    for name, value in metadata.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"metadata name {name!r}: expected lower-case ASCII letters, digits, '-' or '_'")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"metadata {name}={value!r}: expected printable ASCII, not empty, no spaces at the ends")
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"metadata of {size} bytes: at most {MAX_METADATA_BYTES} fit")

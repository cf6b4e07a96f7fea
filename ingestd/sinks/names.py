"""What every sink takes as a key and as metadata: what S3 and a file system can both keep. Pure."""

import re
from collections.abc import Mapping

MAX_KEY = 1024  # bytes, S3's limit with the root prefix included
MAX_SEGMENT = 255  # bytes, most file systems' limit of a name
MAX_METADATA = 2048  # bytes of names and values together, S3's limit

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")  # a header loses spaces at its ends; some stores lose an empty value


def check_key(key: str) -> None:
    """ValueError where `key` is not a relative path of plain segments, within the limits of every store."""
    if not key.isprintable():  # no NUL, no line ends, nothing that UTF-8 or a listing in XML cannot carry
        raise ValueError(f"key {key!r} has characters that cannot be printed")
    if len(key.encode()) > MAX_KEY:
        raise ValueError(f"key {key!r} is longer than {MAX_KEY} bytes")
    for segment in key.split("/"):
        if segment in {"", ".", ".."}:
            raise ValueError(f"key {key!r} has the segment {segment!r}: expected a relative path without . or ..")
        if len(segment.encode()) > MAX_SEGMENT:
            raise ValueError(f"key {key!r} has a segment longer than {MAX_SEGMENT} bytes")


def check_folder(prefix: str) -> None:
    """ValueError where `prefix` is neither "" nor a key followed by "/"."""
    if prefix and not prefix.endswith("/"):
        raise ValueError(f"prefix {prefix!r} does not end with '/'")
    if prefix:
        try:
            check_key(prefix[:-1])
        except ValueError as error:
            raise ValueError(f"prefix {prefix!r}: {error}") from error


def check_metadata(metadata: Mapping[str, str]) -> None:
    """ValueError where `metadata` would not come back from an S3 header as it was given."""
    for name, value in metadata.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"metadata name {name!r}: expected lower-case ASCII letters, digits, '-' or '_'")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"metadata {name}={value!r}: expected printable ASCII, not empty, no spaces at the ends")
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > MAX_METADATA:
        raise ValueError(f"metadata of {size} bytes: at most {MAX_METADATA} fit")

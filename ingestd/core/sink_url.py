"""The URL of a sink: the one parser of ``sink.url`` and of what a sink says of its own place. Pure."""

import re
from typing import NamedTuple
from urllib.parse import unquote


class SinkUrl(NamedTuple):
    """A sink's root. `kind` is the URL's scheme; a path without one is of kind "file"."""

    kind: str
    bucket: str = ""  # of an object store
    prefix: str = ""  # what every key begins with in the bucket: "", or it ends with "/"
    path: str = ""  # of a directory


def parse_sink_url(url: str) -> SinkUrl:
    """Read ``s3://bucket/prefix``, ``file:///directory`` or the path of a directory; slashes at the end do not count.

    What a store allows in the names of buckets and keys is for the store's own file to check.
    """
    scheme, has_scheme, rest = url.partition("://")
    if not has_scheme:
        return SinkUrl("file", path=url)
    host, _, path = rest.partition("/")
    if scheme == "file":
        return SinkUrl("file", path="/" + unquote(path))
    prefix = path.rstrip("/")
    return SinkUrl(scheme, host, f"{prefix}/" if prefix else "")


#: Paths that are most often something else, each with what it is.
_NEAR_MISSES = {
    "has a space at an end": re.compile(r"\s|.*\s\Z"),
    "begins with '~', which only a shell expands": re.compile(r"~"),
    "has a variable, which only a shell expands": re.compile(r".*(\$[A-Za-z_{(]|%\w+%)"),
    "looks like a URL but has no '://' after its scheme": re.compile(
        r"[A-Za-z][A-Za-z0-9+.-]*:|(s3[an]?|https?|file|gs|gcs|abfss?|wasbs?)//", re.IGNORECASE
    ),
    "has a backslash": re.compile(r".*\\"),
}


def path_fault(path: str) -> str:
    """Why `path` is most likely not meant as a path of this machine; "" if it is.

    It is never guessed: what a shell would expand, or what lacks a slash of a URL, would make a directory of that name.
    """
    if not path.isprintable():
        return "has characters that cannot be shown"
    return next((why for why, pattern in _NEAR_MISSES.items() if pattern.match(path)), "")

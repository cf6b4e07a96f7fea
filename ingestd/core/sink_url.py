"""The URL of a sink: the one parser of ``sink.url`` and of what a sink says of its own place. Pure."""

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

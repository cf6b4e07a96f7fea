"""Where the local warehouse's file is: each sink has its own, because the table has the rows of its objects."""

from hashlib import sha256
from pathlib import Path

from ingestd.config.model import Config
from ingestd.core.sink_url import parse_sink_url

_FOLDER = Path("./data")  # for the tables of remote sinks


def warehouse_file(config: Config) -> Path:
    """The configured file, or the sink's."""
    if config.warehouse.path is not None:
        return Path(config.warehouse.path)
    sink = parse_sink_url(config.sink.url)
    if sink.kind == "file":
        return Path(sink.path) / "warehouse.duckdb"
    # The same bucket and prefix at another endpoint is another sink. A digest, because a socket's path must be short.
    place = f"{config.s3.endpoint_url or ''} {sink.kind} {sink.bucket} {sink.prefix}"
    return _FOLDER / f"{sink.bucket}-{sha256(place.encode()).hexdigest()[:8]}.duckdb"

"""Each sink has a table of its own, unless a file is named."""

from pathlib import Path

import pytest

from ingestd.config.model import Config, S3Config, SinkConfig, WarehouseConfig
from ingestd.demo.warehouse.location import warehouse_file
from ingestd.demo.warehouse.query_server import socket_path

BUCKETS = ["s3://bucket", "s3://bucket/a", "s3://bucket/a/b", "s3://bucket/a-b", "s3://bucket-a/b", "s3://" + "b" * 63]


def file_of(url: str, endpoint: str | None = None) -> Path:
    return warehouse_file(Config(sink=SinkConfig(url=url), s3=S3Config(endpoint_url=endpoint)))


def test_the_default_sink_s_table_is_in_its_directory() -> None:
    assert warehouse_file(Config()) == Path("data/warehouse.duckdb")
    assert file_of("/srv/events") == file_of("file:///srv/events") == Path("/srv/events/warehouse.duckdb")


def test_no_two_sinks_share_a_table() -> None:
    files = [file_of(url) for url in BUCKETS] + [file_of("s3://bucket", "http://127.0.0.1:9000"), file_of("./data")]
    assert len(set(files)) == len(files)
    assert file_of("s3://bucket/a") == file_of("s3://bucket/a/")


@pytest.mark.parametrize("url", BUCKETS)
def test_the_path_is_short_enough_for_a_socket(url: str) -> None:
    assert socket_path(file_of(url)).name.endswith(".duckdb.sock")


def test_a_named_file_is_used() -> None:
    config = Config(warehouse=WarehouseConfig(path="w.duckdb"))
    assert warehouse_file(config) == Path("w.duckdb")

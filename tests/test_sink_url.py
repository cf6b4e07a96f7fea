"""The one parser of ``sink.url``."""

from pathlib import Path

import pytest

from ingestd.core.sink_url import SinkUrl, parse_sink_url
from ingestd.sinks.local import LocalSink


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket", SinkUrl("s3", "bucket")),
        ("s3://bucket/", SinkUrl("s3", "bucket")),
        ("s3://bucket/some/prefix", SinkUrl("s3", "bucket", "some/prefix/")),
        ("s3://bucket/some/prefix//", SinkUrl("s3", "bucket", "some/prefix/")),
        ("s3://bucket//odd", SinkUrl("s3", "bucket", "/odd/")),
        ("s3://", SinkUrl("s3")),
        ("./data", SinkUrl("file", path="./data")),
        ("file:///a%20b/c", SinkUrl("file", path="/a b/c")),
        ("gs://bucket/x", SinkUrl("gs", "bucket", "x/")),
    ],
)
def test_a_url_is_read(url: str, expected: SinkUrl) -> None:
    assert parse_sink_url(url) == expected


def test_what_a_directory_says_of_itself_leads_back_to_it(tmp_path: Path) -> None:
    directory = tmp_path / "with space and %41"
    assert parse_sink_url(LocalSink(directory).url).path == str(directory)

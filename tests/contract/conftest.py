"""Sinks for the tests of this folder."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from ingestd.config.model import S3Config
from ingestd.sinks.base import Sink
from ingestd.sinks.s3 import S3Sink
from tests.services.seaweed import REGION, S3Store


@pytest.fixture(scope="module")
def shared_bucket(s3: S3Store) -> Iterator[str]:
    """A bucket of the module."""
    name = f"contract-{uuid.uuid4().hex}"
    s3.create_bucket(name)
    yield name
    s3.delete_bucket(name)


@pytest.fixture
async def s3_sink(s3: S3Store, shared_bucket: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sink]:
    """A sink that has been started, with a prefix of the test's own in that bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    settings = S3Config(endpoint_url=s3.endpoint, region=REGION, addressing="path")
    sink = S3Sink(f"s3://{shared_bucket}/some/prefix-{uuid.uuid4().hex}", settings, connections=8)
    await sink.start()
    yield sink
    await sink.close()

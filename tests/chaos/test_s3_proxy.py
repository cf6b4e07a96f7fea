"""The S3 proxy does what it is told, and a store that checks signatures takes what goes through it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.chaos.s3_proxy import S3Proxy
from tests.chaos.services import Services
from tests.services.seaweed import S3Store

pytestmark = pytest.mark.services

KEY = "events/year=2026/month=11/day=23/t+00000+00000000000000000000.jsonl.gz"
BUCKET = "proxied"


@pytest.fixture
async def proxy(hurt: Services) -> AsyncIterator[S3Proxy]:
    hurt.store.create_bucket(BUCKET)
    async with hurt.s3_proxy() as made:
        yield made
    hurt.store.delete_bucket(BUCKET)


@pytest.fixture
def through(proxy: S3Proxy, hurt: Services) -> Iterator[Any]:
    """A client that comes through the proxy; to be used from a thread."""
    with closing(hurt.proxied_store.client()) as client:
        yield client


@pytest.fixture
def direct(hurt: Services) -> Iterator[Any]:
    with closing(hurt.store.client()) as client:
        yield client


async def put(client: Any, body: bytes = b"rows") -> None:
    await asyncio.to_thread(
        client.put_object, Bucket=BUCKET, Key=KEY, Body=body, Metadata={"end": "7"}, IfNoneMatch="*"
    )


def keys(client: Any) -> list[str]:
    return [found["Key"] for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


async def test_passes_on_what_was_signed_and_what_was_answered(through: Any) -> None:
    await put(through)

    with pytest.raises(ClientError) as refused:
        await put(through, b"others")
    found = await asyncio.to_thread(through.head_object, Bucket=BUCKET, Key=KEY)
    body = (await asyncio.to_thread(through.get_object, Bucket=BUCKET, Key=KEY))["Body"].read()

    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert (found["ContentLength"], found["Metadata"], body) == (4, {"end": "7"}, b"rows")
    assert await asyncio.to_thread(keys, through) == [KEY]


async def test_a_wrong_signature_is_refused_by_the_store(hurt: Services, proxy: S3Proxy) -> None:
    wrong = S3Store(hurt.proxied_store.endpoint, hurt.store.access_key, "wrong")
    with closing(wrong.client()) as client, pytest.raises(ClientError) as refused:
        await put(client)
    assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


async def test_refuses_and_the_store_sees_nothing(proxy: S3Proxy, through: Any, direct: Any) -> None:
    proxy.refuses(503, "SlowDown")
    with pytest.raises(ClientError) as refused:
        await put(through)
    assert (refused.value.response["Error"]["Code"], proxy.fired["SlowDown"]) == ("SlowDown", 1)
    assert keys(direct) == []

    proxy.heal()
    await put(through)


async def test_a_share_of_requests_is_refused(proxy: S3Proxy, through: Any) -> None:
    proxy.refuses(503, "SlowDown", share=0.5, rng=Random(7))
    refused = 0
    for _ in range(40):
        try:
            await asyncio.to_thread(keys, through)
        except ClientError:
            refused += 1
    assert 0 < refused == proxy.fired["SlowDown"] < 40


async def test_some_credentials_expire_and_others_do_not(hurt: Services, proxy: S3Proxy, through: Any) -> None:
    proxy.expires(hurt.store.access_key)
    with pytest.raises(ClientError) as refused:
        await put(through)
    assert refused.value.response["Error"]["Code"] == "ExpiredToken"

    with closing(S3Store(hurt.proxied_store.endpoint, *hurt.store.other_keys).client()) as others:
        await put(others)


async def test_the_store_has_what_it_never_confirmed(proxy: S3Proxy, through: Any, direct: Any) -> None:
    proxy.cuts_after_applying(1.0, Random(7))
    with pytest.raises(ConnectionClosedError):
        await put(through)
    assert keys(direct) == [KEY]


async def test_a_put_comes_after_its_retry(proxy: S3Proxy, through: Any, direct: Any) -> None:
    proxy.keeps_back(retries=False)
    with pytest.raises(ConnectionClosedError):
        await put(through)
    assert keys(direct) == []

    await put(through)

    assert len(proxy.kept) == 1
    assert await proxy.release() == [412]


async def test_a_put_comes_before_anybody_tries_again(proxy: S3Proxy, through: Any, direct: Any) -> None:
    proxy.keeps_back(retries=True)
    for _ in range(2):
        with pytest.raises(ConnectionClosedError):
            await put(through)

    assert await proxy.release() == [200, 412]
    assert keys(direct) == [KEY]
    assert await proxy.release() == []

"""The proxy does to each call what its rules say, and counts it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import pytest
from aiohttp import web

from tests.services.aws_proxy import AwsProxy
from tests.services.ports import HOST, free_port


class Answer(NamedTuple):
    status: int
    body: bytes


class World:
    """A client, the proxy, and a server that counts what it has carried out."""

    def __init__(self, proxy: AwsProxy, session: aiohttp.ClientSession) -> None:
        self.proxy = proxy
        self.carried_out = 0
        self._session = session

    async def call(self, operation: str = "GetRecords") -> Answer:
        headers = {"X-Amz-Target": f"Kinesis_20131202.{operation}"}
        async with self._session.post(self.proxy.endpoint, data=b"{}", headers=headers) as answer:
            return Answer(answer.status, await answer.read())

    async def serve(self, request: web.Request) -> web.Response:
        assert await request.read() == b"{}"
        self.carried_out += 1
        return web.Response(body=b"0123456789")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    port = free_port()
    async with AwsProxy(port) as proxy, aiohttp.ClientSession() as session:
        world = World(proxy, session)
        application = web.Application()
        application.router.add_post("/", world.serve)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, HOST, port).start()
        yield world
        await runner.cleanup()


GOOD = Answer(200, b"0123456789")


async def test_passes_calls_on(world: World) -> None:
    assert await world.call() == GOOD
    assert (world.carried_out, world.proxy.calls["GetRecords"], world.proxy.fired.total()) == (1, 1, 0)


async def test_refuses_so_many_calls_of_one_operation(world: World) -> None:
    world.proxy.throttles("GetRecords", times=2)

    refused = [await world.call(), await world.call()]

    assert [answer.status for answer in refused] == [400, 400]
    assert json.loads(refused[0].body)["__type"] == "ProvisionedThroughputExceededException"
    assert world.carried_out == 0
    assert await world.call("PutRecords") == GOOD
    assert await world.call() == GOOD
    assert world.proxy.fired == {"GetRecords ProvisionedThroughputExceededException": 2}


async def test_refuses_a_share_until_it_is_healed(world: World) -> None:
    world.proxy.fails("GetRecords", 503, share=0.5)

    found = {(await world.call()).status for _ in range(40)}
    world.proxy.heal()

    assert found == {200, 503}
    assert {(await world.call()).status for _ in range(10)} == {200}


async def test_cuts_an_answer_in_the_middle(world: World) -> None:
    world.proxy.cuts("GetRecords", times=1)

    with pytest.raises(aiohttp.ClientPayloadError):
        await world.call()

    assert world.carried_out == 1


async def test_loses_the_answer_to_a_call_that_was_carried_out(world: World) -> None:
    world.proxy.loses_answers("PutRecords", times=1)

    with pytest.raises(aiohttp.ClientConnectionError):
        await world.call("PutRecords")

    assert world.carried_out == 1


async def test_answers_late(world: World) -> None:
    world.proxy.delays("GetRecords", 0.2, times=1)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await world.call()

    assert world.carried_out == 1


async def test_follows_several_rules_in_turn(world: World) -> None:
    world.proxy.expires_iterators(times=1)
    world.proxy.fails("GetRecords", times=1)

    assert [(await world.call()).status for _ in range(3)] == [400, 500, 200]

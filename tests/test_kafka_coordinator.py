"""What is told while the group's coordinator cannot be reached."""

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from ingestd.config.model import KafkaConfig
from ingestd.sources.kafka import KafkaSource
from tests.chaos.tcp_proxy import TcpProxy
from tests.contract.source_contract import RecordingListener
from tests.services.kafka import KafkaBroker, create_topic, topic_admin
from tests.services.ports import HOST, free_port

pytestmark = pytest.mark.services


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the source has no event for it
        await asyncio.sleep(0.01)


async def test_a_broker_that_cannot_be_reached_where_it_advertises_is_named_until_it_can(tmp_path: Path) -> None:
    port = free_port()
    with KafkaBroker(tmp_path, proxy_port=port) as broker:
        async with topic_admin(broker.bootstrap) as admin:
            await create_topic(admin, "t", 1)
        servers, group = (f"{HOST}:{broker.proxied_port}",), uuid.uuid4().hex
        source = KafkaSource(KafkaConfig(bootstrap_servers=servers, topics=("t",), group_id=group))
        try:
            async with asyncio.timeout(60):
                await source.start(RecordingListener())
                await until(lambda: source.error is not None)
                assert source.error is not None
                assert f"at {HOST}:{port} cannot be reached under the name that it advertises" in source.error
                async with TcpProxy(port, broker.proxied_port):
                    await until(lambda: source.error is None)
                    await source.stop()
        finally:
            await source.stop()

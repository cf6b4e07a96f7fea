"""A source whose system has no id: in Kafka's protocol a cluster's id may be null."""

from types import SimpleNamespace
from typing import Any

import pytest

from ingestd.config.model import KafkaConfig
from ingestd.sources.kafka import bootstrap
from tests.simulation import virtual_time
from tests.test_ingest import TP, Flow, ended, records


def test_its_objects_have_no_cluster() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)})
        flow.source._source_id = ""
        await ended(flow, 1)
        [landed] = await flow.chain()
        assert landed.cluster is None
        assert "cluster" not in landed.to_user_metadata()

    virtual_time.run(main())


async def test_a_cluster_without_an_id_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    topics = [{"topic": "t", "error_code": 0, "partitions": [{}]}]

    async def send(_: Any) -> Any:
        return SimpleNamespace(to_object=lambda: {"cluster_id": None, "topics": topics})

    async def create_conn(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(send=send, close=lambda: None)

    monkeypatch.setattr(bootstrap, "create_conn", create_conn)
    cluster, codes = await bootstrap.ask(KafkaConfig(), {}, ["t"])
    assert (cluster, codes) == (bootstrap.Cluster("", {"t": 1}), {"t": 0})

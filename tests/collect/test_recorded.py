"""What real SDKs have sent, as tests/collect/recorded has it: each request has its key, and each event is a row."""

import json
from pathlib import Path
from typing import Any

import pytest

from ingestd.collect.endpoints import ROUTES, make_endpoints
from ingestd.collect.messages import Collected, Route
from ingestd.config.model import CollectConfig, CollectSource
from tests.collect.calls import cases_of, ids
from tests.collect.recorder import Exchange
from tests.collect.requests import VALIDATOR, request, rows
from tests.collect.sdk_cases import fits

FOLDER = Path(__file__).with_name("recorded")
KINDS: dict[str, Any] = {"segment": "segment", "rudder": "rudderstack", "snowplow": "snowplow", "ingestd": "web"}
RECORDINGS = sorted(file.stem for file in FOLDER.glob("*.json"))


def exchanges(name: str) -> list[Exchange]:
    """The requests that brought events, decompressed."""
    recording = json.loads((FOLDER / f"{name}.json").read_text())
    return [
        Exchange(method="POST", path=it["path"], query=it["query"], headers=it["headers"], body=it["text"].encode())
        for it in recording["requests"]
        if it["method"] == "POST"
    ]


def route_of(exchange: Exchange, kind: str) -> Route:
    """Where a source of this kind takes the request."""
    [route] = [it for it in ROUTES if (it.method, it.path) == ("POST", exchange.path) and kind in it.kinds]
    return route


async def rows_of(name: str) -> list[dict[str, Any]]:
    """What becomes of a recording."""
    source = name.partition("-")[0]
    config = CollectConfig(sources={source: CollectSource(kind=KINDS[source])})
    endpoint = make_endpoints(config, VALIDATOR).by_source[source]
    found: list[Collected] = []
    for it in exchanges(name):
        incoming = request(it.path, it.body, query=it.query, headers=it.headers)
        found += (await endpoint.collect(incoming)).events
    return rows(found)


def test_all_sdks_are_there() -> None:
    assert RECORDINGS == [
        "ingestd-browser", "rudder-browser", "rudder-node", "rudder-python",
        "segment-browser", "segment-kotlin", "segment-node", "segment-python", "snowplow-python",
    ]  # fmt: skip


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_key_is_found(name: str) -> None:
    source = name.partition("-")[0]
    for it in exchanges(name):
        find_key = route_of(it, KINDS[source]).find_key
        assert find_key is not None
        assert find_key({**it.headers}, it.query, it.body) == (source if source != "ingestd" else "web")


@pytest.mark.parametrize("name", RECORDINGS)
async def test_each_event_is_one_row_with_the_sdk_s_id(name: str) -> None:
    sent = [event_id for it in exchanges(name) for event_id in ids(it)]
    assert [row["event_id"] for row in await rows_of(name)] == sent


@pytest.mark.parametrize("name", [name for name in RECORDINGS if not name.endswith("-browser")])
async def test_the_columns_are_right(name: str) -> None:
    found = await rows_of(name)
    for case in cases_of(name):
        assert [row for row in found if fits(case, row)], case

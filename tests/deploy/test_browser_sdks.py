"""Segment's and RudderStack's SDKs for web pages, in a real browser and from another origin: every event is one row.

Leaves what they sent in .cache/recorded; tests/collect/recorded has a copy.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page

from tests.collect.calls import messages
from tests.deploy.browser_sdks import PACKAGES, use_sdk
from tests.deploy.website import Website
from tests.e2e.collector import Collector
from tests.services.chromium import open_browser
from tests.services.clients import npm_version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

BODY = """\
<button onclick="sdk.track('Order Completed', {order_id: 'o-1', total: 12.5})">Order</button>
<a href="/next" onclick="sdk.track('Left', {n: 1})">Next</a>
"""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as it:
        yield it


@pytest.fixture(params=PACKAGES)
async def website(request: pytest.FixtureRequest, browser: Browser, tmp_path: Path) -> AsyncIterator[Website]:
    it = Website(Collector(tmp_path), browser)
    async with it.running():
        use_sdk(it, request.param)
        it.site.body = BODY
        yield it


async def act(website: Website, page: Page) -> None:
    """What a visitor does: orders, logs in, and goes on to the next page."""
    await page.click("button")
    await page.evaluate("sdk.identify('CLIENT_0042', {name: 'Zoë'})")
    await website.until(lambda: "identify" in kinds(website))
    await page.click("a")
    await page.wait_for_url("**/next")


def kinds(website: Website) -> set[str]:
    """The types of the messages that were sent."""
    return {message["type"] for it in website.recorder.posts() for message in messages(it)}


async def test_every_call_is_one_row(website: Website, request: pytest.FixtureRequest) -> None:
    async with website.visit("/one?utm_campaign=spring") as page:
        await website.until_answered(1)
        await act(website, page)
        await website.until_answered(5)
    rows = await website.rows()
    sdk = request.node.callspec.params["website"]
    website.record(f"{sdk}-browser", PACKAGES[sdk], npm_version(PACKAGES[sdk]))

    assert {row["event_id"] for row in rows} == website.answered() == website.sent()
    assert sorted(row["event_type"] for row in rows) == [
        "Left",
        "Order Completed",
        "identify",
        "web_visit",
        "web_visit",
    ]
    by_type = {row["event_type"]: row for row in reversed(rows)}
    first = by_type["web_visit"]
    assert first["page_url"] == f"{website.site.url}/one?utm_campaign=spring"
    assert first["campaign_id"] == "spring"
    assert first["properties"]["title"] == "one"
    assert "Chrome" in first["properties"]["user_agent"]
    assert by_type["Order Completed"]["properties"]["total"] == 12.5
    assert by_type["Order Completed"]["client_id"] == first["client_id"], "the visitor is not known yet"
    assert by_type["identify"]["client_id"] == by_type["Left"]["client_id"] == "CLIENT_0042"
    assert {it.status for it in website.recorder.exchanges} == {200, 204}


async def test_a_collector_that_dies_loses_nothing_and_retries_make_no_second_id(website: Website) -> None:
    async with website.visit("/one") as page:
        await website.until_answered(1)
        website.collector.kill()
        await page.click("button")
        # The browser asks first whether it may send, which fails.
        await website.until(lambda: any(it.status is None and "/t" in it.path for it in website.recorder.exchanges))
        await website.collector.start_ready()
        await website.until_answered(2)
        await page.evaluate("sdk.track('After', {})")
        await website.until_answered(3)
    rows = await website.rows()
    assert [row["event_type"] for row in rows] == ["web_visit", "Order Completed", "After"]
    assert {row["event_id"] for row in rows} == website.sent()


#: Brings its settings along; the SDK sends what it measures of itself every 100 ms.
OWN_SETTINGS = """
integrations = {"Segment.io": {apiKey: "segment", apiHost: "ADDRESS/v1".replace("http://", ""), protocol: "http"}};
sdk = AnalyticsNext.AnalyticsBrowser.load(
  {writeKey: "segment", cdnSettings: {integrations, metrics: {flushTimer: 100}}}, {integrations})
"""


async def test_what_segments_sdk_measures_of_itself_is_answered_and_makes_no_row(
    browser: Browser, tmp_path: Path
) -> None:
    website = Website(Collector(tmp_path), browser)
    async with website.running():
        use_sdk(website, "segment", OWN_SETTINGS)
        async with website.visit("/one"):
            await website.until(lambda: statuses(website, "/v1/m") and statuses(website, "/v1/p"))
        assert set(statuses(website, "/v1/m")) == {200}
        assert [row["event_type"] for row in await website.rows()] == ["web_visit"]


def statuses(website: Website, path: str) -> list[int]:
    """Of the answers to posts at this path."""
    return [it.status for it in website.recorder.posts() if it.path == path and it.status is not None]

"""Our script for web pages in a real browser: what visitors do becomes rows, by the rules of their consent.

Leaves what it sent in .cache/recorded; tests/collect/recorded has a copy.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from ingestd import __version__
from tests.deploy.website import Website
from tests.e2e.collector import Collector
from tests.services.chromium import open_browser

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SCRIPT = Path(__file__).parents[2] / "ingestd" / "collect" / "ingestd.js"
BODY = """\
<button id=buy data-ingestd="Buy" data-ingestd-fund="bonds">Buy</button>
<a id=next href="/next">Next</a> <span>text</span>
"""
NO_STORAGE = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError') }})"
GPC = "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {get: () => true})"
EMPTY = "!Object.keys(localStorage).some((name) => name.startsWith('ingestd.event'))"
SENDING = "navigator.locks.query().then(({held}) => held.length)"
STORED = "JSON.stringify({...localStorage})"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as it:
        yield it


@pytest.fixture
async def website(browser: Browser, tmp_path: Path) -> AsyncIterator[Website]:
    it = Website(Collector(tmp_path), browser)
    async with it.running():
        it.site.head, it.site.body = snippet(it), BODY
        yield it


def snippet(website: Website, attributes: str = 'data-key="web"') -> str:
    return f'<script async src="{website.recorder.url}/ingestd.js" {attributes}></script>'


async def stored(page: Page) -> dict[str, str]:
    found: dict[str, str] = json.loads(await page.evaluate(STORED))
    return found


def what(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Type and path of each."""
    return [(row["event_type"], "/" + row["page_url"].split("/", 3)[3]) for row in rows]


async def test_page_views_and_clicks_become_rows(website: Website) -> None:
    async with website.visit("/one?utm_campaign=spring#part") as page:
        await website.until_answered(1)
        await page.click("#buy")
        await page.click("span")
        await page.evaluate("history.pushState({}, '', '/two'); history.replaceState({}, '', '/two#again')")
        await page.go_back()
        await website.until_answered(4)
        await page.wait_for_function(EMPTY)
    rows = await website.rows()
    website.record("ingestd-browser", "ingestd.js", __version__)

    assert what(rows) == [
        ("web_visit", "/one?utm_campaign=spring"),
        ("web_click", "/one?utm_campaign=spring"),
        ("web_visit", "/two"),
        ("web_visit", "/one?utm_campaign=spring"),
    ]
    assert [row.get("campaign_id") for row in rows] == ["spring", "spring", None, "spring"]
    assert len({row["client_id"] for row in rows}) == len({row["session_id"] for row in rows}) == 1
    assert rows[0]["event_category"] == "web"
    assert rows[0]["device_type"] == "desktop"
    assert rows[0]["properties"]["title"] == "one"
    click = rows[1]["properties"]
    assert (click["name"], click["fund"], click["element_id"]) == ("Buy", "bonds", "buy")
    assert rows[2]["properties"]["referrer"].endswith("/one?utm_campaign=spring")


async def test_requests_need_no_preflight(website: Website) -> None:
    async with website.visit("/") as page:
        await page.click("#buy")
        await website.until_answered(2)
    assert {it.method for it in website.recorder.exchanges} == {"GET", "POST"}


async def test_what_happens_while_the_page_is_left_arrives(website: Website) -> None:
    website.site.body += "<script>addEventListener('pagehide', () => ingestd.track('left', {n: 1}))</script>"
    async with website.visit("/one") as page:
        await website.until_answered(1)
        await page.click("#next")
        await page.wait_for_url("**/next")
        await website.until_answered(4)
        await page.close(run_before_unload=True)
        await website.until_answered(5)
    rows = await website.rows()
    assert sorted(what(rows)) == [
        ("left", "/next"), ("left", "/one"), ("web_click", "/one"), ("web_visit", "/next"), ("web_visit", "/one"),
    ]  # fmt: skip


async def test_what_waits_for_the_answer_to_another_request_goes_when_the_page_is_closed(website: Website) -> None:
    # Without storage no later page sends it again.
    async with held_answers(website), website.visit("/one", NO_STORAGE) as page:
        await website.until(lambda: len(website.sent()) == 1)
        await page.evaluate("ingestd.track('last')")
        await page.close(run_before_unload=True)
        await website.until(lambda: len(website.sent()) == 2)
    await website.until_answered(2)
    assert {row["event_type"] for row in await website.rows()} == {"web_visit", "last"}


@asynccontextmanager
async def held_answers(website: Website) -> AsyncIterator[None]:
    """The answers to posts come when the context ends."""
    over = asyncio.Event()

    async def wait(_: int) -> None:
        await over.wait()

    website.recorder.before = wait
    try:
        yield
    finally:
        over.set()


async def test_a_request_that_has_begun_outlives_its_page(website: Website) -> None:
    pixel = f"fetch('{website.recorder.url}/i?n=' + n, {{mode: 'no-cors', credentials: 'omit'}})"
    async with website.visit("/one", NO_STORAGE) as page:
        await website.until_answered(1)
        website.collector.freeze()
        try:
            # The browser has six connections to a host: one more request waits inside of it.
            await page.evaluate(f"for (let n = 0; n < 6; n++) void {pixel}")
            await website.until(lambda: [it.path for it in website.recorder.exchanges].count("/i") == 6)
            await page.evaluate("ingestd.track('last')")
            await page.wait_for_function(SENDING)
            assert len(website.sent()) == 1
            await page.close(run_before_unload=True)
            await website.until(lambda: len(website.sent()) == 2)
        finally:
            website.collector.thaw()
        await website.until_answered(2)


async def test_events_outlive_a_dead_collector_and_a_reload_with_their_ids(website: Website) -> None:
    async with website.visit("/one") as page:
        await website.until_answered(1)
        website.collector.kill()
        await page.click("#buy")
        await website.until(lambda: len(website.sent()) == 2)
        website.recorder.files["/ingestd.js"] = SCRIPT  # from a cache
        await page.reload()
        await website.until(lambda: len(website.sent()) == 3)
        assert len([name for name in await stored(page) if name.startswith("ingestd.event")]) == 2
        await website.collector.start_ready()
        await website.until_answered(3)
    rows = await website.rows()
    assert what(rows) == [("web_visit", "/one"), ("web_click", "/one"), ("web_visit", "/one")]
    assert {row["event_id"] for row in rows} == website.sent()


async def test_works_without_storage(website: Website) -> None:
    async with website.visit("/one", NO_STORAGE) as page:
        await page.wait_for_function("window.ingestd")
        await page.click("#buy")
        await website.until_answered(2)
        await page.evaluate("ingestd.track('last')")
        await page.close(run_before_unload=True)
        await website.until_answered(3)
    rows = await website.rows()
    assert [row["event_type"] for row in rows] == ["web_visit", "web_click", "last"]
    assert len({row["client_id"] for row in rows}) == 1


async def test_nothing_is_stored_or_sent_before_consent_that_is_required(website: Website) -> None:
    website.site.head = snippet(website, 'data-key="web" data-consent="required"')
    async with website.visit("/one") as page:
        await page.wait_for_function("window.ingestd")
        await page.click("#buy")
        assert await stored(page) == {}
        assert not await page.context.cookies()
        assert not website.recorder.posts()
        await page.evaluate("ingestd.consent(true)")
        await website.until_answered(2)
        known = await stored(page)
        assert known["ingestd.consent"] == "1"
        await page.goto(website.site.url + "/two")
        await website.until_answered(3)
    rows = await website.rows()
    assert what(rows) == [("web_visit", "/one"), ("web_click", "/one"), ("web_visit", "/two")]
    assert {row["client_id"] for row in rows} == {known["ingestd.client"]}
    assert rows[2]["consent"] is True


async def test_a_refusal_is_remembered_and_removes_what_was_stored(website: Website) -> None:
    async with website.visit("/one") as page:
        await website.until_answered(1)
        await page.evaluate("ingestd.consent(false)")
        assert await stored(page) == {"ingestd.consent": "0"}
        await page.goto(website.site.url + "/two")
        await page.wait_for_function("window.ingestd")
        await page.click("#buy")
        assert await stored(page) == {"ingestd.consent": "0"}
    assert len(website.sent()) == 1


async def test_visitors_are_anonymous_until_they_consent_where_that_is_configured(website: Website) -> None:
    website.site.head = snippet(website, 'data-key="web" data-consent="anonymous"')
    async with website.visit("/one") as page:
        await website.until_answered(1)
        assert await stored(page) == {}
        await page.evaluate("ingestd.consent(true)")
        await page.click("#buy")
        await website.until_answered(2)
    rows = await website.rows()
    assert rows[0]["client_id"] == "anonymous"
    assert "session_id" not in rows[0]
    assert rows[1]["client_id"] != "anonymous"


async def test_a_browser_with_global_privacy_control_sends_no_identifiers_whatever_its_visitor_chose(
    website: Website,
) -> None:
    async with website.visit("/one", GPC) as page:
        await website.until_answered(1)
        assert await stored(page) == {}
        await page.evaluate("ingestd.consent(true)")
        async with held_answers(website):
            await page.click("#buy")
            await website.until(lambda: len(website.sent()) == 2)
            assert await stored(page) == {"ingestd.consent": "1"}
        await website.until_answered(2)
    assert_anonymous(await website.rows())


async def test_the_header_of_global_privacy_control_makes_visitors_anonymous(website: Website) -> None:
    async with website.visit("/one", extra_http_headers={"Sec-GPC": "1"}) as page:
        await website.until_answered(1)
        await page.click("#buy")
        await website.until_answered(2)
    assert_anonymous(await website.rows())


def assert_anonymous(rows: list[dict[str, Any]]) -> None:
    assert {row["client_id"] for row in rows} == {"anonymous"}
    assert not any("session_id" in row for row in rows)


async def test_refused_events_are_dropped(website: Website) -> None:
    website.site.head = snippet(website, 'data-key="wrong"')
    async with website.visit("/one") as page:
        await website.until(lambda: [it.status for it in website.recorder.posts()] == [401])
        await page.wait_for_function(EMPTY)


async def test_events_wait_while_the_collector_answers_503(website: Website) -> None:
    website.recorder.target, website.recorder.status = None, 503
    website.recorder.files["/ingestd.js"] = SCRIPT
    async with website.visit("/one") as page:
        await website.until(lambda: len(website.recorder.posts()) == 2)
        await page.evaluate("for (let n = 0; n < 250; n++) ingestd.track('many', {n})")
        waiting = [name for name in await stored(page) if name.startswith("ingestd.event")]
        assert len(waiting) == 200
        website.recorder.target = website.collector.url
        await website.until_answered(200)
    assert [row["properties"]["n"] for row in await website.rows()] == list(range(50, 250))


async def test_two_tabs_share_the_queue(website: Website) -> None:
    async with website.visit("/one") as page:
        other = await page.context.new_page()
        await other.goto(website.site.url + "/two")
        await website.until_answered(2)
        for tab in (page, other):
            await tab.evaluate("for (let n = 0; n < 20; n++) ingestd.track('many', {n})")
        await website.until_answered(42)
        await page.wait_for_function(EMPTY)
    assert len(await website.rows()) == 42
    assert len(website.sent()) == 42


async def test_works_under_the_documented_content_security_policy(website: Website) -> None:
    origin = website.recorder.url
    website.site.headers["Content-Security-Policy"] = f"default-src 'none'; script-src {origin}; connect-src {origin}"
    async with website.visit("/one"):
        await website.until_answered(1)


async def test_calls_from_before_the_script_are_made_up_for(website: Website) -> None:
    website.site.head = (
        "<script>ingestd = []; ingestd.push(['identify', 'CLIENT_0042'], ['track', 'early', {n: 1}])</script>"
    )
    website.site.head += snippet(website)
    async with website.visit("/one"):
        await website.until_answered(2)
    rows = await website.rows()
    assert {row["event_type"] for row in rows} == {"early", "web_visit"}
    assert {row["client_id"] for row in rows} == {"CLIENT_0042"}

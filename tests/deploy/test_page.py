"""The live page of a running demo in a real browser: numbers move, controls work, and the end is verified.

Leaves screenshots in .cache/screenshots.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from ingestd.ops.readiness import Status
from tests.e2e.daemon import DEADLINE, Daemon
from tests.services.chromium import open_browser
from tests.services.ports import HOST

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / ".cache" / "screenshots"
SCREENS: dict[str, tuple[int, int]] = {"projector": (1920, 1080), "laptop": (1440, 900), "phone": (390, 844)}
QUICK = {
    "source": "simulator",
    "simulator.rate": "1200",
    "simulator.clients": "200",
    "simulator.malformed": "0.01",
    "batch.interval": "1s",
    "sink.retry_initial": "50ms",
    "sink.retry_max": "200ms",
    "warehouse.poll": "200ms",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
expect.set_options(timeout=DEADLINE * 1000)


class Demo(Daemon):
    """`ingestd --demo` on simulated events."""

    def __init__(self, directory: Path, more: Mapping[str, str] | None = None) -> None:
        keys = {
            **QUICK,
            "sink.url": str(directory / "data"),
            "warehouse.path": str(directory / "data" / "warehouse.duckdb"),
            **(more or {}),
        }
        super().__init__("demo", directory, keys, {}, ("-m", "ingestd", "--demo"))

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}/"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    it = Demo(tmp_path)
    yield it
    it.kill()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as it:
        yield it


@asynccontextmanager
async def opened(browser: Browser, url: str, *, outlived: bool = False, **how: Any) -> AsyncIterator[Page]:
    """Opens the page. At the end there must be no console error and no request to another host.

    Where the page outlives the daemon (`outlived`), its last requests may be refused.
    """
    errors: list[str] = []
    page = await browser.new_page(**how)
    page.set_default_timeout(DEADLINE * 1000)
    page.on("console", lambda message: errors.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("requestfailed", lambda request: errors.append(f"{request.url}: {request.failure}"))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith((url, "data:")) else errors.append(request.url))
    await page.goto(url)
    await expect(page.locator("#status")).not_to_have_text("connecting")
    yield page
    await page.close()
    assert not [it for it in errors if not (outlived and "ERR_CONNECTION" in it)]


async def number(page: Page, name: str) -> float:
    """Reads the number in the element with this id; 0 if it shows none yet."""
    text = await page.inner_text(f"#{name}")
    match = re.match(r"[\d,.]+", text)
    return float(match[0].replace(",", "")) if match else 0.0


async def until_above(page: Page, name: str, bound: float) -> None:
    """Waits until the number is more than `bound`."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if await number(page, name) > bound:
                return
            await asyncio.sleep(0.05)


async def until_more(page: Page, *names: str) -> None:
    """Waits until each of these numbers has grown."""
    for name in names:
        await until_above(page, name, await number(page, name))


async def until_is(page: Page, name: str, words: str) -> None:
    await expect(page.locator(f"#{name}")).to_contain_text(words)


async def test_numbers_move_from_the_event_to_the_row(demo: Demo, browser: Browser) -> None:
    await demo.start_ready()
    async with opened(browser, demo.url) as page:
        await until_more(page, "rate", "accepted", "objects", "files", "rows", "total-landed", "guide-answer")
        assert await number(page, "freshness") > 0
        await until_is(page, "types", "web_visit")
        await until_is(page, "guide-sql", "DATEADD(minute, -5, CURRENT_TIMESTAMP())")
        await expect(page.locator("#events li")).to_have_count(10)
        assert await page.locator("#chart path").count() > 0


async def test_a_client_s_features_and_score_follow_its_events(demo: Demo, browser: Browser) -> None:
    await demo.start_ready()
    async with opened(browser, demo.url) as page:
        await expect(page.locator("#client-id")).to_contain_text("CLIENT_")
        await expect(page.locator("#gauge-text")).to_contain_text("%")
        await expect(page.locator("#features tr")).to_have_count(9)
        await page.locator("#events button").first.click()
        await expect(page.locator("#features td.moved").first).to_be_visible()


async def test_an_object_can_be_viewed(demo: Demo, browser: Browser) -> None:
    await demo.start_ready()
    async with opened(browser, demo.url) as page:
        await page.locator("#object-list li:not(.quarantine) button").first.click()
        await expect(page.locator("#object-lines pre").first).to_contain_text("event_id")
        await expect(page.locator("#object-metadata")).to_contain_text("sha256")
        await page.keyboard.press("Escape")
        await expect(page.locator("#object-viewer")).to_be_hidden()


async def test_a_visitor_can_query_the_table_and_not_change_it(demo: Demo, browser: Browser) -> None:
    await demo.start_ready()
    async with opened(browser, demo.url) as page:
        await until_more(page, "rows")
        await page.click("#query-form button")
        await until_is(page, "query-result", "web_visit")
        await page.fill("#sql", "DELETE FROM marketing_events")
        await page.click("#query-form button")
        await until_is(page, "query-error", "the warehouse is read-only")
        await until_more(page, "rows")


async def test_a_pause_stops_the_events_and_buffered_ones_land(demo: Demo, browser: Browser) -> None:
    await demo.start_ready()
    async with opened(browser, demo.url) as page:
        await page.keyboard.press("p")
        await until_is(page, "status", "paused")
        paused = await demo.until(lambda status: not status.totals.in_flight)
        await page.get_by_role("button", name="Resume").click()
        await until_is(page, "status", "running")
        await demo.until(lambda status: status.totals.consumed > paused.totals.consumed)


async def test_a_burst_shows_in_the_rate(demo: Demo, browser: Browser) -> None:
    await demo.start_ready()
    async with opened(browser, demo.url) as page:
        await page.keyboard.press("b")
        await until_above(page, "rate", 60)


async def test_a_bad_batch_and_nothing_else_is_quarantined(demo: Demo, browser: Browser) -> None:
    await demo.start_ready()
    async with opened(browser, demo.url) as page:
        before = (await demo.status()).totals
        await page.keyboard.press("x")
        await demo.until(lambda status: _rejected(status) >= sum(before.rejected_by_reason.values()) + 25)
        await expect(page.locator("#rejects li").first).to_be_visible()
        await expect(page.locator("#object-list .quarantine").first).to_be_visible()
        await demo.until(lambda status: status.totals.quarantined >= before.quarantined + 25)


def _rejected(status: Status) -> int:
    return sum(status.totals.rejected_by_reason.values())


async def test_a_store_outage_loses_nothing(demo: Demo, browser: Browser) -> None:
    await demo.start_ready()
    async with opened(browser, demo.url) as page:
        await until_more(page, "rows")
        await page.keyboard.press("k")
        await until_is(page, "status", "S3 is down")
        await until_is(page, "caption", "nothing is lost")
        cut_off = await demo.until(lambda status: status.sink_error is not None)
        held = await demo.until(lambda status: status.totals.in_flight > cut_off.totals.in_flight + 50)
        assert held.totals.landed == cut_off.totals.landed
        await demo.until(lambda status: status.sink_error is None and status.totals.landed > cut_off.totals.landed)
        await until_is(page, "status", "running")
        await until_more(page, "rows")
    assert await demo.stop() == 0
    assert "verified: " in demo.log_text()


async def test_the_end_is_verified_and_stays_on_the_page(tmp_path: Path, browser: Browser) -> None:
    demo = Demo(tmp_path, {"duration": "8s"})
    try:
        demo.start()
        await demo.until(lambda status: status.assigned)
        async with opened(browser, demo.url, outlived=True) as page:
            await until_is(page, "verification-title", "exactly once")
            await until_is(page, "verification-facts", "rows in the table: all of them, each once")
            assert await demo.ended() == 0
            await until_is(page, "status", "verified")
            await expect(page.locator("#controls")).to_be_hidden()
            assert await number(page, "total-buffered") == 0
    finally:
        demo.kill()


async def test_verification_finds_an_object_that_was_deleted(tmp_path: Path) -> None:
    first = Demo(tmp_path, {"duration": "4s"})
    first.start()
    assert await first.ended() == 0
    landed = sorted((tmp_path / "data" / "events").rglob("*.gz"))
    landed[0].unlink()
    again = Demo(tmp_path, {"duration": "4s"})
    again.start()
    assert await again.ended() == 4
    assert "verification found problems" in again.log_text()
    assert "the table has" in again.log_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
async def test_it_fits_the_screen(demo: Demo, browser: Browser, screen: str, scheme: Any) -> None:
    await demo.start_ready()
    width, height = SCREENS[screen]
    async with opened(
        browser, demo.url, viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    ) as page:
        await until_more(page, "rows", "guide-answer")
        await expect(page.locator("#gauge-text")).to_contain_text("%")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, "nothing is cut off at the side"
        size = await page.evaluate("parseFloat(getComputedStyle(document.getElementById('rows')).fontSize)")
        assert size >= height / 30, "the numbers are readable from the last row of seats"
        PICTURES.mkdir(parents=True, exist_ok=True)
        await page.screenshot(path=PICTURES / f"{screen}-{scheme}.png", full_page=screen == "phone")

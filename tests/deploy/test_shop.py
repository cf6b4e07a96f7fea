"""The demo's shop in a real browser of a phone's size: what its visitor does is seen on the live page and in the table.

Leaves screenshots in .cache/screenshots.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.deploy.test_page import PICTURES, SCREENS, Demo, opened
from tests.services.chromium import open_browser

#: What the clicks of `visit` are, the latest first: a click on a link is one, too.
DONE = ["advisor_call", "web_visit", "email_click", "web_click", "email_open", "web_visit"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as it:
        yield it


async def visit(phone: Page) -> None:
    """Look at savings, read the newsletter, follow its link, and talk to an advisor."""
    await phone.click("#nav-savings")
    await phone.click("#calculate")
    await expect(phone.locator("#toast")).to_contain_text("calculator_used")
    await phone.screenshot(path=PICTURES / "shop-phone.png")
    for name in ("#nav-inbox", "#open-letter", "#letter-link", "#call-advisor"):
        await phone.click(name)
    await expect(phone.locator("h1")).to_have_text("Global fund")


async def test_a_visitor_s_clicks_are_on_the_page_in_the_table_and_in_the_features(
    browser: Browser, tmp_path: Path
) -> None:
    # Reachable from other machines, so that there is a QR code.
    demo = Demo(tmp_path, {"health.host": "0.0.0.0"})
    try:
        await demo.start_ready()
        width, height = SCREENS["phone"]
        screen = {"width": width, "height": height}
        phone = await browser.new_page(viewport=screen, is_mobile=True, has_touch=True)
        errors: list[str] = []
        phone.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        phone.on("pageerror", lambda error: errors.append(str(error)))
        await phone.goto(f"{demo.url}shop")
        await visit(phone)
        size = {"width": 1440, "height": 1300}
        async with opened(browser, demo.url, viewport=size) as page:
            latest = page.locator("#audience-events b")
            await expect(latest).to_have_text(DONE)
            await expect(page.locator("#audience-count")).to_have_text("11 events of 1 visitor")
            await page.locator("#audience-events button").first.click()
            # Loaded, and so in the features of the one who clicked.
            features = page.locator("#features tr")
            await expect(features.filter(has_text="advisor calls").locator("td").nth(1)).to_have_text("1")
            await expect(features.filter(has_text="web visits").locator("td").nth(1)).to_have_text("4")
            await expect(page.locator("#gauge-text")).to_contain_text("%")
            await expect(page.locator("#audience-qr")).to_be_visible()
            assert await page.locator("#audience-qr").evaluate("it => it.complete && it.naturalWidth > 0")
            await page.fill("#sql", "SELECT COUNT(*) FROM marketing_events WHERE source_topic = 'shop'")
            await page.click("#query-form button")
            await expect(page.locator("#query-result td")).to_have_text("11")
            await page.screenshot(path=PICTURES / "page-audience.png", full_page=True)
        await phone.click("#see-yourself")
        await expect(phone.locator("#gauge-text")).to_contain_text("%")
        assert not errors
        await phone.close()
        assert await demo.stop() == 0
    finally:
        demo.kill()
    assert "verified" in demo.log_text()

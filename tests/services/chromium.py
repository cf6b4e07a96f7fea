"""Chromium, headless."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from tests.services.needs import CHROMIUM
from tests.services.process import ServiceError

# No sandbox: root has none to use. It sees no page but ours.
_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]


def find_chromium() -> str:
    """Its program; ServiceError where there is none."""
    if not (found := next((path for name in CHROMIUM if (path := shutil.which(name))), None)):
        raise ServiceError("there is no Chromium: make test-deploy gets it")
    return found


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """A browser, to its end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:  # it would leave caches in the user's
        environment = {**os.environ, "XDG_CACHE_HOME": home, "XDG_CONFIG_HOME": home}
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=find_chromium(), args=_ARGUMENTS, env=environment
            )
            try:
                yield browser
            finally:
                await browser.close()

"""A website, the collector on another origin, and Chromium between them, with a record of all that was sent."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page

from tests.collect.calls import ids
from tests.collect.recorder import Recorder, write_recording
from tests.collect.sdk_cases import answered_ids
from tests.collect.site import Site
from tests.e2e.collector import Collector, KafkaCollector, Row
from tests.e2e.daemon import DEADLINE
from tests.services.environment import CACHE

RECORDED = CACHE / "recorded"


class Website:
    """The site's pages load `head`. `recorder` stands in front of the collector, and has its address."""

    def __init__(self, collector: Collector | KafkaCollector, browser: Browser) -> None:
        self.collector = collector
        self.recorder = Recorder(collector.url)
        self.site = Site()
        self.errors: list[str] = []
        self._browser = browser

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The collector is killed at the end."""
        try:
            await self.collector.start_ready()
            async with self.recorder, self.site:
                yield
        finally:
            self.collector.kill()

    @asynccontextmanager
    async def visit(self, path: str, init: str = "", **how: Any) -> AsyncIterator[Page]:
        """A visitor without history opens a page; `init` runs before every script."""
        context = await self._browser.new_context(**how)
        context.set_default_timeout(DEADLINE * 1000)
        if init:
            await context.add_init_script(init)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if "CSP" in message.text else None)
        await page.goto(self.site.url + path)
        yield page
        await context.close()
        assert not self.errors

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that only requests bring about."""
        try:
            await self.recorder.until(condition)
        except AssertionError as error:
            raise AssertionError(f"{error}; the page's errors: {self.errors}") from None

    async def until_answered(self, count: int) -> None:
        """Wait until so many events were answered 200."""
        await self.until(lambda: len(self.answered()) == count)

    def answered(self) -> set[str]:
        """The ids of the events that were answered 200."""
        return answered_ids(self.recorder)

    def sent(self) -> set[str]:
        """The ids of all events that were sent."""
        return {event_id for it in self.recorder.posts() for event_id in ids(it)}

    def record(self, name: str, package: str, version: str) -> None:
        """Write what was sent."""
        write_recording(RECORDED / f"{name}.json", package, version, self.recorder.exchanges)

    async def rows(self) -> list[Row]:
        """What has landed, of each event the first row. Stops the collector."""
        first: dict[str, Row] = {}
        for row in await self.collector.landed():
            first.setdefault(row["event_id"], row)
        return list(first.values())

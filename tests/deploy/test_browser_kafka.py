"""SDKs for web pages, and our script, in front of Kafka: the collector is killed, its broker, or both."""

import asyncio
from pathlib import Path

import pytest

from tests.collect.sdk_kafka_cases import KILLED, KafkaDeaths
from tests.deploy.browser_sdks import PACKAGES, use_sdk
from tests.deploy.website import Website
from tests.services.chromium import open_browser
from tests.services.kafka import KafkaBroker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

COUNT = 8  # calls, each in a request of its own


@pytest.mark.parametrize("killed", KILLED)
@pytest.mark.parametrize("sdk", ["ingestd", *PACKAGES])
async def test_whatever_is_killed_what_was_answered_200_becomes_a_row_under_one_id(
    sdk: str, killed: str, mortal_broker: KafkaBroker, mortal_topic: str, tmp_path: Path
) -> None:
    deaths = KafkaDeaths(killed, mortal_broker, mortal_topic, tmp_path)
    async with open_browser() as browser:
        website = Website(deaths.collector, browser)
        async with website.running():
            use_sdk(website, sdk)
            deaths.begin(website.recorder)
            async with asyncio.TaskGroup() as both:
                both.create_task(deaths.until_answered(website.recorder, COUNT + 1))
                both.create_task(visit(website))
            await deaths.check(website.recorder, COUNT)
    assert len(website.sent()) == COUNT + 1


async def visit(website: Website) -> None:
    """A visitor sees a page, and does something each time that the last was answered."""
    async with website.visit("/one") as page:
        for number in range(COUNT + 1):
            await website.until_answered(number + 1)
            if number < COUNT:
                await page.evaluate(f"sdk.track('Counted', {{n: {number}}})")

"""Records what real SDKs send into tests/collect/recorded. ``python -m tests.collect.record [NAME ...]``."""

import asyncio
import sys
from pathlib import Path

from tests.collect.calls import CALLS, SNOWPLOW_CALLS
from tests.collect.recorder import Recorder, write_recording
from tests.services.clients import CLIENTS, send_all

RECORDED = Path(__file__).with_name("recorded")
KEY = "tests-key"


async def main() -> None:
    """Records those that are named, or all."""
    for name in sys.argv[1:] or CLIENTS:
        client = CLIENTS[name]
        calls = SNOWPLOW_CALLS if name.startswith("snowplow") else CALLS
        async with Recorder() as recorder:
            await send_all(client, recorder.url, KEY, calls)
        write_recording(RECORDED / f"{name}.json", client.package, client.version, recorder.exchanges)


if __name__ == "__main__":
    asyncio.run(main())

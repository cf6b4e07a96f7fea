"""Records what real SDKs send into tests/collect/recorded. ``python -m tests.collect.record [NAME ...]``."""

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.collect.calls import cases_of
from tests.collect.recorder import Recorder, write_recording
from tests.collect.sdk_cases import send
from tests.e2e.collector import Collector
from tests.services.clients import CLIENTS

RECORDED = Path(__file__).with_name("recorded")


async def main() -> None:
    """Records those that are named, or all."""
    for name in sys.argv[1:] or CLIENTS:
        client = CLIENTS[name]
        with tempfile.TemporaryDirectory() as folder:
            collector = Collector(Path(folder))
            try:
                await collector.start_ready()
                async with Recorder(collector.url) as recorder:
                    await send(name, recorder, [case.call for case in cases_of(name)])
            finally:
                collector.kill()
        write_recording(RECORDED / f"{name}.json", client.package, client.version, recorder.exchanges)


if __name__ == "__main__":
    asyncio.run(main())

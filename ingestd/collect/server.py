"""The collector's HTTP server: connections, routes and limits around the request path."""

import time
from collections.abc import Callable, Mapping, Sequence

from ingestd.collect.keys import Keys
from ingestd.collect.messages import Delivery, Endpoint, Route
from ingestd.collect.observer import Observer
from ingestd.config.model import CollectConfig


class CollectServer:
    """Takes requests and answers them once their events are safe."""

    def __init__(
        self,
        config: CollectConfig,
        endpoints: Mapping[str, Endpoint],
        routes: Sequence[Route],
        delivery: Delivery,
        observer: Observer,
        *,
        keys: Mapping[str, Keys],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`endpoints` and `keys` go by the names in ``config.sources``; sources without a key file are not in `keys`."""

    async def start(self) -> int:
        """Listen. Returns the port, which matters where 0 is configured. ConfigError where it cannot listen."""
        raise NotImplementedError

    async def stop(self, grace: float) -> None:
        """Close the port, and end after the requests in flight, after `grace` seconds at the latest."""
        raise NotImplementedError

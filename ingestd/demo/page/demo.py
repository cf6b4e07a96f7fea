"""Connects the live page to a daemon: wraps its validator and sink, and verifies the run at the end."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

from ingestd.config.model import Config
from ingestd.core.events import make_model
from ingestd.core.formatting import address
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.validation import Validator
from ingestd.demo.page.page_state import PageState
from ingestd.demo.page.queries import PageQueries, Table
from ingestd.demo.page.recent_activity import ObservedSink, ObservedValidator, RecentActivity, SimulatedOutage
from ingestd.demo.page.routes import Page
from ingestd.demo.page.simulator_controls import Simulator, SimulatorControls
from ingestd.demo.page.verification import Verification, Verify, verify_run
from ingestd.demo.shop import TOPIC
from ingestd.ops.readiness import Status
from ingestd.sinks.base import Sink
from ingestd.snowflake.table import columns, record_columns

if TYPE_CHECKING:
    from ingestd.demo.shop.server import ShopServer
    from ingestd.demo.warehouse.local_loader import LoaderState

log = logging.getLogger(__name__)


class Demo:
    """The live page of one run. The daemon uses `validator` and `sink` in place of its own."""

    def __init__(
        self, config: Config, sink: Sink, layout: ObjectKeys, simulator: Simulator | None, validator: Validator
    ) -> None:
        """`simulator` is None where the source cannot be controlled."""
        activity, outage = RecentActivity(TOPIC), SimulatedOutage()
        self._config = config
        self._layout = layout
        self.validator = ObservedValidator(validator, activity)
        self.sink = ObservedSink(sink, layout, activity, outage)
        controls = SimulatorControls(outage, simulator, allowed=config.page.controls)
        self.page_state = PageState(config, activity, controls)
        self._shop: ShopServer | None = None

    @property
    def routes(self) -> list[web.RouteDef]:
        """The HTTP routes of the page, and of the shop if there is one."""
        shop = self._shop.routes if self._shop is not None else []
        return [*Page(self.page_state, self.sink, self._layout).routes, *shop]

    def attach_shop(self, shop: "ShopServer") -> None:
        """Offers the shop: before `routes` are served."""
        self._shop = self.page_state.shop = shop

    def listens_at(self, host: str, port: int) -> None:
        """Says where the routes are served."""
        log.info("live page at http://%s/", address(host, port))
        if self._shop is not None:
            self._shop.listens_at(host, port)
            log.info("shop for the audience at %s", self._shop.url or f"http://{address(host, port)}/shop")

    def attach_table(self, loader: Callable[[], "LoaderState"], table: Table) -> None:
        """Shows a local table: `loader` returns the state of its loader, `table` answers queries."""
        record = record_columns(columns(make_model(), self._config.row_origin))
        self.page_state.attach_table(loader, PageQueries(table, self._config.snowflake.table, record))

    async def run(self) -> None:
        """Updates the page until cancelled. An error here is logged; it does not stop the pipeline."""
        try:
            await self.page_state.run()
        except Exception:
            log.exception("the live page has stopped updating; ingestion continues")

    async def verify(self, verify: Verify, status: Status) -> Verification:
        """Verifies the run after everything has landed, and shows the result on the page."""
        self.page_state.start_verification()
        await self.page_state.refresh_query()
        result = await verify_run(verify, status, self.page_state.queries)
        if result.ok:
            log.info("verified: %s", "; ".join(result.facts))
        else:
            log.error("verification found problems: %s", "; ".join(result.problems))
        self.page_state.finish_verification(result)
        return result

    def end(self, status: Status) -> None:
        """Sends the last state to the viewers, and ends their streams."""
        self.page_state.end(status)

"""The page's place in a daemon: around the validator and the sink, and beside the flow."""

import logging
from collections.abc import Callable

from aiohttp import web

from ingestd.config.model import Config
from ingestd.core.counters import Totals
from ingestd.core.events import load_model
from ingestd.core.object_keys import ObjectKeys
from ingestd.demo.page.page_state import PageState, PipeStatus
from ingestd.demo.page.queries import PageQueries, Table
from ingestd.demo.page.recent_activity import ObservedSink, ObservedValidator, Outage, RecentActivity
from ingestd.demo.page.routes import Page
from ingestd.demo.page.simulator_controls import Controls, SimulatorDirector
from ingestd.demo.page.verification import Proof, Verify, prove
from ingestd.ops.readiness import Status
from ingestd.sinks.base import Sink

log = logging.getLogger(__name__)


class Demo:
    """What the daemon works with where there is a page: `validator` and `sink` in place of its own."""

    def __init__(self, config: Config, sink: Sink, layout: ObjectKeys, director: SimulatorDirector | None) -> None:
        """`director` is that of the source, where it takes directions."""
        tap, outage = RecentActivity(), Outage()
        self._config = config
        self._layout = layout
        self.validator = ObservedValidator(config.events, load_model(config.events.model), tap)
        self.sink = ObservedSink(sink, layout, tap, outage)
        controls = Controls(outage, director, allowed=config.page.controls)
        self.board = PageState(config, tap, controls)

    @property
    def routes(self) -> list[web.RouteDef]:
        """The page's paths and their handlers."""
        return Page(self.board, self.sink, self._layout).routes

    def attach(self, pipe: Callable[[], PipeStatus], table: Table) -> None:
        """There is a local table: how its pipe is, and who answers for it."""
        self.board.attach(pipe, PageQueries(table, self._config.snowflake.table))

    async def run(self) -> None:
        """Beside the flow. What fails here must not stop it."""
        try:
            await self.board.run()
        except Exception:
            log.exception("the page stands still; everything else goes on")

    async def prove(self, verify: Verify, totals: Totals) -> Proof:
        """Verify the run, when everything has landed, and show the outcome."""
        self.board.verify()
        await self.board.ask()
        proof = await prove(verify, totals, self.board.questions)
        if proof.ok:
            log.info("verified: %s", "; ".join(proof.facts))
        else:
            log.error("verification has found problems: %s", "; ".join(proof.problems))
        self.board.prove(proof)
        return proof

    def end(self, status: Status) -> None:
        """Show the last state, and let the viewers go."""
        self.board.end(status)

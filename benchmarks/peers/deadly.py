"""A way to the store on which a system dies at a bad moment: its file is on the way, or there and it does not know."""

from collections.abc import Callable

from aiohttp import web

from benchmarks.peers.running import PROBE_BYTES
from tests.chaos.s3_proxy import Exchange, S3Proxy


class DeadlyProxy(S3Proxy):
    """Passes requests on. Told to, it kills whoever puts the next files."""

    def kills(self, at: int, kill: Callable[[], None], *, applied: bool) -> None:
        """Call `kill` at the file of this number from now on, before or after the store has it; then pass all on."""
        left = at

        async def behave(exchange: Exchange) -> web.Response:
            nonlocal left
            if not _makes_a_file(exchange):
                return await exchange.apply()
            left -= 1
            if left:
                return await exchange.apply()
            self.heal()
            if applied:
                await exchange.apply()
            kill()
            return exchange.cut()

        self._behaviour = behave


def _makes_a_file(exchange: Exchange) -> bool:
    """One PUT, or the end of an upload in parts."""
    if "uploadId" in exchange.request.query:
        return exchange.request.method == "POST"
    return exchange.request.method == "PUT" and len(exchange.body) >= PROBE_BYTES

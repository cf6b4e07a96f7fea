"""What fails at the moment: logged when it begins and when it ends."""

import asyncio
import logging

from ingestd.ops.logs import Outage

log = logging.getLogger(__name__)


class ErrorState:
    """Current errors by the name of the operation. Each of them is retried by its caller, so that nothing is lost."""

    def __init__(self) -> None:
        self._messages: dict[str, str] = {}
        self._outages: dict[str, Outage] = {}
        self.since: float | None = None  # on the loop's clock; None without an error

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def error(self) -> str | None:
        """The error that began last, or None without one."""
        return next(reversed(self._messages.values()), None)

    def begin(self, name: str, message: str, *, level: int = logging.WARNING) -> None:
        """Record a failed try; the first in a row is logged."""
        if self.since is None:
            self.since = _now()
        if self._outages.setdefault(name, Outage()).begin(_now()):
            log.log(level, "%s; nothing is lost, retrying", message)
        self._messages[name] = message

    def end(self, name: str) -> None:
        """Record a try that succeeded."""
        if (outage := self._outages.pop(name, None)) is not None:
            log.info("recovered %s: %s", outage.end(_now()), self._messages.pop(name))
        if not self._messages:
            self.since = None


def _now() -> float:
    return asyncio.get_running_loop().time()

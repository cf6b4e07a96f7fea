"""What fails at the moment: logged when it begins and when it ends."""

import asyncio
import logging

from ingestd.ops.logs import Outage

log = logging.getLogger(__name__)


class ErrorState:
    """Current errors by the name of the operation. Each of them is retried by its caller, so that nothing is lost."""

    def __init__(self) -> None:
        self._messages: dict[str, tuple[int, str]] = {}  # the level, and what is logged
        self._outages: dict[str, Outage] = {}
        self.since: float | None = None  # on the loop's clock; None without an error

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def error(self) -> str | None:
        """The most severe error, of several the one that began last; None without one."""
        worst = max(reversed(self._messages.values()), key=lambda it: it[0], default=None)
        return worst[1] if worst is not None else None

    def begin(self, name: str, message: str, *, level: int = logging.WARNING, since: float | None = None) -> None:
        """Record a failed try; the first in a row is logged. `since` is when it began, if that was before now."""
        began = _now() if since is None else since
        self.since = began if self.since is None else min(self.since, began)
        if self._outages.setdefault(name, Outage()).begin(_now()):
            log.log(level, "%s; nothing is lost, retrying", message)
        self._messages[name] = level, message

    def end(self, name: str) -> None:
        """Record a try that succeeded."""
        if (outage := self._outages.pop(name, None)) is not None:
            log.info("recovered %s: %s", outage.end(_now()), self._messages.pop(name)[1])
        if not self._messages:
            self.since = None


def _now() -> float:
    return asyncio.get_running_loop().time()

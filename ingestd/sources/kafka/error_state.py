"""What is wrong at the moment, said once when it begins and once when it ends."""

import asyncio
import logging

from ingestd.ops.logs import Outage

log = logging.getLogger(__name__)


class ErrorState:
    """Troubles by name; the names are a fixed few. None of them loses anything: whoever reports one tries again."""

    def __init__(self) -> None:
        self._messages: dict[str, str] = {}
        self._flaps: dict[str, Outage] = {}

    def __bool__(self) -> bool:
        return bool(self._messages)

    @property
    def error(self) -> str | None:
        """The trouble that began last, or None while all is well."""
        return next(reversed(self._messages.values()), None)

    def begin(self, name: str, message: str, *, level: int = logging.WARNING) -> None:
        """Count a try that failed; the first is logged."""
        if self._flaps.setdefault(name, Outage()).begin(_now()):
            log.log(level, "%s; nothing is lost, trying again", message)
        self._messages[name] = message

    def end(self, name: str) -> None:
        """A try went well."""
        if (flap := self._flaps.pop(name, None)) is not None:
            log.info("over %s: %s", flap.end(_now()), self._messages.pop(name))


def _now() -> float:
    return asyncio.get_running_loop().time()
